"""Removes files that no version within the retention refers to.

What is kept: files of the newest version with their deletion vectors, files that were removed from
it within the retention, whatever is younger than that (a commit may be about to name it), and what
is hidden by its name. A full vacuum lists the directory; a lite one takes the removed files from
the log alone, and misses what never came into it. Only data files, deletion vectors and what our
own processes left unfinished are ever removed: whatever else lies beside a table is its owner's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa

from catalog.delta.actions import parse_commit
from catalog.delta.deletion_vectors import INLINE, DeletionVector
from catalog.delta.file_columns import FileColumns
from catalog.delta.head import CommitTarget
from catalog.delta.intervals import interval_seconds
from catalog.delta.log import LOG_DIRECTORY, LogSegment, commit_version
from catalog.delta.replay import read_files
from catalog.delta.state import TableState
from catalog.delta.tombstones import Tombstone, tombstones, tombstones_of
from catalog.errors import UnsupportedTableError
from catalog.location import Location
from catalog.sweeping import BATCH, Names, Tally, batches, latest_ms
from catalog.upkeep import UpkeepOrder, UpkeepResult, refuse_counting

RETENTION = "delta.deletedFileRetentionDuration"
WEEK_SECONDS = 7 * 24 * 3600.0
_CHANGES = "_change_data"
_OURS = re.compile(r".+\.parquet|deletion_vector_[0-9a-f-]{36}\.bin")
# What processes that died while they wrote a version, a vector or a checkpoint leave behind.
_UNFINISHED = re.compile(
    r"\.(?:\d{20}\..+|deletion_vector_.+\.bin|_last_checkpoint)\.[0-9a-f]{16}\.(?:part|tmp)"
)


@dataclass(frozen=True, slots=True)
class Vacuum:
    """Removes what a table no longer needs.

    Attributes:
        target: the table.
        is_lite: whether the log alone is asked for removed files.
    """

    target: CommitTarget
    is_lite: bool = False

    @property
    def name(self) -> str:
        """`vacuum` or `vacuum-lite`."""
        return "vacuum-lite" if self.is_lite else "vacuum"

    @property
    def is_usual(self) -> bool:
        """The full one: it finds all that the other does."""
        return not self.is_lite

    def check(self, order: UpkeepOrder) -> None:
        """Refuse to keep files for less than the table says, unless that is insisted on."""
        refuse_counting(order)
        _retention_seconds(self.target.current()[1], order)

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Remove the files.

        Raises:
            UnsupportedTableError: they are to be kept for less than the table says.
            CatalogError: the table cannot be read, or its storage refuses.
        """
        # What is written from here on stays: versions that follow the one that is read may name it.
        started = time.time()
        segment, state = self.target.load()
        seconds = _retention_seconds(state, order)
        cutoff_ms = int((started - seconds) * 1000)
        kept = self._kept(segment, cutoff_ms)
        found = self._removed(segment, cutoff_ms) if self.is_lite else self._listed(cutoff_ms)
        candidates = _unknown_to(kept, found)
        tally = Tally(self.name)
        for batch in batches(candidates):
            tally.add(batch)
            if not order.is_dry_run:
                root = self.target.paths.root
                self.target.storage.delete([root.child(path) for path, _ in batch])
        return tally.result(f"kept for {seconds / 3600:g} hours")

    def _kept(self, segment: LogSegment, cutoff_ms: int) -> Names:
        """Return the names that a version within the retention refers to."""
        storage, paths = self.target.storage, self.target.paths
        files = read_files(storage, segment, FileColumns(paths, ()), map)
        recent = (one for one in tombstones(storage, segment) if one.deleted_ms >= cutoff_ms)
        removed = (path for path, _ in self._named_by(recent))
        return Names.of(map(self._relative, chain(self._named(files), removed)))

    def _named(self, files: pa.Table) -> Iterator[str]:
        for batch in files.select(["path", "vector"]).to_batches(max_chunksize=BATCH):
            yield from batch.column("path").to_pylist()
            for vector in batch.column("vector").drop_null().to_pylist():
                yield from self._vector_file(DeletionVector.of_id(vector))

    def _named_by(self, some: Iterable[Tombstone]) -> Iterator[tuple[str, int]]:
        """Yield the files that removals name, and their sizes as far as they are told."""
        for batch in batches(some):
            paths = self.target.paths.resolve_all(one.path for one in batch)
            yield from zip(paths, (one.size_bytes for one in batch), strict=True)
            vectors = (one.vector for one in batch if one.vector is not None)
            yield from ((path, 0) for vector in vectors for path in self._vector_file(vector))

    def _vector_file(self, vector: DeletionVector) -> Iterator[str]:
        paths = self.target.paths
        if vector.storage_type != INLINE:
            yield str(vector.location(paths.root, paths.confinement))

    def _relative(self, path: str) -> str:
        """Return a path below the table; files of other tables are never listed, nor removed."""
        location, root = Location.parse(path), self.target.paths.root
        return location.relative_to(root) if location.is_within(root) else path

    def _listed(self, cutoff_ms: int) -> Iterator[tuple[str, int]]:
        root, known = self.target.paths.root, dict[str, bool]()
        for info in self.target.storage.list(root):
            path = info.location.relative_to(root)
            is_old = latest_ms(info.modified_at) < cutoff_ms
            if is_old and is_removable(path) and not self._is_of_another_table(path, known):
                yield path, info.size_bytes

    def _is_of_another_table(self, path: str, known: dict[str, bool]) -> bool:
        """Whether a directory on the way to a file has a log of its own.

        Args:
            path: of the file, below the table.
            known: what was found out before, by directory.
        """
        directory = ""
        for segment in path.split("/")[:-1]:
            directory = f"{directory}/{segment}" if directory else segment
            if "=" in segment or segment in (_CHANGES, LOG_DIRECTORY):
                continue
            if directory not in known:
                log = self.target.paths.root.child(directory, LOG_DIRECTORY)
                known[directory] = next(self.target.storage.list(log), None) is not None
            if known[directory]:
                return True
        return False

    def _removed(self, segment: LogSegment, cutoff_ms: int) -> Iterator[tuple[str, int]]:
        """Yield what the log says was removed before the retention, each once."""
        seen: set[int] = set()
        every = chain(tombstones(self.target.storage, segment), self._older(segment))
        for path, size_bytes in self._named_by(one for one in every if one.deleted_ms < cutoff_ms):
            name = self._relative(path)
            if hash(name) not in seen and is_removable(name):
                seen.add(hash(name))
                yield name, size_bytes

    def _older(self, segment: LogSegment) -> Iterator[Tombstone]:
        """Yield what commits before the checkpoint removed: it has forgotten the oldest."""
        first = segment.checkpoint.version if segment.checkpoint else -1
        for info in self.target.storage.list(self.target.paths.root.child(LOG_DIRECTORY)):
            version = commit_version(info.location.name)
            if version is not None and version <= first:
                data = self.target.storage.read(info.location)
                yield from tombstones_of(parse_commit(data, name=info.location.name))


