"""What happened to a Delta table after a version, out of the commits that came after it.

A table with a change data feed tells every change: in files of its own, or, where a commit has
none of these, by the files that it added and removed. Without a feed only added files tell.

A watermark is `version@id of the table`: another table at the same place has another id.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#add-cdc-file
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from catalog.delta.actions import CommitInfo, Metadata, parse_action
from catalog.delta.file_columns import FileColumns, child
from catalog.delta.files import DeltaFiles
from catalog.delta.inventory import Assembly
from catalog.delta.json_actions import blocks, small_actions
from catalog.delta.log import LogFile, LogSegment, commit_version, list_log
from catalog.delta.paths import Paths
from catalog.delta.properties import is_set
from catalog.delta.state import TableState
from catalog.errors import CorruptTableError, HistoryError, ObjectNotFoundError
from catalog.history import CHANGE_TYPE, Happening, History, Step
from catalog.location import Location
from catalog.model import Inventory, Snapshot
from catalog.schema import FIELD_ID_KEY, TableSchema, field_id
from catalog.storage import Storage
from catalog.table import MapFunction

_WATERMARK = re.compile(r"(\d{1,20})@(.+)", re.ASCII | re.DOTALL)
_FEED = "delta.enableChangeDataFeed"
# Beyond every id that a table gives to its columns.
_CHANGE_TYPE_ID = 2147483538


class HistoryTarget(Protocol):
    """The table whose history is read."""

    @property
    def name(self) -> str:
        """How messages call it."""

    @property
    def storage(self) -> Storage:
        """Where its log and its files are."""

    @property
    def paths(self) -> Paths:
        """Where its files may lie."""

    def load(self, version: int | None = None) -> tuple[LogSegment, TableState]:
        """Read a version anew, the newest by default."""

    def snapshot(self, snapshot_id: str | None = None) -> Snapshot:
        """Return a version as the model has it."""

    def files(self, snapshot: Snapshot) -> DeltaFiles:
        """Return the workers' side of a version."""

    def inventory(self, snapshot: Snapshot, *, map_function: MapFunction = map) -> Inventory:
        """Return every file slice of a version."""


def read_history(
    target: HistoryTarget, watermark: str | None, map_function: MapFunction
) -> History:
    """Return what happened after a watermark.

    Raises:
        HistoryError: rows went in a version that has no change data feed, or the commits after the
            watermark are gone, or this is another table.
    """
    snapshot = target.snapshot()
    segment, head = target.load(int(snapshot.snapshot_id))
    reached = f"{head.version}@{head.metadata.table_id}"
    side = target.files(snapshot)
    plain = _without_row_ids(side)
    if watermark is None:
        files = target.inventory(snapshot, map_function=map_function)
        steps = [Step(0, Happening.CAME, files, Inventory.empty())] if files.file_count else []
        return History(reached, tuple(steps), plain, plain.schema)
    version = _version(target.name, watermark, head)
    reader = _Reader(target, plain, head, map_function)
    steps = list(reader.steps(segment.log, version + 1))
    if any(one.happening is Happening.TOLD for one in steps):
        return History(reached, tuple(steps), plain, _telling(plain.schema))
    return History(reached, tuple(steps), plain, plain.schema)


def _version(name: str, watermark: str, head: TableState) -> int:
    found = _WATERMARK.fullmatch(watermark)
    if found is None or found[2] != head.metadata.table_id or int(found[1]) > head.version:
        raise HistoryError(
            f"{name}: the watermark {watermark!r} is of another table than the one that is there"
            f" now, version {head.version} of {head.metadata.table_id}",
            hint="merge the whole table under another watermark",
        )
    return int(found[1])


def _without_row_ids(side: DeltaFiles) -> DeltaFiles:
    """Return the workers' side of a table whose rows have no ids: changes have none."""
    schema = side.schema
    fields = [one for one in schema.arrow if field_id(one) not in schema.named]
    plain = replace(schema, arrow=pa.schema(fields), named=frozenset())
    return replace(side, schema=plain, tracks_rows=False)


def _telling(schema: TableSchema) -> TableSchema:
    """Return the columns of a change data feed, without those that tell of the commit."""
    number = {FIELD_ID_KEY: str(_CHANGE_TYPE_ID).encode()}
    field = pa.field(CHANGE_TYPE, pa.string(), metadata=number)
    mapping = schema.name_mapping
    if mapping or not schema.has_field_ids:
        mapping = (*mapping, ((CHANGE_TYPE,), _CHANGE_TYPE_ID))
    return replace(
        schema,
        arrow=schema.arrow.append(field),
        name_mapping=mapping,
        named=schema.named | {_CHANGE_TYPE_ID},
    )


@dataclass(frozen=True, slots=True)
class _FileActions:
    """The files that one commit speaks of, schema `FileColumns.schema`: changes of data alone."""

    added: pa.Table
    removed: pa.Table
    told: pa.Table
    metadata: Metadata | None
    operation: str


