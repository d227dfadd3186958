"""The log of a Delta table: which of its files add up to one version.

A version is the newest complete checkpoint that is not newer, and the commits after it. Everything
is told from one listing: `_last_checkpoint` is a hint that other writers leave behind stale, and
nothing that is listed needs a hint.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#delta-log-entries
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from catalog.errors import CorruptTableError, SnapshotNotFoundError, TableNotFoundError
from catalog.location import Location
from catalog.storage import Storage

LOG_DIRECTORY = "_delta_log"
SIDECARS_DIRECTORY = "_sidecars"

_COMMIT = re.compile(r"(\d{20})\.json", re.ASCII)
_COMPACTED = re.compile(r"(\d{20})\.(\d{20})\.compacted\.json", re.ASCII)
_CHECKPOINT = re.compile(
    r"(\d{20})\.checkpoint"
    r"(?:\.(?P<part>\d{10})\.(?P<parts>\d{10})\.parquet|\.parquet|\.[0-9A-Za-z-]+\.(?:parquet|json))",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file right below `_delta_log`.

    Attributes:
        name: without directories.
        size_bytes: its length.
        modified_ms: when it was written, in milliseconds since the epoch, by the store's clock.
    """

    name: str
    size_bytes: int
    modified_ms: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint: one file, or all parts of it in their order."""

    version: int
    parts: tuple[LogFile, ...]


@dataclass(frozen=True, slots=True)
class CommitFile:
    """The actions of the versions `first` to `last`: one commit, or several compacted to one."""

    first: int
    last: int
    file: LogFile


@dataclass(frozen=True, slots=True)
class LogSegment:
    """What one version of a table is made of.

    Attributes:
        log: the directory of the log.
        version: the version.
        checkpoint: where to begin; None for the very first commit.
        commits: what comes after it, ascending and without gaps, compacted where possible.
        head: the commit of the version itself; None when it was cleaned after its checkpoint.
    """

    log: Location
    version: int
    checkpoint: Checkpoint | None
    commits: tuple[CommitFile, ...]
    head: LogFile | None

    @property
    def written_ms(self) -> int:
        """When the version was committed by the clock of the store, or else checkpointed."""
        if self.head is not None:
            return self.head.modified_ms
        return min(part.modified_ms for part in self.checkpoint.parts) if self.checkpoint else 0

    def locate(self, file: LogFile) -> Location:
        """Return where a file of the log is."""
        return self.log.child(file.name)


def commit_name(version: int) -> str:
    """Return the name of the file that commits a version."""
    return f"{version:020}.json"


def compacted_name(first: int, last: int) -> str:
    """Return the name of the file that holds several versions compacted to one."""
    return f"{first:020}.{last:020}.compacted.json"


def checkpoint_name(version: int) -> str:
    """Return the name of a checkpoint in one file."""
    return f"{version:020}.checkpoint.parquet"


def commit_version(name: str) -> int | None:
    """Return the version that a file of the log commits; None when it is no commit."""
    found = _COMMIT.fullmatch(name)
    return int(found[1]) if found else None


def list_segment(
    storage: Storage,
    root: Location,
    version: int | None = None,
    *,
    without: Collection[str] = (),
) -> LogSegment:
    """List the log and return what a version is made of, the newest one by default.

    Args:
        storage: where the log is.
        root: directory of the table.
        version: the version.
        without: names of files that are left aside.

    Raises:
        TableNotFoundError: there is no log.
        SnapshotNotFoundError: no such version, or it has been cleaned from the log.
        CorruptTableError: commits are missing between others, or parts of a checkpoint are.
    """
    log = root.child(LOG_DIRECTORY)
    files = (file for file in list_log(storage, log) if file.name not in without)
    return select_segment(log, files, version)


def select_segment(
    log: Location, files: Iterable[LogFile], version: int | None = None
) -> LogSegment:
    """Choose from the files of a log what a version is made of; raises as `list_segment`."""
    listing = _Listing.of(files)
    head = listing.head
    if head is None:
        raise TableNotFoundError(f"no commits in {log}", hint="it is not, or no longer, a table")
    wanted = head if version is None else version
    if not 0 <= wanted <= head:
        raise SnapshotNotFoundError(f"there is no version {wanted}", hint=f"the newest is {head}")
    checkpoint = listing.checkpoint_for(wanted)
    first = 0 if checkpoint is None else checkpoint.version + 1
    missing = next((one for one in range(first, wanted + 1) if one not in listing.commits), None)
    if missing is not None:
        raise listing.incomplete(wanted, missing, is_head=version is None)
    return LogSegment(
        log=log,
        version=wanted,
        checkpoint=checkpoint,
        commits=tuple(listing.path(first, wanted)),
        head=listing.commits.get(wanted),
    )


@dataclass(frozen=True, slots=True)
class _Listing:
    """The files of a log by what they are; anything else in the directory is left aside."""

    commits: Mapping[int, LogFile]
    compacted: Mapping[int, Sequence[CommitFile]]
    checkpoints: Sequence[Checkpoint]
    partial: Mapping[int, str]

    @classmethod
    def of(cls, files: Iterable[LogFile]) -> _Listing:
        commits: dict[int, LogFile] = {}
        compacted: dict[int, list[CommitFile]] = {}
        pieces: dict[tuple[int, str], list[LogFile]] = {}
        for file in files:
            if found := _COMMIT.fullmatch(file.name):
                commits[int(found[1])] = file
            elif file.size_bytes and (found := _COMPACTED.fullmatch(file.name)):
                one = CommitFile(int(found[1]), int(found[2]), file)
                compacted.setdefault(one.first, []).append(one)
            elif found := _CHECKPOINT.fullmatch(file.name):
                # Parts belong together when they are meant to be equally many.
                pieces.setdefault((int(found[1]), found["parts"] or file.name), []).append(file)
        complete = [
            Checkpoint(key[0], tuple(sorted(parts, key=lambda part: part.name)))
            for key, parts in sorted(pieces.items())
            if _is_complete(parts)
        ]
        partial = {
            key[0]: f"{len(parts)} of {int(key[1])} parts"
            for key, parts in pieces.items()
            if not _is_complete(parts)
        }
        return cls(commits, compacted, complete, partial)

    @property
    def head(self) -> int | None:
        """The newest version that can be seen."""
        versions = [*self.commits, *(one.version for one in self.checkpoints)]
        return max(versions, default=None)

    def checkpoint_for(self, version: int) -> Checkpoint | None:
        """Return the newest complete checkpoint up to a version; of several, a single file."""
        usable = [one for one in self.checkpoints if one.version <= version]
        return max(usable, key=lambda one: (one.version, -len(one.parts)), default=None)

    def path(self, first: int, last: int) -> Iterator[CommitFile]:
        """Yield the fewest files that hold the versions from `first` to `last`."""
        while first <= last:
            candidates = [one for one in self.compacted.get(first, ()) if first < one.last <= last]
            single = CommitFile(first, first, self.commits[first])
            chosen = max(candidates, key=lambda one: one.last, default=single)
            yield chosen
            first = chosen.last + 1

    def incomplete(self, wanted: int, missing: int, *, is_head: bool) -> Exception:
        """Return the error for a commit that is needed and not there."""
        oldest = self._oldest_readable()
        if not is_head and oldest is not None and wanted < oldest:
            return SnapshotNotFoundError(
                f"version {wanted} can no longer be read", hint=f"the oldest that can is {oldest}"
            )
        partial = "".join(
            f"; checkpoint {version} has only {parts}"
            for version, parts in sorted(self.partial.items())
            if version <= wanted
        )
        return CorruptTableError(
            f"the log lacks the commit of version {missing}, needed for version {wanted}{partial}",
            hint="restore the missing file of _delta_log from a backup or an older version",
        )

    def _oldest_readable(self) -> int | None:
        """Return the first version that stands complete before the first gap after it."""
        starts = sorted({one.version for one in self.checkpoints} | ({0} & self.commits.keys()))
        return starts[0] if starts else None


def _is_complete(parts: Sequence[LogFile]) -> bool:
    """Tell whether parts of one checkpoint are all there, each once."""
    found = _CHECKPOINT.fullmatch(parts[0].name)
    if found is None or found["parts"] is None:
        return True
    if len(parts) != int(found["parts"]):
        return False
    names = (_CHECKPOINT.fullmatch(part.name) for part in parts)
    numbers = sorted(int(name["part"]) for name in names if name is not None)
    return numbers == list(range(1, int(found["parts"]) + 1))


def list_log(storage: Storage, log: Location) -> Iterator[LogFile]:
    """Yield the files right below the directory of a log."""
    depth = len(log.segments) + 1
    for info in storage.list(log):
        if len(info.location.segments) == depth:
            modified_ms = int(info.modified_at.timestamp() * 1000)
            yield LogFile(info.location.name, info.size_bytes, modified_ms)