def is_removable(path: str) -> bool:
    """Whether a file, by its path below the table, is one that vacuums are about."""
    *directories, name = path.split("/")
    if directories in ([], [LOG_DIRECTORY]) and _UNFINISHED.fullmatch(name):
        return True
    if path.startswith("/") or "://" in path or not _OURS.fullmatch(name):
        return False
    return not any(_is_hidden(one) for one in directories) and not name.startswith((".", "_"))


def _is_hidden(directory: str) -> bool:
    """Whether a directory is none of data: partitions by a column `_x` are called `_x=1`."""
    is_partition = "=" in directory
    return directory.startswith((".", "_")) and directory != _CHANGES and not is_partition


def _retention_seconds(state: TableState, order: UpkeepOrder) -> float:
    least = interval_seconds(state.metadata.configuration, RETENTION, WEEK_SECONDS)
    wanted = order.retention_seconds
    if wanted is None:
        return least
    if wanted < least and not order.is_forced:
        raise UnsupportedTableError(
            f"files are to be kept for {wanted / 3600:g} hours, the table says {least / 3600:g}",
            hint=f"change {RETENTION}, or insist with --force if no reader or writer is so slow",
        )
    return float(wanted)


def _unknown_to(kept: Names, found: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    for batch in batches(found):
        is_kept = kept.holds([path for path, _ in batch])
        yield from (one for one, keep in zip(batch, is_kept, strict=True) if not keep)
