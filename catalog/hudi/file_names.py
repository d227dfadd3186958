"""What names of base files and logs say: file group, instant, and who wrote them.  Pure.

A base file is `<file id>_<write token>_<instant>.parquet`, a log
`.<file id>_<instant>.log.<number>_<write token>`. A write token is three numbers: task, stage and
attempt, which are free for whoever writes, as long as no two writers take the same.
"""

from __future__ import annotations

import re
import uuid
import zlib
from dataclasses import dataclass

from catalog.errors import CorruptTableError

_BASE = re.compile(r"(?P<file_id>[^_/]+)_(?P<token>[^_/]+)_(?P<instant>\d+)\.\w+")
_LOG = re.compile(r"\.(?P<file_id>[^_/]+)_(?P<instant>\d*)\.log\.\d+(_(?P<token>[^_/]+))?")
# File ids of tables with an index by buckets begin with the number of the bucket.
_BUCKET_ID = re.compile(r"\d{8}-[0-9a-f]{4}-")
# Nobody has so many buckets that the first digits count: what looks so is the name of one.
_LOW_BUCKET_ID = re.compile(r"000\d{5}-[0-9a-f]{4}-")
# Where an index by consistent hashing keeps which file group has which keys, below `.hoodie`.
HASHING = ".bucket_index"
# Namespace of file ids that follow from the name of an attempt.
_ATTEMPTS = uuid.UUID("4f0d3a5e-6f0b-5e0e-9a53-0f3b8a3a9d61")


@dataclass(frozen=True, slots=True)
class NamedFile:
    """What the name of a file says.

    Attributes:
        name: the name.
        file_id: its file group.
        instant: the write of a base file; of a log, the write or the slice that it goes with.
        is_log: whether it is a log.
    """

    name: str
    file_id: str
    instant: str
    is_log: bool


@dataclass(frozen=True, slots=True)
class AttemptName:
    """The name that an output has while nothing is said of its format.

    Attributes:
        job_id: the job.
        group_id: the group in its plan.
        attempt: its number.
        index: the number of the output.
    """

    job_id: str
    group_id: str
    attempt: int
    index: int

    @staticmethod
    def parse(name: str) -> AttemptName:
        """Read `<job>-<group>-<attempt>-<index>.parquet`."""
        job_id, group_id, attempt, index = name.removesuffix(".parquet").rsplit("-", 3)
        return AttemptName(job_id, group_id, int(attempt), int(index))

    @property
    def token(self) -> str:
        """The write token; that of another attempt at the same file is another one."""
        task = int(self.group_id) if self.group_id.isdigit() else _number(self.group_id)
        return f"{task}-{_number(self.job_id)}-{self.attempt}"

    @property
    def file_id(self) -> str:
        """A file group that no other attempt makes."""
        group = uuid.uuid5(_ATTEMPTS, f"{self.job_id}/{self.group_id}/{self.attempt}")
        return f"{group}-{self.index}"

    def base_name(self, instant: str, file_id: str | None = None) -> str:
        """Return the name of the base file, in a given file group or one of its own."""
        return f"{file_id or self.file_id}_{self.token}_{instant}.parquet"


def read_name(path: str) -> NamedFile:
    """Read the name of a base file or log, given its path.

    Raises:
        CorruptTableError: it is neither.
    """
    name = path.rpartition("/")[2]
    is_log = name.startswith(".")
    found = (_LOG if is_log else _BASE).fullmatch(name)
    if found is None:
        raise CorruptTableError(f"{path} is not named as files of the table are")
    return NamedFile(name, found["file_id"], found["instant"], is_log)


def job_of(path: str) -> str:
    """Return the part of a base file's write token that is that of its job, if it is ours."""
    token = path.rpartition("/")[2].split("_")[1:2]
    return "".join("".join(token).split("-")[1:2])


def is_bucket(file_id: str) -> bool:
    """Tell whether a file id may be that of a bucket."""
    return _BUCKET_ID.match(file_id) is not None


def is_low_bucket(file_id: str) -> bool:
    """Tell whether a file id is that of a bucket; one in 50,000 others seems to be."""
    return _LOW_BUCKET_ID.match(file_id) is not None


def _number(text: str) -> int:
    """Return a number for a text that fits the 31 bits of a Java integer."""
    return zlib.crc32(text.encode()) & 0x7FFFFFFF
