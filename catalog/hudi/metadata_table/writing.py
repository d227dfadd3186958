"""Commit to the metadata table what a commit changes in the table, before the table is committed.

The order keeps readers right whatever dies when: they pass over what an instant wrote here as long
as the instant is pending in the table. The next try of the instant removes what the last one left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from catalog.hudi.avro_schemas import Kind, schema_text
from catalog.hudi.avro_writing import container
from catalog.hudi.instants import InstantWriter
from catalog.hudi.metadata_table.building import (
    Records,
    bloom_records,
    column_stats_records,
    indexed_columns,
    listing_records,
    partition_stats_records,
)
from catalog.hudi.metadata_table.change import MetadataChange
from catalog.hudi.metadata_table.log_writing import PartitionWriter, WrittenLog
from catalog.hudi.metadata_table.record_index import placed_keys
from catalog.hudi.metadata_table.removal import remove_instant
from catalog.hudi.metadata_table.table import (
    BLOOM_FILTERS,
    COLUMN_STATS,
    FILES,
    PARTITION_STATS,
    RECORD_INDEX,
    MetadataTable,
)
from catalog.hudi.metadata_table.view import MetadataView, read_view
from catalog.hudi.timeline import Action, Timeline

_OPERATION = "UPSERT_PREPPED"


def write_metadata(
    table: MetadataTable, data: Timeline, *, instant: str, change: MetadataChange
) -> None:
    """Commit a change to the metadata table, under the lock of the table.

    Args:
        table: the metadata table.
        data: the instants of the table, read under the lock; this one is inflight there.
        instant: of the change.
        change: what the table is about to commit.

    Raises:
        UnsupportedTableError: an index cannot be kept right; nothing was written.
        CorruptTableError: the metadata table cannot be read.
        ValueError: the instant is not pending in the table: what it wrote would be taken back.
    """
    if all(one.time != instant for one in data.pending()):
        raise ValueError(f"{instant} is not pending in the table")
    table.require_writable(change.operation)
    remove_instant(table, instant)
    view = read_view(table, data)
    writer = InstantWriter(table.storage, table.root, table.config)
    requested = writer.request(instant, Action.DELTACOMMIT)
    inflight = writer.begin(requested, commit_data(table, []))
    logs = [log for write in _parts(view, change, instant) for log in write()]
    writer.complete(inflight, commit_data(table, logs), table.timeline())


def _parts(
    view: MetadataView, change: MetadataChange, instant: str
) -> Iterator[Callable[[], list[WrittenLog]]]:
    """Yield what writes to each partition, one at a time: records are made when they are due."""
    kept = view.table.partitions
    columns: tuple[str, ...] = ()
    if COLUMN_STATS in kept:
        columns = indexed_columns(view, change.schema)
        yield lambda: _write(
            view, COLUMN_STATS, instant, column_stats_records(view, change, columns)
        )
    if PARTITION_STATS in kept and change.added:
        yield lambda: _write(
            view,
            PARTITION_STATS,
            instant,
            partition_stats_records(view, change, columns, instant),
        )
    if BLOOM_FILTERS in kept:
        yield lambda: _write(view, BLOOM_FILTERS, instant, bloom_records(view, change, instant))
    if RECORD_INDEX in kept:
        yield lambda: _write_record_index(view, change, instant)
    yield lambda: _write(view, FILES, instant, listing_records(change))


def _write(view: MetadataView, partition: str, instant: str, records: Records) -> list[WrittenLog]:
    if not records.entries and not records.deleted:
        return []
    with _partition_writer(view, partition, instant) as writer:
        writer.delete(records.deleted)
        writer.add(records.entries)
        return writer.finish()


def _write_record_index(
    view: MetadataView, change: MetadataChange, instant: str
) -> list[WrittenLog]:
    """Write where rows are: to one set of file groups, or to that of each partition."""
    is_divided = view.table.is_record_index_divided
    with ExitStack() as opened:
        writers: dict[str | None, PartitionWriter] = {}
        for placed in placed_keys(view.table, change, instant):
            owner = placed.partition_path if is_divided else None
            if owner not in writers:
                writing = _partition_writer(view, RECORD_INDEX, instant, owner=owner)
                writers[owner] = opened.enter_context(writing)
            if placed.record is None:
                writers[owner].delete(placed.keys)
            else:
                writers[owner].add(dict.fromkeys(placed.keys, placed.record))
        return [log for writer in writers.values() for log in writer.finish()]


@contextmanager
def _partition_writer(
    view: MetadataView, partition: str, instant: str, *, owner: str | None = None
) -> Iterator[PartitionWriter]:
    writer = PartitionWriter(view, partition, instant, owner=owner)
    try:
        yield writer
    except BaseException:  # interruptions too: nobody knows of its files yet
        writer.abort()
        raise


def commit_data(table: MetadataTable, logs: Sequence[WrittenLog]) -> bytes:
    """Return what a deltacommit of the metadata table says that it wrote."""
    stats: dict[str, list[dict[str, Any]]] = {}
    for log in logs:
        stats.setdefault(log.partition, []).append(_write_stat(log))
    return instant_data(
        table,
        {
            "partitionToWriteStats": stats,
            "compacted": False,
            "extraMetadata": {"schema": schema_text(Kind.METADATA)},
            "operationType": _OPERATION,
        },
    )


def instant_data(table: MetadataTable, commit: dict[str, Any]) -> bytes:
    """Return a commit in the form of the table's version."""
    if table.config.layout > 1:
        return container(Kind.COMMIT, [commit])
    return json.dumps(commit, indent=2).encode()


def _write_stat(log: WrittenLog) -> dict[str, Any]:
    return {
        "fileId": log.file_id,
        "path": f"{log.partition}/{log.name}",
        "prevCommit": log.slice_instant,
        "numWrites": log.entry_count,
        "numDeletes": log.deleted_count,
        "numUpdateWrites": log.entry_count,
        "totalWriteBytes": log.size_bytes,
        "partitionPath": log.partition,
        "fileSizeInBytes": log.size_bytes,
        "logVersion": int(log.name.partition(".log.")[2].partition("_")[0]),
        "logOffset": 0,
        "baseFile": "",
        "logFiles": [log.name],
    }