@dataclass(frozen=True, slots=True)
class _Reader:
    target: HistoryTarget
    side: DeltaFiles
    head: TableState
    map_function: MapFunction

    def steps(self, log: Location, first: int) -> Iterator[Step]:
        """Yield what happened from one version on."""
        commits = {commit_version(one.name): one for one in list_log(self.target.storage, log)}
        has_feed: bool | None = None
        for version in range(first, self.head.version + 1):
            commit = commits.get(version)
            if commit is None:
                raise HistoryError(
                    f"{self.target.name}: the commit of version {version} was cleaned from the log",
                    hint="merge the whole table under another watermark, or keep the log longer",
                )
            found = self._read(log.child(commit.name), commit)
            if found.metadata is not None:
                self._refuse_other(version, found.metadata)
                has_feed = is_set(found.metadata.configuration, _FEED)
            if has_feed is None:
                has_feed = self._had_feed(first - 1)
            yield from self._happened(version, version - first, found, has_feed=has_feed)

    def _had_feed(self, version: int) -> bool:
        return is_set(self.target.load(version)[1].metadata.configuration, _FEED)

    def _refuse_other(self, version: int, metadata: Metadata) -> None:
        head = self.head.metadata
        if (metadata.table_id, metadata.partition_columns) != (
            head.table_id,
            head.partition_columns,
        ):
            raise HistoryError(
                f"{self.target.name}: version {version} was partitioned in another way, or is of"
                " another table",
                hint="merge the whole table under another watermark",
            )

    def _happened(
        self, version: int, position: int, found: _FileActions, *, has_feed: bool
    ) -> Iterator[Step]:
        none = Inventory.empty()
        if found.told.num_rows:
            yield Step(position, Happening.TOLD, self._inventory(found.told), none)
            return
        if found.removed.num_rows and not has_feed:
            raise HistoryError(
                f"{self.target.name}: version {version} removed or replaced rows"
                f" ({found.operation or 'an operation without a name'}), and the table had no"
                " change data feed",
                hint=f"set {_FEED}, or read changes from a table that is only appended to",
            )
        added, removed = self._inventory(found.added), self._inventory(found.removed)
        if removed.file_count:
            yield Step(position, Happening.WENT, removed, _of_same_files(added, removed))
        if added.file_count:
            yield Step(position, Happening.CAME, added, _of_same_files(removed, added))

    def _inventory(self, files: pa.Table) -> Inventory:
        assembly = Assembly(self.side.storage, self.side.paths, self.side.partitions)
        return assembly.inventory(files, self.map_function) if len(files) else Inventory.empty()

    def _read(self, location: Location, commit: LogFile) -> _FileActions:
        names = tuple(column.physical_name for column in self.side.partitions)
        columns = FileColumns(self.side.paths, names)
        parts: dict[str, list[pa.Table]] = {"add": [], "remove": [], "cdc": []}
        metadata, operation = None, ""
        try:
            for block in blocks(self.target.storage, location, commit.size_bytes):
                for kind, actions in _parsed(block, columns, str(location)).items():
                    parts[kind].append(_files(columns, kind, actions))
                for kind, raw in small_actions(block, str(location)):
                    action = parse_action(kind, raw)
                    metadata = action if isinstance(action, Metadata) else metadata
                    operation = action.operation if isinstance(action, CommitInfo) else operation
        except ObjectNotFoundError as fault:
            raise HistoryError(f"a commit was cleaned while it was read: {fault}") from fault
        added, removed, told = (
            pa.concat_tables(some).unify_dictionaries() if some else columns.schema.empty_table()
            for some in parts.values()
        )
        return _FileActions(added, removed, told, metadata, operation)


def _parsed(block: bytes, columns: FileColumns, name: str) -> dict[str, pa.StructArray]:
    """Return the actions about files that change data, by kind."""
    action = pa.struct([*columns.add_type, pa.field("dataChange", pa.bool_())])
    schema = pa.schema([(kind, action) for kind in ("add", "remove", "cdc")])
    parse = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = pj.ReadOptions(use_threads=False, block_size=len(block) + 1)
    try:
        table = pj.read_json(pa.BufferReader(block), read_options=read, parse_options=parse)
    except (pa.ArrowException, ValueError) as fault:
        raise CorruptTableError(f"{name} is cut off or malformed: {fault}") from fault
    found = {kind: table[kind].combine_chunks().drop_null() for kind in schema.names}
    # Files of the feed itself are no change of data to whoever reads the table.
    return {
        kind: some if kind == "cdc" else some.filter(_changes_data(some))
        for kind, some in found.items()
    }


def _changes_data(actions: pa.StructArray) -> pa.BooleanArray:
    return pc.fill_null(child(actions, "dataChange", pa.bool_()), True)


def _files(columns: FileColumns, kind: str, actions: pa.StructArray) -> pa.Table:
    if kind == "remove" and child(actions, "size", pa.int64()).null_count:
        raise HistoryError("the log says of a removed file neither how long it was nor where")
    return columns.files(actions)


def _of_same_files(some: Inventory, others: Inventory) -> Inventory:
    """Return the slices whose files are among others, with other rows deleted."""
    is_same = pc.is_in(some.files["path"], others.files["path"].combine_chunks())
    return some.take(np.flatnonzero(is_same.to_numpy()).astype(np.int64))
