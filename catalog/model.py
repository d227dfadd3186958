"""The model of a table that every format speaks: frozen values, per-file facts as Arrow columns.

A *file slice* is a data file with everything that changes what a reader sees of it. The inventory
holds one row per file slice and one row per delete file; a Python object per file exists only while
one is being read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.tails import NO_TAIL, Tail

# Where Arrow keeps the field id of a Parquet column.
FIELD_ID_KEY = b"PARQUET:field_id"

# The id of the column that rows are told apart by, in the formats that have one: Iceberg's own.
ROW_ID_FIELD = 2147483540

DATA_FILES = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        # Rows stored in the file, before any delete is applied.
        pa.field("row_count", pa.int64(), nullable=False),
        # Files may share a file group when their keys are equal: opaque to all but the format.
        pa.field("partition_key", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        # The partition as people read it, `day=2026-11-20/bucket=3`; empty when unpartitioned.
        pa.field("partition", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        # Data sequence number: orders a file among its table's deletes and other files.
        pa.field("sequence_number", pa.int64(), nullable=False),
        # Commit time of the snapshot that added the file; null when that snapshot is gone.
        pa.field("written_at_ms", pa.int64()),
        # Where the format tells rows apart: the id of the file's first row, and the version that
        # last changed its rows. Rows that store their own have that instead.
        pa.field("first_row_id", pa.int64()),
        pa.field("row_version", pa.int64()),
        # Whether the format holds the file in an order that packing would undo; null for unknown.
        pa.field("is_clustered", pa.bool_()),
        # Rows of the delete files table that apply to this file.
        pa.field("deletes", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
    ]
)

DELETE_FILES = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("row_count", pa.int64(), nullable=False),
        pa.field("sequence_number", pa.int64(), nullable=False),
        # The one data file that it refers to, where the metadata says so.
        pa.field("target", pa.string()),
        # Ids of the columns that it names rows by the values of; null where it names positions.
        pa.field("equality_ids", pa.list_(pa.field("item", pa.int32(), nullable=False))),
    ]
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One committed state of a table.

    Attributes:
        snapshot_id: the format's own id as text (Iceberg snapshot id, Delta version, Hudi instant).
        sequence_number: grows with every commit of the table.
        timestamp_ms: commit time in milliseconds since the epoch, by the committer's clock.
        parent_id: the snapshot it was made from; None for the first one.
        operation: the format's name for what the commit did; empty for the state of an empty table.
    """

    snapshot_id: str
    sequence_number: int
    timestamp_ms: int
    parent_id: str | None
    operation: str


@dataclass(frozen=True, slots=True)
class DeleteFile:
    """A delete file as a reader meets it; the fields are the columns of `DELETE_FILES`."""

    path: str
    size_bytes: int
    row_count: int
    sequence_number: int
    target: str | None
    equality_ids: tuple[int, ...] | None = None

    @staticmethod
    def of(row: Mapping[str, Any]) -> DeleteFile:
        """Return a row of the table of delete files."""
        ids = row["equality_ids"]
        return DeleteFile(**{**row, "equality_ids": None if ids is None else tuple(ids)})


@dataclass(frozen=True, slots=True)
class FileSlice:
    """A data file and the delete files that apply to it; fields are the columns of `DATA_FILES`."""

    path: str
    size_bytes: int
    row_count: int
    partition_key: str
    sequence_number: int
    deletes: tuple[DeleteFile, ...]
    first_row_id: int | None = None
    row_version: int | None = None


@dataclass(frozen=True, slots=True)
class Filling:
    """The value that a column has where its data file does not store one.

    It may grow with the position of the row in the file, counted from 0 before any delete drops
    rows: then it is a 64-bit integer of a top-level column.

    Attributes:
        start: the value of the first row; a null fills nothing.
        step: what it grows by from row to row; 0 for a constant.
        fills_nulls: whether it also takes the place of nulls in files that have the column, which
            must be a top-level one; else it is for files that lack the column.
    """

    start: pa.Scalar
    step: int = 0
    fills_nulls: bool = False


