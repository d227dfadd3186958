"""Changes out of a prefix of Parquet files, each of which is merged once.

The *watermark* is the name, below the prefix, of the last file that was merged. What comes later
in the order of names is new. So whoever writes the changes must give files names that grow, as
names that begin with a time or a number of fixed width do; a file that appears below the watermark
is never seen. Files that begin with `.` or `_`, at any depth, are not data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from catalog.location import Location
from catalog.storage import Storage
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import Source
from compactor.rewrite.input import open_parquet

_SUFFIX = ".parquet"


@dataclass(frozen=True, slots=True)
class ChangeFile:
    """A file of changes.

    Attributes:
        name: below the prefix: what watermarks are made of.
        location: where it is.
        size_bytes: its length.
    """

    name: str
    location: Location
    size_bytes: int


def new_files(storage: Storage, prefix: Location, watermark: str | None) -> list[ChangeFile]:
    """Return the files of changes after a watermark, in the order of their names.

    Args:
        storage: where they are.
        prefix: what they are below.
        watermark: name of the last one that was merged; None when none was.

    Raises:
        ChangesRefusedError: a file is no Parquet file by its name: its changes would be lost.
        AccessDeniedError, StorageError: they cannot be listed.
    """
    found = [
        ChangeFile(one.location.relative_to(prefix), one.location, one.size_bytes)
        for one in storage.list(prefix)
    ]
    data = [one for one in found if not any(part[:1] in "._" for part in one.name.split("/"))]
    new = sorted(
        (one for one in data if watermark is None or one.name > watermark),
        key=lambda one: one.name,
    )
    strange = [one.name for one in new if not one.name.endswith(_SUFFIX)]
    if strange:
        raise ChangesRefusedError(
            f"{prefix} has {strange[0]!r} among the changes, which is no {_SUFFIX} file",
            hint="Only Parquet files are read; names that begin with . or _ are passed over.",
        )
    return new


def read_sources(storage: Storage, files: Sequence[ChangeFile], *, stream: int) -> Iterator[Source]:
    """Yield the changes of some files, one by one.

    Args:
        storage: where they are.
        files: in their order.
        stream: the stream position that they share.

    Raises:
        CorruptTableError: one is no Parquet file.
        ObjectNotFoundError, AccessDeniedError, StorageError: one cannot be read.
    """
    for number, file in enumerate(files):
        yield Source(_rows(storage, file), str(file.location), stream, number)


def _rows(storage: Storage, file: ChangeFile) -> pa.Table:
    name = str(file.location)
    with open_parquet(storage, file.location, name=name, size_bytes=file.size_bytes) as source:
        columns = source.file.schema_arrow.names
        groups = range(source.metadata.num_row_groups)
        batches = [batch for group in groups for batch in source.batches(group, columns)]
        schema = source.file.schema_arrow
    return pa.Table.from_batches(batches, schema=schema)
