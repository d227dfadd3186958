"""Compact the metadata table: base files out of base files and logs, so that it does not grow.

What the table itself has not committed stays out: there is no compaction while it is pending. In
layout 1 the compaction is named after the last commit, in layout 2 after the moment, and commits
that are completed later belong to the slices that it begins.

Compactions of others are left to them. One of ours that died is carried out again, by its plan.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from catalog.hudi.avro_schemas import Kind, schema_text
from catalog.hudi.avro_writing import container
from catalog.hudi.details import read_compaction_plan
from catalog.hudi.instants import InstantWriter, new_instant
from catalog.hudi.metadata_table.combining import combined
from catalog.hudi.metadata_table.hfile_writer import write_hfile
from catalog.hudi.metadata_table.reading import slice_versions
from catalog.hudi.metadata_table.record_schema import RECORD_SCHEMA
from catalog.hudi.metadata_table.table import EXTENSION, MetadataTable
from catalog.hudi.metadata_table.view import (
    MetadataSlice,
    MetadataView,
    completed_since_compaction,
    read_view,
)
from catalog.hudi.metadata_table.writing import instant_data
from catalog.hudi.timeline import Action, Instant, State, Timeline, read_instant, timeline_of

# Hudi's default.
DELTACOMMITS_MAX = 10
_MARK = "compactor"
_SUFFIX = "001"
_TOKEN_MAX = 1_000_000_000
_MEGABYTE = 1 << 20


def compact_metadata(table: MetadataTable, data: Timeline) -> bool:
    """Compact the metadata table if that is due and safe, under the lock of the table.

    Args:
        table: the metadata table.
        data: the instants of the table, read under the lock.

    Returns:
        Whether it was compacted.
    """
    view = read_view(table, data)
    pending = view.timeline.pending(Action.COMPACTION, Action.LOGCOMPACTION)
    if pending:
        return len(pending) == 1 and _finish(view, pending[0])
    commits = completed_since_compaction(view.timeline)
    if len(commits) < DELTACOMMITS_MAX or not _is_safe(view, data, commits):
        return False
    planned = [one for name in table.partitions for one in view.slices(name) if one.logs]
    writer = InstantWriter(table.storage, table.root, table.config)
    time = _time(view, data, commits)
    requested = writer.request(time, Action.COMPACTION, _plan(planned))
    _execute(view, requested, planned)
    return True


def _is_safe(view: MetadataView, data: Timeline, commits: Sequence[Instant]) -> bool:
    """Whether a compaction has all that it must have, and nothing that may be taken back."""
    pending = {one.time for one in data.pending()}
    if view.timeline.layout == 1:
        last = commits[-1].time
        is_behind = any(time <= last for time in pending)
        return not is_behind and not view.timeline.pending(Action.DELTACOMMIT)
    return pending.isdisjoint(one.time for one in view.timeline.completed(Action.DELTACOMMIT))


def _time(view: MetadataView, data: Timeline, commits: Sequence[Instant]) -> str:
    if view.timeline.layout == 1:
        return commits[-1].time + _SUFFIX
    instants = (*view.timeline.instants, *data.instants)
    # Later than both timelines: no instant of the table has the same time.
    both = timeline_of(instants, layout=view.timeline.layout)
    both = replace(both, is_clock_ahead=data.is_clock_ahead)
    return new_instant(both, view.table.config)


def _finish(view: MetadataView, pending: Instant) -> bool:
    """Carry out a compaction of ours that died; leave those of others."""
    table = view.table
    if pending.action is not Action.COMPACTION:
        return False
    name = pending.named(State.REQUESTED)
    plan = read_compaction_plan(name, read_instant(table.storage, table.root, table.config, name))
    if plan.extra.get(_MARK) is None:
        return False
    wanted = {(one.partition_path, one.file_id): one for one in plan.slices}
    planned = []
    for partition in table.partitions:
        for one in view.slices(partition):
            found = wanted.get((partition, one.file_id))
            if found is not None:
                logs = tuple(log for log in one.logs if log.location.name in found.log_files)
                planned.append(MetadataSlice(partition, one.file_id, one.instant, one.base, logs))
    leftovers = [
        one.location
        for partition in table.partitions
        for one in table.storage.list(table.root.child(partition))
        if one.location.name.endswith(f"_{pending.time}.{EXTENSION}")
    ]
    table.storage.delete(leftovers)
    _execute(view, pending, planned)
    return True


def _plan(planned: Sequence[MetadataSlice]) -> bytes:
    operations = [
        {
            "baseInstantTime": one.instant,
            "deltaFilePaths": [log.location.name for log in one.logs],
            "dataFilePath": one.base.location.name if one.base is not None else None,
            "fileId": one.file_id,
            "partitionPath": one.partition,
            "metrics": _metrics(one),
        }
        for one in planned
    ]
    plan = {
        "operations": operations,
        "extraMetadata": {_MARK: "1"},
        "version": 2,
        "preserveHoodieMetadata": False,
        "missingSchedulePartitions": [],
    }
    return container(Kind.COMPACTION_PLAN, [plan])


def _metrics(one: MetadataSlice) -> dict[str, float]:
    logs = sum(log.size_bytes for log in one.logs)
    base = one.base.size_bytes if one.base is not None else 0
    return {
        "TOTAL_LOG_FILES": float(len(one.logs)),
        "TOTAL_LOG_FILES_SIZE": float(logs),
        "TOTAL_IO_READ_MB": float((logs + base) // _MEGABYTE),
        "TOTAL_IO_WRITE_MB": float(base // _MEGABYTE),
        "TOTAL_IO_MB": float((logs + 2 * base) // _MEGABYTE),
    }


@dataclass(frozen=True, slots=True)
class _Compacted:
    """A base file that was written."""

    slice: MetadataSlice
    name: str
    size_bytes: int
    entry_count: int


def _execute(view: MetadataView, instant: Instant, planned: Sequence[MetadataSlice]) -> None:
    table = view.table
    writer = InstantWriter(table.storage, table.root, table.config)
    inflight = writer.begin(instant)
    written = [_compact(view, one, instant.time) for one in planned]
    writer.complete(inflight, _commit(table, written), table.timeline())


def _compact(view: MetadataView, one: MetadataSlice, time: str) -> _Compacted:
    name = f"{one.file_id}_0-0-{secrets.randbelow(_TOKEN_MAX)}_{time}.{EXTENSION}"
    location = view.table.root.child(one.partition, name)
    with view.table.storage.open_output(location) as output:
        count = write_hfile(output, _entries(view, one), RECORD_SCHEMA)
    return _Compacted(one, name, output.size_bytes, count)


def _entries(view: MetadataView, one: MetadataSlice) -> Iterator[tuple[bytes, bytes]]:
    version = view.table.index_version()
    for key, versions in slice_versions(view, one):
        record = combined(one.partition, versions, index_version=version)
        if record is not None:
            yield key, record


def _commit(table: MetadataTable, written: Sequence[_Compacted]) -> bytes:
    stats: dict[str, list[dict[str, Any]]] = {}
    for one in written:
        stats.setdefault(one.slice.partition, []).append(
            {
                "fileId": one.slice.file_id,
                "path": f"{one.slice.partition}/{one.name}",
                "prevCommit": one.slice.instant,
                "numWrites": one.entry_count,
                "totalWriteBytes": one.size_bytes,
                "partitionPath": one.slice.partition,
                "fileSizeInBytes": one.size_bytes,
                "totalLogFilesCompacted": len(one.slice.logs),
                "totalLogSizeCompacted": sum(log.size_bytes for log in one.slice.logs),
                "prevBaseFile": one.slice.base.location.name
                if one.slice.base is not None
                else None,
            }
        )
    return instant_data(
        table,
        {
            "partitionToWriteStats": stats,
            "compacted": True,
            "extraMetadata": {"schema": schema_text(Kind.METADATA)},
            "operationType": "COMPACT",
        },
    )
