"""Writes checkpoints: the whole state of a version in one Parquet file, batch by batch.

The rows of the checkpoint before pass through as they are, less what later commits speak of and
removals that nobody needs to know of any more; what the commits come to follows. So the memory it
takes is that of the commits since, and of some thousand rows.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#checkpoints
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.delta.actions import Raw
from catalog.delta.checkpoint_rows import ADD, REMOVE, ROWS, in_column, rows_of
from catalog.delta.checkpoints import Part, batches, opened, small_actions_of, top_parts
from catalog.delta.file_columns import FileColumns, superseded
from catalog.delta.head import CommitTarget
from catalog.delta.intervals import interval_seconds
from catalog.delta.json_actions import blocks, lines_of
from catalog.delta.log import LogSegment, checkpoint_name
from catalog.delta.properties import is_set
from catalog.delta.protocol import features_of
from catalog.delta.reconciliation import Reconciled
from catalog.delta.replay import checkpoint_parts
from catalog.delta.state import TableState
from catalog.delta.vacuum import RETENTION, WEEK_SECONDS
from catalog.errors import CatalogError, ObjectNotFoundError, UnsupportedTableError
from catalog.location import Location
from catalog.storage import Storage
from catalog.upkeep import UpkeepOrder, UpkeepResult

_LOG = logging.getLogger(__name__)
_INTERVAL = "delta.checkpointInterval"
_INTERVAL_DEFAULT = 10
_TXN_RETENTION = "delta.setTransactionRetentionDuration"
_STATS_AS_TEXT = "delta.checkpoint.writeStatsAsJson"
_LAST = "_last_checkpoint"
# Rows of one row group: about a kilobyte each.
_GROUP_ROWS = 1 << 15
_TAIL_ROWS = 1 << 14
# Commits are in memory while a checkpoint is written: after a commit, no more than this of them.
_TAIL_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Writes the checkpoint of the newest version, where it is due."""

    target: CommitTarget
    name: str = "checkpoint"
    is_usual: bool = True

    def check(self, order: UpkeepOrder) -> None:
        """Take any order: there is nothing in it that this depends on."""

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Write it, unless few versions have come since the last.

        Raises:
            UnsupportedTableError: the table wants its checkpoints otherwise than they are written.
            CatalogError: the log cannot be read or written.
        """
        segment, state = self.target.load()
        if not is_due(segment, state):
            return UpkeepResult(self.name, 0, 0, "few versions have come since the last one")
        note = f"of version {segment.version}"
        if order.is_dry_run:
            return UpkeepResult(self.name, 1, 0, note)
        return UpkeepResult(self.name, 1, write_checkpoint(self.target, segment, state), note)


def is_due(segment: LogSegment, state: TableState) -> bool:
    """Whether as many versions have come since the last checkpoint as the table says."""
    try:
        interval = int(state.metadata.configuration.get(_INTERVAL, _INTERVAL_DEFAULT))
    except ValueError:
        interval = _INTERVAL_DEFAULT
    last = segment.checkpoint.version if segment.checkpoint else 0
    return segment.version - last >= max(1, interval)


def checkpoint_if_due(target: CommitTarget) -> None:
    """Write a checkpoint after a commit, where one is due: if it fails, the commit has not."""
    try:
        segment, state = target.current()
        tail_bytes = sum(commit.file.size_bytes for commit in segment.commits)
        if is_due(segment, state) and tail_bytes <= _TAIL_BYTES_MAX:
            write_checkpoint(target, segment, state)
    except CatalogError as fault:
        _LOG.info("no checkpoint was written: %s", fault)


def write_checkpoint(target: CommitTarget, segment: LogSegment, state: TableState) -> int:
    """Write the checkpoint of a version; return its length in bytes.

    Raises:
        UnsupportedTableError: the table wants its checkpoints otherwise than they are written.
        CatalogError: the log cannot be read or written.
    """
    if not is_set({_STATS_AS_TEXT: "true", **state.metadata.configuration}, _STATS_AS_TEXT):
        raise _no_statistics()
    final = segment.log.child(checkpoint_name(segment.version))
    with suppress(ObjectNotFoundError):
        return target.storage.size(final)  # somebody else has just written it
    content = _Content.of(target, segment, state)
    # Readers take a checkpoint for complete once they see its name.
    unfinished = segment.log.child(_unfinished_name(segment.version))
    try:
        size_bytes = _write(target.storage, unfinished, content)
        target.storage.copy(unfinished, final)
    finally:
        with suppress(CatalogError):
            target.storage.delete([unfinished])
    _point_to(target.storage, segment, content, size_bytes)
    return size_bytes


@dataclass(slots=True)
class _Content:
    """The rows of one checkpoint, and how many they are once they have been written."""

    storage: Storage
    segment: LogSegment
    tail: Reconciled
    later: pa.Table
    facts: list[tuple[str, Raw]]
    oldest_removal_ms: int
    rows: int = 0
    files: int = field(default=0)

    @staticmethod
    def of(target: CommitTarget, segment: LogSegment, state: TableState) -> _Content:
        tail = Reconciled(FileColumns(target.paths, ()))
        for part in top_parts(segment):
            for kind, raw in small_actions_of(target.storage, part):
                tail.add_fact(kind, raw)
        for commit in segment.commits:
            location = segment.locate(commit.file)
            for block in blocks(target.storage, location, commit.file.size_bytes):
                tail.apply(block, str(location))
        now_ms = int(time.time() * 1000)
        kept_seconds = interval_seconds(state.metadata.configuration, RETENTION, WEEK_SECONDS)
        return _Content(
            target.storage,
            segment,
            tail=tail,
            later=_identities(tail),
            facts=_facts(tail, state, now_ms),
            oldest_removal_ms=now_ms - int(kept_seconds * 1000),
        )

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows: small facts, what commits came to, what the checkpoint before holds."""
        for kind, raw in self.facts:
            yield rows_of(kind, [raw])
        tail = iter(self.tail.files.values())
        while lines := list(islice(tail, _TAIL_ROWS)):
            for kind, actions in _actions_of(lines):
                yield self._counted(kind, self._needed(kind, actions))
        for part in checkpoint_parts(self.storage, self.segment):
            yield from self._passed(part)

    def _passed(self, part: Part) -> Iterator[pa.Table]:
        """Yield what still holds of a part of the checkpoint before."""
        for kind, actions in _actions_in(self.storage, part):
            gone = superseded(self.tail.columns.identities(actions), self.later)
            kept = actions if gone is None else actions.filter(pc.invert(gone))
            yield self._counted(kind, self._needed(kind, kept))

    def _needed(self, kind: str, actions: pa.StructArray) -> pa.StructArray:
        if kind == "add":
            return actions
        removed_ms = pc.fill_null(pc.struct_field(actions, "deletionTimestamp"), 0)
        return actions.filter(pc.greater_equal(removed_ms, self.oldest_removal_ms))

    def _counted(self, kind: str, actions: pa.StructArray) -> pa.Table:
        self.files += len(actions) if kind == "add" else 0
        return in_column(kind, actions)