@dataclass(frozen=True, slots=True)
class Inventory:
    """All file slices of a snapshot, or a part of them.

    Attributes:
        files: one row per data file, schema `DATA_FILES`.
        delete_files: one row per delete file, schema `DELETE_FILES`; `files.deletes` holds row
            numbers of this table.
    """

    files: pa.Table
    delete_files: pa.Table

    @staticmethod
    def empty() -> Inventory:
        """Return the inventory of a table without files."""
        return Inventory(DATA_FILES.empty_table(), DELETE_FILES.empty_table())

    @property
    def file_count(self) -> int:
        """Number of data files."""
        return cast(int, self.files.num_rows)

    @property
    def has_equality_deletes(self) -> bool:
        """Whether rows are deleted by their values, so that only reading tells how many."""
        ids = self.delete_files["equality_ids"]
        return bool(ids.null_count < len(ids))

    @property
    def size_bytes(self) -> int:
        """Bytes of all data files together, delete files not included."""
        return int(np.sum(self.files["size_bytes"].to_numpy()))

    @property
    def row_count(self) -> int:
        """Stored rows of all data files together, before deletes."""
        return int(np.sum(self.files["row_count"].to_numpy()))

    def take(self, rows: npt.NDArray[np.int64]) -> Inventory:
        """Return the given rows of `files`, in this order, with just the delete files they need."""
        files = self.files.take(pa.array(rows, pa.int64())).combine_chunks()
        deletes = files["deletes"].combine_chunks()
        used, renumbered = np.unique(
            deletes.values.slice(deletes.offsets[0].as_py(), len(deletes.flatten())).to_numpy(),
            return_inverse=True,
        )
        offsets = pa.array(np.asarray(deletes.offsets) - deletes.offsets[0].as_py(), pa.int32())
        field = DATA_FILES.field("deletes")
        lists = pa.ListArray.from_arrays(
            offsets, pa.array(renumbered.astype(np.int32)), type=field.type
        )
        position = DATA_FILES.get_field_index("deletes")
        return Inventory(
            files.set_column(position, field, lists),
            self.delete_files.take(pa.array(used, pa.int64())),
        )

    def slices(self) -> Iterator[FileSlice]:
        """Yield the file slices one by one, in order: for reading a group, never for planning."""
        deletes = list(map(DeleteFile.of, self.delete_files.to_pylist()))
        for batch in self.files.to_batches(max_chunksize=1024):
            for row in batch.to_pylist():
                yield FileSlice(
                    path=row["path"],
                    size_bytes=row["size_bytes"],
                    row_count=row["row_count"],
                    partition_key=row["partition_key"],
                    sequence_number=row["sequence_number"],
                    deletes=tuple(deletes[index] for index in row["deletes"]),
                    first_row_id=row["first_row_id"],
                    row_version=row["row_version"],
                )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of one data file survive, and which come behind them.

    Attributes:
        dropped: positions of the rows that readers no longer see, ascending and unique (int64).
        tail: rows of the slice that are not stored in the data file.
    """

    dropped: npt.NDArray[np.int64]
    tail: Tail = NO_TAIL

    @staticmethod
    def of(positions: npt.NDArray[np.int64]) -> Selection:
        """Return the selection that drops `positions`, given in any order and with repetitions."""
        return Selection(np.unique(positions.astype(np.int64, copy=False)))

    def kept(self, start: int, count: int) -> npt.NDArray[np.bool_] | None:
        """Return the mask of surviving rows in `[start, start + count)`; None when all survive."""
        first, last = np.searchsorted(self.dropped, [start, start + count])
        if first == last:
            return None
        mask = np.ones(count, dtype=np.bool_)
        mask[self.dropped[first:last] - start] = False
        return mask


KEEP_ALL = Selection(np.empty(0, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class SortField:
    """One term of the order of rows.

    Attributes:
        field_id: the column's id in the table's schema.
        path: names from the top-level column down to the leaf.
        is_descending: whether large values come first.
        is_nulls_first: whether nulls come before all values, whatever the direction.
        transform: what the format computes of the column and orders by, in its own words.
        known_as: the path that people know the column by, where it has another name in files.
    """

    field_id: int
    path: tuple[str, ...]
    is_descending: bool = False
    is_nulls_first: bool = True
    transform: str = "identity"
    known_as: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """The path with dots, as people know it."""
        return ".".join(self.known_as or self.path)


class FooterNotes(Protocol):
    """What the footer of one output says of its rows; told of them while it is written."""

    def took(self, file: FileSlice) -> None:
        """Take note that rows which the data file stores are in the output."""

    def added(self, rows: pa.RecordBatch) -> None:
        """Take note of rows that none of these files stores."""

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Return the key-value pairs, once all rows are told."""


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How a table wants its data files written.

    Attributes:
        target_file_size_bytes: size of a data file on storage.
        row_group_size_bytes: bytes of one row group in memory, before encoding.
        row_group_rows_max: rows of one row group at most.
        page_size_bytes: data page size before compression.
        dictionary_page_size_bytes: a column stops using a dictionary beyond this size.
        codec: Parquet compression codec in lower case, `none` for uncompressed.
        codec_level: its level, None for the codec's default.
        bloom_filters: (dotted column name, false positive probability) of the wanted filters.
        footer_metadata: key-value pairs that the format requires in the footer.
        sort_order: how the table wants the rows of a file ordered; empty when it does not care.
        is_codec_required: whether the table asks for the codec; where it does not, what has another
            one may stay as it is.
        own_name_column: the top-level text column that holds the name of the very file; empty for
            none. It is made anew for each output, and no proof is about it.
        replaced_footer_keys: key-value metadata of data files that is not taken over into outputs.
        footer_notes: makes the notes of one output; None where footers say nothing of rows. It can
            be pickled.
    """

    target_file_size_bytes: int
    row_group_size_bytes: int
    row_group_rows_max: int
    page_size_bytes: int
    dictionary_page_size_bytes: int
    codec: str
    codec_level: int | None
    bloom_filters: tuple[tuple[str, float], ...] = ()
    footer_metadata: tuple[tuple[str, str], ...] = ()
    sort_order: tuple[SortField, ...] = ()
    is_codec_required: bool = True
    own_name_column: str = ""
    replaced_footer_keys: tuple[str, ...] = ()
    footer_notes: Callable[[], FooterNotes] | None = None


@dataclass(frozen=True, slots=True)
class TableSchema:
    """The columns of a snapshot as readers see them.

    Attributes:
        arrow: top-level and nested fields carry their id in the metadata key `PARQUET:field_id`;
            nullability is the table's.
        name_mapping: (path of names, field id) for data files that were written without field
            ids; empty when the table has none.
        has_field_ids: whether field ids mean anything in data files. Where they do not, columns
            are found by `name_mapping` alone, and outputs carry none.
        unstored: ids of the top-level columns that `TableFiles.fillings` gives to readers whatever
            a file holds; outputs do without them.
        named: ids of the top-level columns that go by their names in data files that have field
            ids, too; outputs carry none for them.
        ignores_field_ids: whether all columns are found by `name_mapping`, although outputs carry
            field ids: those in data files may be anything.
        known_as: (path that people know, path in files) of all columns and of the fields of
            structs; empty where these are the same.
        shown: the columns as people know them, with the same ids, in the same order; None where
            their names are those in files.
    """

    arrow: pa.Schema
    name_mapping: tuple[tuple[tuple[str, ...], int], ...] = ()
    has_field_ids: bool = True
    unstored: frozenset[int] = frozenset()
    named: frozenset[int] = frozenset()
    ignores_field_ids: bool = False
    known_as: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    shown: pa.Schema | None = None

    @property
    def stored(self) -> TableSchema:
        """The columns that outputs have."""
        if not self.unstored:
            return self
        fields = [field for field in self.arrow if field_id(field) not in self.unstored]
        return replace(self, arrow=pa.schema(fields), unstored=frozenset())

    @property
    def goes_by_own_names(self) -> bool:
        """Whether readers find each column of an output, which is declared by its own name."""
        names = set(named_ids(self.stored.arrow))
        return self.has_field_ids or names <= set(self.name_mapping)

    @property
    def written(self) -> pa.Schema:
        """The schema that outputs are written with, with field ids where they have them."""
        stored = self.stored.arrow
        if not self.has_field_ids:
            return pa.schema([_bare(one) for one in stored])
        return pa.schema([_bare(one) if field_id(one) in self.named else one for one in stored])

    @property
    def leaf_columns(self) -> int:
        """Number of columns that a file stores, nested ones counted by their leaves."""
        return sum(_leaves(field.type) for field in self.stored.arrow)


def _bare(field: pa.Field) -> pa.Field:
    """Return a field without metadata, what is nested in it included."""
    kind = field.type
    if isinstance(kind, pa.StructType):
        kind = pa.struct([_bare(child) for child in kind.fields])
    elif isinstance(kind, pa.MapType):
        kind = pa.map_(_bare(kind.key_field), _bare(kind.item_field))
    elif isinstance(kind, pa.ListType):
        kind = pa.list_(_bare(kind.value_field))
    return pa.field(field.name, kind, field.nullable)


def named_ids(
    fields: Iterable[pa.Field], parent: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield the path of names and the id of each field, nested ones by the names of the format."""
    for one in fields:
        path, kind, number = (*parent, one.name), one.type, field_id(one)
        if number is not None:
            yield path, number
        if isinstance(kind, pa.StructType):
            yield from named_ids(kind.fields, path)
        elif isinstance(kind, pa.MapType):
            inner = (kind.key_field.with_name("key"), kind.item_field.with_name("value"))
            yield from named_ids(inner, path)
        elif isinstance(kind, pa.ListType):
            yield from named_ids([kind.value_field.with_name("element")], path)


