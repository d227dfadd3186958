"""A table whose state lives in memory and whose data files are real Parquet files in a directory.

It keeps the rules that every table keeps (`catalog.conflicts`) and none of the encodings, so that
what is built on tables can be tested without a catalog. One process, any number of threads.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.changes import has_landed, operation_of, whole
from catalog.commits import (
    ChangeScope,
    Commit,
    CommitKind,
    CommitResult,
    Conflict,
    OutputFile,
    Rewrite,
    Watermark,
)
from catalog.conflicts import LiveFile, all_conflict, not_landed, split
from catalog.errors import CorruptTableError, ObjectNotFoundError, SnapshotNotFoundError
from catalog.layout import FileLayout
from catalog.location import Confinement, Location
from catalog.model import (
    DATA_FILES,
    DELETE_FILES,
    FileSlice,
    Filling,
    Inventory,
    Selection,
    Snapshot,
)
from catalog.outputs import distinct_outputs
from catalog.partitioning import keys_of_rows
from catalog.schema import FIELD_ID_KEY, TableSchema, field_id, named_ids
from catalog.storage import Storage
from catalog.table import MapFunction
from catalog.upkeep import UpkeepOperation

_LAYOUT = FileLayout(
    target_file_size_bytes=64 << 20,
    row_group_size_bytes=16 << 20,
    row_group_rows_max=1 << 20,
    page_size_bytes=1 << 20,
    dictionary_page_size_bytes=1 << 20,
    codec="zstd",
    codec_level=None,
)
_Positions = npt.NDArray[np.int64]
# As Iceberg names and numbers them.
ROW_ID = pa.field("_row_id", pa.int64(), metadata={FIELD_ID_KEY: b"2147483540"})
ROW_VERSION = pa.field(
    "_last_updated_sequence_number", pa.int64(), metadata={FIELD_ID_KEY: b"2147483539"}
)


@dataclass(frozen=True, slots=True)
class Features:
    """What formats do differently.

    Attributes:
        has_field_ids: whether data files carry field ids; without them columns go by their names.
        has_row_lineage: whether rows have ids and versions, which follow from the file that a row
            was appended with until they are stored.
        partition_columns: names of the columns that stand in the partition alone and in no file.
    """

    has_field_ids: bool = True
    has_row_lineage: bool = False
    partition_columns: frozenset[str] = frozenset()

    def table_schema(self, columns: pa.Schema) -> TableSchema:
        """Return the schema of a table with some columns."""
        lineage = [ROW_ID, ROW_VERSION] if self.has_row_lineage else []
        return TableSchema(
            pa.schema([*columns, *lineage]),
            name_mapping=() if self.has_field_ids else tuple(named_ids([*columns, *lineage])),
            has_field_ids=self.has_field_ids,
            unstored=frozenset(_id(columns.field(name)) for name in self.partition_columns),
        )


_PLAIN = Features()


@dataclass(frozen=True, slots=True)
class _Deletes:
    """Positions of one data file, deleted together."""

    path: str
    target: str
    positions: _Positions
    sequence_number: int
    rows: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class _LoggedRows:
    """Rows of a slice that its data file does not store; implements `catalog.tails.Tail`."""

    rows: pa.Table

    @property
    def row_count(self) -> int:
        """How many they are."""
        return int(self.rows.num_rows)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield them with some columns."""
        yield from self.rows.select(list(columns)).to_batches()


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size_bytes: int
    row_count: int
    partition: str
    sequence_number: int
    written_at_ms: int
    first_row_id: int | None