def _actions_in(storage: Storage, part: Part) -> Iterator[tuple[str, pa.StructArray]]:
    """Yield the file actions of a part by kind, batch by batch."""
    if part.is_json:
        for block in blocks(storage, part.location, part.size_bytes):
            yield from _actions_of(lines_of(block))
        return
    with opened(storage, part) as file:
        for kind, wanted in (("add", ADD), ("remove", REMOVE)):
            for batch in batches(file, _present(file, kind, wanted), part):
                actions = batch.column(kind).drop_null()
                if len(actions):
                    yield kind, in_column(kind, actions)[kind].combine_chunks()


def _actions_of(lines: Iterable[bytes]) -> Iterator[tuple[str, pa.StructArray]]:
    """Yield the file actions of lines by kind."""
    found: dict[str, list[Raw]] = {"add": [], "remove": []}
    for line in lines:
        for kind, raw in json.loads(line).items():
            if kind in found:
                found[kind].append(raw)
    for kind, raws in found.items():
        if raws:
            yield kind, rows_of(kind, raws)[kind].combine_chunks()


def _present(file: pq.ParquetFile, kind: str, wanted: pa.StructType) -> list[str]:
    if kind not in file.schema_arrow.names:
        return []
    stored = {one.name for one in file.schema_arrow.field(kind).type}
    if "stats_parsed" in stored and "stats" not in stored:
        raise _no_statistics()
    return [f"{kind}.{one.name}" for one in wanted if one.name in stored]


def _no_statistics() -> UnsupportedTableError:
    return UnsupportedTableError(
        "checkpoints of the table hold statistics as columns alone, which are not written here",
        hint=f"set {_STATS_AS_TEXT} to true, or leave checkpoints to the engine that wrote them",
    )


def _identities(tail: Reconciled) -> pa.Table:
    """Return the files that commits speak of, as those of checkpoints are told apart."""
    paths = pa.array([path for path, _ in tail.files], pa.string())
    vectors = pa.array([vector or None for _, vector in tail.files], pa.string())
    return pa.table({"path": paths, "vector": vectors})


def _facts(tail: Reconciled, state: TableState, now_ms: int) -> list[tuple[str, Raw]]:
    """Return the small actions that checkpoints keep."""
    configuration = state.metadata.configuration
    seconds = interval_seconds(configuration, _TXN_RETENTION, float("inf"))
    found = [
        (kind, raw)
        for kind, raw in tail.small_actions()
        if not (kind == "domainMetadata" and raw.get("removed"))
        and not (kind == "txn" and (raw.get("lastUpdated") or now_ms) < now_ms - seconds * 1000)
    ]
    if "v2Checkpoint" in features_of(state.protocol):
        found.append(("checkpointMetadata", {"version": state.version}))
    return found


def _write(storage: Storage, location: Location, content: _Content) -> int:
    with storage.open_output(location) as sink:
        with pq.ParquetWriter(sink, ROWS, compression="snappy") as writer:
            for group in _row_groups(content.tables()):
                content.rows += group.num_rows
                writer.write_table(group, row_group_size=_GROUP_ROWS)
        return sink.size_bytes


def _row_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Put small tables together until they make a row group."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(one.num_rows for one in waiting) >= _GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    yield pa.concat_tables([ROWS.empty_table(), *waiting])


def _point_to(storage: Storage, segment: LogSegment, content: _Content, size_bytes: int) -> None:
    """Leave the hint by which readers save themselves a listing; without it they list."""
    hint: Mapping[str, int] = {
        "version": segment.version,
        "size": content.rows,
        "sizeInBytes": size_bytes,
        "numOfAddFiles": content.files,
    }
    location = segment.log.child(_LAST)
    with suppress(CatalogError, ValueError, KeyError, TypeError):
        if json.loads(storage.read(location))["version"] > segment.version:
            return
    with suppress(CatalogError):
        storage.write(location, json.dumps(hint).encode())
        if location.is_local:
            # Hadoop's checksum of the hint before would make it look damaged to Spark.
            storage.delete([segment.log.child(f".{_LAST}.crc")])


def _unfinished_name(version: int) -> str:
    return f".{checkpoint_name(version)}.{secrets.token_hex(8)}.tmp"