def field_id(field: pa.Field) -> int | None:
    """Return the id that a field carries; None when it has none."""
    text = (field.metadata or {}).get(FIELD_ID_KEY)
    return None if text is None else int(text)


def _leaves(kind: pa.DataType) -> int:
    if isinstance(kind, pa.MapType):
        return _leaves(kind.key_type) + _leaves(kind.item_type)
    return sum(_leaves(kind.field(index).type) for index in range(kind.num_fields)) or 1


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A data file that a worker has written and that no snapshot refers to yet.

    Attributes:
        path: where it is.
        size_bytes: its length.
        row_count: its rows.
        partition_key: of the partition it belongs to, where that is not the one of its group.
    """

    path: str
    size_bytes: int
    row_count: int
    partition_key: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve through the space of some columns: rows along it are close in all of them.

    Attributes:
        kind: `zorder` or `hilbert`.
        fields: the columns.
    """

    kind: str
    fields: tuple[SortField, ...]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The replacement of the file slices of one file group by new files.

    Attributes:
        group_id: the group in its plan.
        files: the replaced slices exactly as planned; a slice that has changed since is a conflict.
        added: the new files: rows of the replaced files less those that are dropped, and the rows
            that come in.
        rows_dropped: rows of the replaced files that are in no file of `added`, be it that their
            deletes drop them or that a change does.
        sort_order: the order that the rows of every added file are in; empty when `added` keeps
            that of `files`.
        keeps_order: whether the rows of `added`, one file after the other, come in the order of
            those of `files`: then deletes that come meanwhile can be carried over to them.
        curve: the curve that the rows of `added` lie along; None for none.
        rows_added: rows of `added` that no slice of `files` had. Only a change has such rows.
        rows_tail: rows of `added` that came behind the stored ones of `files`, see `Tail`.
        marks: by path, those of `files` that stay in the table, and the rows they lose: live ones,
            ascending. Only a change has marks, where `Table.can_mark`.
        partition_key: of the added files where `files` is empty, as only a change has it.
        records_deletes: whether `files` stay, and what is added are no data files but delete files
            that drop just the rows of them that their deletes drop: these are needed no longer.
    """

    group_id: str
    files: Inventory
    added: tuple[OutputFile, ...]
    rows_dropped: int
    sort_order: tuple[SortField, ...] = ()
    keeps_order: bool = False
    curve: Curve | None = None
    rows_added: int = 0
    marks: Mapping[str, Selection] = field(default_factory=dict)
    partition_key: str = ""
    records_deletes: bool = False
    rows_tail: int = 0

    @property
    def replaced(self) -> Inventory:
        """The files that leave the table."""
        if self.records_deletes:
            return Inventory.empty()
        if not self.marks:
            return self.files
        is_replaced = [path not in self.marks for path in self.files.files["path"].to_pylist()]
        return self.files.take(np.flatnonzero(is_replaced))

    @property
    def target_key(self) -> str:
        """The key of the partition of the added files."""
        keys = self.files.files["partition_key"]
        return keys[0].as_py() if len(keys) else self.partition_key


class CommitKind(StrEnum):
    """What a commit means for the rows of a table.

    A rewrite leaves them as they are. Its groups are independent of each other: one may be dropped
    and the others committed. A change is made as a whole or not at all, as if nothing had happened
    since its base: it conflicts with whoever has added rows since, but for rewrites.
    """

    REWRITE = "rewrite"
    CHANGE = "change"


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a source of changes has been merged into a table.

    Attributes:
        source: names it; any text.
        value: opaque; whoever merges compares it.
    """

    source: str
    value: str