@dataclass(frozen=True, slots=True)
class _State:
    """One snapshot and everything in it."""

    snapshot: Snapshot
    files: Mapping[str, _File] = field(default_factory=dict)
    deletes: Mapping[str, _Deletes] = field(default_factory=dict)
    next_row_id: int = 0
    watermarks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MemoryFiles:
    """The workers' side of a snapshot; implements `catalog.table.TableFiles`."""

    storage: Storage
    schema: TableSchema
    layout: FileLayout
    directory: Location
    deletes: Mapping[str, _Deletes]

    def locate(self, path: str) -> Location:
        """Return the location of a path of the table."""
        return Confinement((self.directory,)).parse(path)

    def selections(self, files: Inventory) -> Mapping[str, Selection]:
        """Return the rows each data file loses, by its path."""
        return {one.path: self._selection(one) for one in files.slices() if one.deletes}

    def _selection(self, file: FileSlice) -> Selection:
        applied = [self.deletes[delete.path] for delete in file.deletes]
        selection = Selection.of(np.concatenate([one.positions for one in applied]))
        logged = [one.rows for one in applied if one.rows is not None]
        if not logged:
            return selection
        return replace(selection, tail=_LoggedRows(pa.concat_tables(logged)))

    def fillings(self, file: FileSlice) -> Mapping[int, Filling]:
        """Return what the partition fixes, and the ids and versions of rows."""
        values = dict(one.split("=", 1) for one in file.partition_key.split("/") if "=" in one)
        found = {
            _id(one): Filling(pa.scalar(values[one.name]).cast(one.type))
            for one in self.schema.arrow
            if _id(one) in self.schema.unstored
        }
        if file.first_row_id is not None:
            found[_id(ROW_ID)] = Filling(pa.scalar(file.first_row_id), step=1, fills_nulls=True)
            found[_id(ROW_VERSION)] = Filling(pa.scalar(file.row_version), fills_nulls=True)
        return found

    def partition_keys(self, rows: pa.Table) -> pa.Array:
        """Return the partition that each new row belongs to."""
        names = [one.name for one in self.schema.arrow if _id(one) in self.schema.unstored]
        return keys_of_rows(
            [rows[name].combine_chunks() for name in names],
            lambda values: "/".join(
                f"{name}={value}" for name, value in zip(names, values, strict=True)
            ),
            rows=rows.num_rows,
        )

    def new_location(self, partition_key: str, file_name: str) -> Location:
        """Return where a new data file of the partition belongs."""
        return self.directory.child(*filter(None, (partition_key, file_name)))


