"""Which data files the delete files beside a rewrite apply to, and which of them may leave with it.

A delete file that covers a whole partition is opened where its path bounds leave a doubt: the
answer decides whether rows come back, so it is never guessed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.conflicts import LiveFile
from catalog.errors import CorruptTableError
from catalog.iceberg.data_file import DataFile
from catalog.iceberg.delete_writing import FILE_PATH_ID
from catalog.iceberg.head import Head, LiveEntry, partition_text
from catalog.location import Confinement
from catalog.storage import Storage

_FILE_PATH = "file_path"


@dataclass(frozen=True, slots=True)
class DeleteTargets:
    """Tells which data files a position delete file names; each is opened at most once."""

    storage: Storage
    confinement: Confinement
    _known: dict[str, frozenset[str]] = field(default_factory=dict)

    def of(self, delete_file: DataFile) -> frozenset[str]:
        """Return the paths of the data files that it drops rows of.

        Raises:
            CorruptTableError: it cannot be read.
        """
        name = delete_file.name
        if name not in self._known:
            single = single_target(delete_file)
            known = self._read(delete_file.file_path) if single is None else frozenset((single,))
            self._known[name] = known
        return self._known[name]

    def _read(self, path: str) -> frozenset[str]:
        with self.storage.open_input(self.confinement.parse(path)) as source:
            try:
                table = pq.read_table(source, columns=[_FILE_PATH], read_dictionary=[_FILE_PATH])
                return frozenset(pc.unique(table[_FILE_PATH].cast(pa.string())).to_pylist())
            except (pa.ArrowException, KeyError) as error:
                raise CorruptTableError(f"cannot read the delete file {path}: {error}") from error


def single_target(delete_file: DataFile) -> str | None:
    """Return the one data file that it, or its bounds, name; None for more than one."""
    if delete_file.referenced_data_file is not None:
        return delete_file.referenced_data_file
    lower, upper = _bounds(delete_file)
    return lower.decode() if lower is not None and lower == upper else None


def _bounds(delete_file: DataFile) -> tuple[bytes | None, bytes | None]:
    return (
        (delete_file.lower_bounds or {}).get(FILE_PATH_ID),
        (delete_file.upper_bounds or {}).get(FILE_PATH_ID),
    )


class _Paths:
    """Data files in the order of their paths, as bounds compare them."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._encoded = sorted(path.encode() for path in paths)

    def allowed_by(self, delete_file: DataFile) -> list[str]:
        """Return the paths that the bounds of a delete file leave possible."""
        lower, upper = _bounds(delete_file)
        first = 0 if lower is None else bisect_left(self._encoded, lower)
        end = len(self._encoded) if upper is None else bisect_right(self._encoded, upper)
        return [path.decode() for path in self._encoded[first:end]]


def live_files(
    head: Head,
    planned: Mapping[str, frozenset[str]],
    *,
    targets: DeleteTargets,
    base_sequence_number: int,
) -> dict[str, LiveFile]:
    """Return the files to be replaced as they are in the head, each with the deletes on it.

    An equality delete that came after the base is left out: it applies to the outputs as well,
    which carry the sequence number of the base.

    Args:
        head: the state that the commit meets.
        planned: the delete files that were planned with, by data file.
        targets: what delete files name.
        base_sequence_number: that of the snapshot the plan was made from.
    """
    applied: dict[str, set[str]] = {path: set() for path in head.files}
    by_partition = _by_partition(head.files.values())
    for delete in head.deletes:
        delete_path = delete.file.name
        if delete.is_equality:
            for path in _hit_by_equality(delete, head, planned, base_sequence_number):
                applied[path].add(delete_path)
            continue
        for path in _candidates(delete.file, head, by_partition):
            if delete.sequence_number < head.files[path].sequence_number:
                continue
            # What was planned with is known to be harmless; what is new has to be looked into.
            if delete_path in planned.get(path, ()) or path in targets.of(delete.file):
                applied[path].add(delete_path)
    return {path: _live_file(one, applied[path]) for path, one in head.files.items()}


def _candidates(
    delete_file: DataFile, head: Head, by_partition: Mapping[str, _Paths]
) -> Sequence[str]:
    """Return the data files that a delete file may name, by its bounds or by its partition."""
    single = single_target(delete_file)
    if single is not None:
        return [single] if single in head.files else []
    neighbours = by_partition.get(partition_text(delete_file))
    return neighbours.allowed_by(delete_file) if neighbours else []


def _live_file(one: LiveEntry, delete_paths: set[str]) -> LiveFile:
    return LiveFile(
        size_bytes=one.file.file_size_in_bytes,
        row_count=one.file.record_count,
        sequence_number=one.sequence_number,
        delete_paths=frozenset(delete_paths),
        first_row_id=one.entry.first_row_id,
    )


def _by_partition(files: Iterable[LiveEntry]) -> dict[str, _Paths]:
    paths: dict[str, list[str]] = {}
    for one in files:
        paths.setdefault(partition_text(one.file), []).append(one.file.file_path)
    return {partition: _Paths(some) for partition, some in paths.items()}


def _hit_by_equality(
    delete: LiveEntry,
    head: Head,
    planned: Mapping[str, frozenset[str]],
    base_sequence_number: int,
) -> Iterator[str]:
    """Yield the data files of the commit that a delete hits and their outputs would not be hit by.

    One that the base had hits what it was planned with, bounds having ruled out the rest. One that
    came later under a number of before, as when deletes are rewritten, is not looked into: it hits
    whatever lies in its scope.
    """
    if delete.sequence_number > base_sequence_number:
        return
    came_later = (delete.entry.file_sequence_number or 0) > base_sequence_number
    scope = head.scope(delete)
    for path, one in head.files.items():
        if delete.file.name in planned.get(path, ()) or (
            came_later
            and one.sequence_number < delete.sequence_number
            and scope.holds(partition_text(one.file))
        ):
            yield path


def _may_leave(
    delete_file: DataFile, removed: frozenset[str], by_partition: Mapping[str, _Paths]
) -> bool:
    """Whether it names one data file, or has had to be opened for this commit anyway."""
    single = single_target(delete_file)
    neighbours = by_partition.get(partition_text(delete_file))
    if neighbours is None:
        return single in removed
    return single is not None or bool(neighbours.allowed_by(delete_file))


def leaving(
    head: Head,
    removed: frozenset[str],
    *,
    targets: DeleteTargets,
    live_paths: Iterable[str],
) -> list[LiveEntry]:
    """Return the position delete files of which no data file is left.

    Args:
        head: the state before the commit.
        removed: the data files that the commit replaces.
        targets: what delete files name.
        live_paths: all data files of the head; read only as far as there is a doubt.
    """
    by_partition = _by_partition(head.files[path] for path in removed)
    candidates = {
        delete.file.name: delete
        for delete in head.deletes
        if not delete.is_equality and _may_leave(delete.file, removed, by_partition)
    }
    # What else they name, by data file: one that is live keeps its delete files.
    doubts: dict[str, list[str]] = {}
    for path, delete in candidates.items():
        for target in targets.of(delete.file) - removed:
            doubts.setdefault(target, []).append(path)
    undecided = {path for paths in doubts.values() for path in paths}
    remaining = iter(live_paths)
    while undecided and (live := next(remaining, None)) is not None:
        for path in doubts.get(live, ()):
            undecided.discard(path)
            candidates.pop(path, None)
    return list(candidates.values())