@dataclass(frozen=True, slots=True)
class ChangeScope:
    """What changes will do, as far as a table may object to it.

    Attributes:
        adds_rows: whether rows may come in.
        removes_rows: whether rows may go.
        lacking: names of the columns that some of the rows that come in are not given a value for.
    """

    adds_rows: bool
    removes_rows: bool
    lacking: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Commit:
    """A batch of rewrites to be committed together.

    Attributes:
        commit_id: unique; written into the snapshot, so that the commit can be found again.
        base: the snapshot that the rewrites were planned from.
        rewrites: what is replaced; a change that only records watermarks has none.
        properties: pairs recorded with the snapshot (job id, version of the program).
        kind: what it means for the rows of the table.
        watermarks: of a change, recorded together with it; it conflicts with a commit since its
            base that has recorded another value for the same source.
        partitions: of a change, keys of the partitions that the rows that it has looked for can be
            in: rows that others add elsewhere are no conflict. None for everywhere.
    """

    commit_id: str
    base: Snapshot
    rewrites: tuple[Rewrite, ...]
    properties: tuple[tuple[str, str], ...] = ()
    kind: CommitKind = CommitKind.REWRITE
    watermarks: tuple[Watermark, ...] = ()
    partitions: frozenset[str] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not self.rewrites and not self.watermarks


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another writer's commit has invalidated one group; its outputs are not in the table."""

    group_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What became of a commit.

    Attributes:
        snapshot: the new snapshot, or the one that the groups were found in; None when nothing was
            committed: every group was dropped, or a watermark was no longer what it had been.
        committed: ids of the groups that are in the table now.
        conflicts: the others.
        warnings: what people should know of other writers of the table, a sentence each.
    """

    snapshot: Snapshot | None
    committed: tuple[str, ...]
    conflicts: tuple[Conflict, ...]
    warnings: tuple[str, ...] = field(default=(), compare=False)