class MemoryTable:
    """A table of this process; implements `catalog.table.Table`.

    Other writers are played by `append`, `delete_rows`, `remove` and `expire`.
    """

    format = "memory"
    can_mark = True

    def __init__(
        self,
        directory: Path,
        schema: pa.Schema,
        *,
        layout: FileLayout = _LAYOUT,
        features: Features = _PLAIN,
    ) -> None:
        """Begin an empty table.

        Args:
            directory: where its data files go.
            schema: its columns, each with the metadata key `PARQUET:field_id`.
            layout: how its data files are to be written.
            features: what is different from a plain table.
        """
        self.name = f"memory:{directory.name}"
        self._directory = Location.parse(str(directory.absolute()))
        self._schema = features.table_schema(schema)
        self._has_row_lineage = features.has_row_lineage
        self._layout = layout
        self._lock = threading.RLock()
        self._states: list[_State] = [_State(Snapshot("", 0, _now_ms(), None, ""))]
        self._results: dict[str, CommitResult] = {}

    def snapshot(self, snapshot_id: str | None = None) -> Snapshot:
        """Return the current snapshot, or the one with the given id."""
        with self._lock:
            return (self._states[-1] if snapshot_id is None else self._find(snapshot_id)).snapshot

    def inventory(self, snapshot: Snapshot, *, map_function: MapFunction = map) -> Inventory:
        """Return every file slice of the snapshot."""
        del map_function
        with self._lock:
            state = self._find(snapshot.snapshot_id)
        rows = {path: row for row, path in enumerate(state.deletes)}
        files = [
            {
                "path": one.path,
                "size_bytes": one.size_bytes,
                "row_count": one.row_count,
                "partition_key": one.partition,
                "partition": one.partition,
                "sequence_number": one.sequence_number,
                "written_at_ms": one.written_at_ms,
                "first_row_id": one.first_row_id,
                "row_version": None if one.first_row_id is None else one.sequence_number,
                "deletes": [rows[path] for path in _applied(state, one.path)],
            }
            for one in state.files.values()
        ]
        deletes = [
            {
                "path": one.path,
                "size_bytes": one.positions.nbytes,
                "row_count": len(one.positions),
                "sequence_number": one.sequence_number,
                # Rows that come in place of others are found by their values.
                "target": one.target if one.rows is None else None,
            }
            for one in state.deletes.values()
        ]
        return Inventory(
            pa.Table.from_pylist(files, schema=DATA_FILES),
            pa.Table.from_pylist(deletes, schema=DELETE_FILES),
        )

    def files(self, snapshot: Snapshot) -> MemoryFiles:
        """Return the workers' side of the snapshot."""
        with self._lock:
            state = self._find(snapshot.snapshot_id)
        return MemoryFiles(Storage(), self._schema, self._layout, self._directory, state.deletes)

    def check_change(self, scope: ChangeScope) -> None:
        """Do nothing: it takes every change."""

    def watermark(self, source: str) -> str | None:
        """Return how far a source has been merged."""
        with self._lock:
            return self._states[-1].watermarks.get(source)

    def commit(self, commit: Commit) -> CommitResult:
        """Replace the slices of every rewrite that still stands against the current snapshot."""
        with self._lock:
            known = self._results.get(commit.commit_id)
            if known is not None:
                return known
            for output in distinct_outputs(commit):
                self._verify_output(output)
            if not any(commit.base == state.snapshot for state in self._states):
                reason = f"the snapshot {commit.base.snapshot_id} is no longer in its history"
                return CommitResult(None, (), all_conflict(commit.rewrites, reason))
            if commit.kind is CommitKind.CHANGE:
                result = self._change(commit)
            else:
                result = self._rewrite(commit)
            if result.snapshot is not None:
                self._results[commit.commit_id] = result
            return result

    def _rewrite(self, commit: Commit) -> CommitResult:
        live = self._live()
        standing, conflicts = split(commit.rewrites, live)
        conflicts = not_landed(conflicts, commit.rewrites, live)
        dropped = {conflict.group_id for conflict in conflicts}
        groups = [one.group_id for one in commit.rewrites if one.group_id not in dropped]
        if not groups:
            return CommitResult(None, (), conflicts)
        snapshot = self._replace(commit, standing) if standing else self._states[-1].snapshot
        return CommitResult(snapshot, tuple(groups), conflicts)

    def _change(self, commit: Commit) -> CommitResult:
        if commit.is_empty:
            return CommitResult(None, (), ())
        added = {one.path: one for one in self._added_since(commit)}
        groups = tuple(one.group_id for one in commit.rewrites)
        if has_landed(commit, added):
            return CommitResult(self._states[-1].snapshot, groups, ())
        conflicts: tuple[Conflict, ...] = whole(commit, split(commit.rewrites, self._live())[1])
        reason = self._why_changed(commit, added.values())
        if reason and not conflicts:
            conflicts = all_conflict(commit.rewrites, reason)
        if reason or conflicts:
            return CommitResult(None, (), conflicts)
        return CommitResult(self._replace(commit, commit.rewrites), groups, ())

    def _added_since(self, commit: Commit) -> list[_File]:
        """Return the files with rows that were not in the base of a commit."""
        at = next(at for at, one in enumerate(self._states) if one.snapshot == commit.base)
        return [
            file
            for before, after in pairwise(self._states[at:])
            if after.snapshot.operation != "replace"
            for path, file in after.files.items()
            if path not in before.files
        ]

    def _why_changed(self, commit: Commit, added: Iterable[_File]) -> str:
        base = self._find(commit.base.snapshot_id).watermarks
        for one in commit.watermarks:
            if base.get(one.source) != self._states[-1].watermarks.get(one.source):
                return f"the source {one.source} has been merged by another commit"
        for file in added:
            if commit.partitions is None or file.partition in commit.partitions:
                return f"rows were added in {file.path}"
        return ""

    def find_commit(self, commit: Commit) -> CommitResult | None:
        """Return what became of a commit; None when it never happened."""
        with self._lock:
            return self._results.get(commit.commit_id)

    def clean_commit(self, commit: Commit) -> None:
        """Do nothing: a commit leaves no metadata files."""

    def upkeep(self) -> Sequence[UpkeepOperation]:
        """Return nothing: there is nothing to keep up."""
        return ()

    def append(self, rows: pa.Table, partition: str = "") -> str:
        """Write rows as one data file of a partition and commit it; return its path.

        Ids and versions of rows may be given, as a writer does that has changed other columns of
        rows; null for new rows.
        """
        place = self._directory.child(*filter(None, (partition, f"{uuid.uuid4()}.parquet")))
        Path(place.path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self._as_stored(rows), place.path)
        size_bytes = Path(place.path).stat().st_size
        with self._lock:
            output = OutputFile(str(place), size_bytes, rows.num_rows)
            after = self._with_file(self._states[-1], output, partition, self._next())
            self._advance("append", after)
        return str(place)

    def delete_rows(self, path: str, positions: Sequence[int]) -> str:
        """Delete rows of a data file by their positions; return the path of the deletes."""
        with self._lock:
            number = self._next()
            after = _with_deletes(self._states[-1], path, np.asarray(positions), number)
            self._advance("delete", after)
        return f"{path}.{number}-deletes"

    def update_rows(self, path: str, positions: Sequence[int], rows: pa.Table) -> str:
        """Put rows in the place of some of a data file, by a log; return the path of the log."""
        with self._lock:
            number = self._next()
            stored = rows.select(self._schema.stored.arrow.names).cast(self._schema.stored.arrow)
            after = _with_deletes(
                self._states[-1], path, np.asarray(positions, np.int64), number, rows=stored
            )
            self._advance("append", after)
        return f"{path}.{number}-deletes"

    def remove(self, path: str) -> None:
        """Remove a data file with all its rows."""
        with self._lock:
            self._advance("delete", _without(self._states[-1], {path}))

    def expire(self) -> None:
        """Forget every snapshot but the current one."""
        with self._lock:
            del self._states[:-1]

    def _find(self, snapshot_id: str) -> _State:
        for state in self._states:
            if state.snapshot.snapshot_id == snapshot_id:
                return state
        raise SnapshotNotFoundError(f"{self.name} has no snapshot {snapshot_id!r}")

    def _live(self) -> dict[str, LiveFile]:
        state = self._states[-1]
        return {
            path: LiveFile(
                one.size_bytes, one.row_count, one.sequence_number, frozenset(_applied(state, path))
            )
            for path, one in state.files.items()
        }

    def _verify_output(self, output: OutputFile) -> None:
        location = Confinement((self._directory,)).parse(output.path)
        try:
            size_bytes = Storage().size(location)
            footer = pq.read_metadata(location.path)
        except (ObjectNotFoundError, pa.ArrowException) as error:
            raise CorruptTableError(f"cannot read the output {output.path}: {error}") from error
        if (size_bytes, footer.num_rows) != (output.size_bytes, output.row_count):
            raise CorruptTableError(f"the output {output.path} is not what was announced")
        columns = footer.schema.to_arrow_schema()
        wanted = self._schema.written
        # As elsewhere, writers may declare columns nullable that are not.
        if columns.names != wanted.names or columns.types != wanted.types:
            raise CorruptTableError(f"the output {output.path} has other columns than the table")
        if not self._schema.has_field_ids and any(map(field_id, columns)):
            raise CorruptTableError(f"the output {output.path} carries field ids")

    def _replace(self, commit: Commit, standing: Sequence[Rewrite]) -> Snapshot:
        before, number = self._states[-1], commit.base.sequence_number
        removed = {path for one in standing for path in one.replaced.files["path"].to_pylist()}
        after, operation = _without(before, removed), "replace"
        if commit.kind is CommitKind.CHANGE:
            number, operation = self._next(), operation_of(standing)
            after = _with_watermarks(after, commit.watermarks)
        for rewrite in standing:
            for output in rewrite.added:
                after = self._with_file(after, output, rewrite.target_key, number)
            for path, selection in rewrite.marks.items():
                after = _with_deletes(after, path, selection.dropped, number)
        return self._advance(operation, after)

    def _with_file(
        self, state: _State, output: OutputFile, partition: str, sequence_number: int
    ) -> _State:
        """Return the state with another file; its rows take new ids, those that store none."""
        one = _File(
            output.path,
            output.size_bytes,
            output.row_count,
            partition,
            sequence_number,
            _now_ms(),
            state.next_row_id if self._has_row_lineage else None,
        )
        files = {**state.files, one.path: one}
        return replace(state, files=files, next_row_id=state.next_row_id + one.row_count)

    def _as_stored(self, rows: pa.Table) -> pa.Table:
        """Return rows as a writer stores them: ids and versions only where they are given."""
        wanted = [
            one
            for one in self._schema.written
            if one.name in rows.column_names or one.name not in (ROW_ID.name, ROW_VERSION.name)
        ]
        return rows.select([one.name for one in wanted]).cast(pa.schema(wanted))

    def _advance(self, operation: str, state: _State) -> Snapshot:
        number, parent = self._next(), self._states[-1].snapshot
        snapshot = Snapshot(str(number), number, _now_ms(), parent.snapshot_id or None, operation)
        self._states.append(replace(state, snapshot=snapshot))
        return snapshot

    def _next(self) -> int:
        return self._states[-1].snapshot.sequence_number + 1


def _applied(state: _State, path: str) -> list[str]:
    return [one.path for one in state.deletes.values() if one.target == path]


def _with_deletes(
    state: _State, path: str, positions: _Positions, number: int, rows: pa.Table | None = None
) -> _State:
    deletes = _Deletes(f"{path}.{number}-deletes", path, positions, number, rows)
    return replace(state, deletes={**state.deletes, deletes.path: deletes})


def _with_watermarks(state: _State, watermarks: Iterable[Watermark]) -> _State:
    new = {one.source: one.value for one in watermarks}
    return replace(state, watermarks={**state.watermarks, **new})


def _without(state: _State, paths: set[str]) -> _State:
    """Return the state without some data files and without the deletes of these."""
    return replace(
        state,
        files={path: one for path, one in state.files.items() if path not in paths},
        deletes={path: one for path, one in state.deletes.items() if one.target not in paths},
    )


def _id(one: pa.Field) -> int:
    return int(one.metadata[FIELD_ID_KEY])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
