"""Compactions and clusterings put together by hand: the metadata table is judged on its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.hudi.avro_schemas import Kind
from catalog.hudi.avro_writing import container
from catalog.hudi.bloom import ENTRIES, FALSE_POSITIVES, FilterKind, FilterShape, KeyFilter
from catalog.hudi.config import TableConfig, parse_properties, table_config
from catalog.hudi.details import CommitDetails, read_commit
from catalog.hudi.instants import InstantWriter, new_instant
from catalog.hudi.metadata_table.change import AddedFile, MetadataChange
from catalog.hudi.metadata_table.column_ranges import footer_ranges
from catalog.hudi.metadata_table.reading import read_listing
from catalog.hudi.metadata_table.table import MetadataTable, Operation, open_metadata_table
from catalog.hudi.metadata_table.writing import write_metadata
from catalog.hudi.slices import Slices, View, file_slices
from catalog.hudi.timeline import Action, Instant, Timeline, read_instant, read_timeline
from catalog.location import Location
from catalog.storage import Storage


@dataclass(frozen=True, slots=True)
class Opened:
    """A table on disk."""

    path: Path
    root: Location
    config: TableConfig
    metadata: MetadataTable
    storage: Storage

    @staticmethod
    def at(path: Path) -> Opened:
        """Open a table that has a metadata table."""
        storage, root = Storage(), Location.parse(str(path))
        text = (path / ".hoodie" / "hoodie.properties").read_text("latin-1")
        config = table_config(parse_properties(text))
        metadata = open_metadata_table(storage, root, config)
        assert metadata is not None
        return Opened(path, root, config, metadata, storage)

    def timeline(self) -> Timeline:
        """Read the instants of the table."""
        return read_timeline(self.storage, self.root, self.config)

    def listing(self) -> pa.Table:
        """Return the listing of the metadata table, in order."""
        keys = [("partition_path", "ascending"), ("name", "ascending")]
        return read_listing(self.metadata, self.timeline()).sort_by(keys)

    def slices(self) -> Slices:
        """Return the slices that readers see."""
        timeline = self.timeline()
        replaced = frozenset(
            (partition, file_id)
            for instant in timeline.completed(Action.REPLACECOMMIT)
            for partition, ids in self.details(instant).replaced.items()
            for file_id in ids
        )
        return file_slices(self.listing(), View(timeline, replaced=replaced))

    def details(self, instant: Instant) -> CommitDetails:
        """Return what a commit did."""
        data = read_instant(self.storage, self.root, self.config, instant.file_name)
        return read_commit(instant.file_name, data)

    def schema(self) -> str:
        """Return the schema that the last commit names."""
        commits = [one for one in self.timeline().completed() if one.action in _WRITES]
        return self.details(commits[-1]).schema


# What Spark asks of a plan that it carries out.
METRICS = dict.fromkeys(
    (
        "TOTAL_LOG_FILES",
        "TOTAL_LOG_FILES_SIZE",
        "TOTAL_IO_READ_MB",
        "TOTAL_IO_WRITE_MB",
        "TOTAL_IO_MB",
    ),
    1.0,
)
_WRITES = (Action.COMMIT, Action.DELTACOMMIT, Action.REPLACECOMMIT)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A commit whose files are written and that is inflight."""

    opened: Opened
    instant: Instant
    change: MetadataChange
    commit: bytes

    def write_metadata(self) -> None:
        """Commit to the metadata table."""
        write_metadata(
            self.opened.metadata,
            self.opened.timeline(),
            instant=self.instant.time,
            change=self.change,
        )

    def complete(self) -> None:
        """Commit to the table."""
        opened = self.opened
        writer = InstantWriter(opened.storage, opened.root, opened.config)
        writer.complete(self.instant, self.commit, opened.timeline())


def compaction(opened: Opened, rows: pa.Table) -> Prepared:
    """Prepare a compaction of all slices that have logs.

    Args:
        opened: the table.
        rows: what the table holds, meta columns included.
    """
    slices = [one for one in opened.slices().slices.to_pylist() if one["logs"]]
    logs = opened.slices().logs["name"].to_pylist()
    time = _time(opened)
    writer = InstantWriter(opened.storage, opened.root, opened.config)
    operations = [
        {
            "baseInstantTime": one["instant"],
            "deltaFilePaths": [logs[number] for number in one["logs"]],
            "dataFilePath": one["base_name"],
            "fileId": one["file_id"],
            "partitionPath": one["partition_path"],
            "metrics": METRICS,
        }
        for one in slices
    ]
    plan = container(Kind.COMPACTION_PLAN, [{"operations": operations, "version": 2}])
    instant = writer.begin(writer.request(time, Action.COMPACTION, plan))
    added = [
        _write_base(opened, time, (one["partition_path"], one["file_id"]), _of(rows, one))
        for one in slices
    ]
    change = _change(opened, Operation.COMPACTION, added, {})
    return Prepared(opened, instant, change, _commit(opened, change, {}))


def clustering(opened: Opened, rows: pa.Table) -> Prepared:
    """Prepare a clustering that makes one file group of each partition's."""
    slices = opened.slices().slices.to_pylist()
    time = _time(opened)
    writer = InstantWriter(opened.storage, opened.root, opened.config)
    action = Action.CLUSTERING if opened.config.layout > 1 else Action.REPLACECOMMIT
    replaced: dict[str, list[str]] = {}
    for one in slices:
        replaced.setdefault(one["partition_path"], []).append(one["file_id"])
    plan = _clustering_plan(opened, slices)
    instant = writer.begin(writer.request(time, action, plan))
    added = [
        _write_base(opened, time, (path, f"{uuid4()}-0"), _in_partition(rows, path))
        for path in replaced
    ]
    change = _change(opened, Operation.CLUSTERING, added, replaced)
    return Prepared(opened, instant, change, _commit(opened, change, replaced))


def _clustering_plan(opened: Opened, slices: list[dict[str, Any]]) -> bytes:
    logs = opened.slices().logs["name"].to_pylist()
    groups: dict[str, list[dict[str, object]]] = {}
    for one in slices:
        folder = f"{opened.path}/{one['partition_path']}"
        groups.setdefault(one["partition_path"], []).append(
            {
                "dataFilePath": f"{folder}/{one['base_name']}" if one["base_name"] else "",
                "deltaFilePaths": [f"{folder}/{logs[number]}" for number in one["logs"]],
                "fileId": one["file_id"],
                "partitionPath": one["partition_path"],
                "bootstrapFilePath": "",
                "version": 1,
            }
        )
    strategy = "org.apache.hudi.client.clustering.run.strategy.SparkSortAndSizeExecutionStrategy"
    plan = {
        "inputGroups": [
            {"slices": one, "metrics": METRICS, "numOutputFileGroups": 1, "version": 1}
            for one in groups.values()
        ],
        "strategy": {"strategyClassName": strategy, "strategyParams": {}, "version": 1},
        "extraMetadata": {},
        "version": 1,
        "preserveHoodieMetadata": True,
    }
    requested = {
        "operationType": "CLUSTER",
        "clusteringPlan": plan,
        "extraMetadata": {},
        "version": 1,
    }
    return container(Kind.CLUSTERING_PLAN, [requested])


def _time(opened: Opened) -> str:
    return new_instant(opened.timeline(), opened.config, now=datetime.now(UTC))


def _of(rows: pa.Table, one: dict[str, str]) -> pa.Table:
    mine = pc.starts_with(rows["_hoodie_file_name"], pattern=one["file_id"])
    logged = pc.starts_with(rows["_hoodie_file_name"], pattern=f".{one['file_id']}")
    return rows.filter(pc.or_(mine, logged))


def _in_partition(rows: pa.Table, path: str) -> pa.Table:
    return rows.filter(pc.equal(rows["_hoodie_partition_path"], path))


def _write_base(opened: Opened, time: str, group: tuple[str, str], rows: pa.Table) -> AddedFile:
    path, file_id = group
    name = f"{file_id}_0-0-0_{time}.parquet"
    folder = opened.path / path
    at = rows.schema.get_field_index("_hoodie_file_name")
    named = pa.array([name] * rows.num_rows, pa.string())
    rows = rows.set_column(at, rows.schema.field(at), named).replace_schema_metadata(None)
    keys = KeyFilter(
        FilterShape.of(FilterKind.DYNAMIC, entries=ENTRIES, false_positives=FALSE_POSITIVES)
    )
    keys.add(rows["_hoodie_record_key"].combine_chunks())
    texts = sorted(rows["_hoodie_record_key"].to_pylist())
    notes = {
        "org.apache.hudi.bloomfilter": keys.encode(),
        "hoodie_bloom_filter_type_code": str(FilterKind.DYNAMIC),
        "hoodie_min_record_key": texts[0],
        "hoodie_max_record_key": texts[-1],
    }
    with pq.ParquetWriter(folder / name, rows.schema, store_schema=False) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata(notes)
    ranges = footer_ranges(pq.read_metadata(folder / name))
    return AddedFile(path, name, (folder / name).stat().st_size, file_id, None, ranges)


def _change(
    opened: Opened,
    operation: Operation,
    added: list[AddedFile],
    replaced: dict[str, list[str]],
) -> MetadataChange:
    live: dict[str, set[str]] = {}
    for path, file_id, name in _files(opened):
        is_gone = any(one.file_id == file_id for one in added) or file_id in replaced.get(path, ())
        if not is_gone:
            live.setdefault(path, set()).add(name)
    for one in added:
        live.setdefault(one.partition_path, set()).add(one.name)
    return MetadataChange(
        operation,
        tuple(added),
        live={path: frozenset(names) for path, names in live.items()},
        schema=opened.schema(),
    )


def _files(opened: Opened) -> Iterator[tuple[str, str, str]]:
    found = opened.slices()
    logs = found.logs["name"].to_pylist()
    for one in found.slices.to_pylist():
        names = [logs[number] for number in one["logs"]]
        if one["base_name"] is not None:
            names.append(one["base_name"])
        yield from ((one["partition_path"], one["file_id"], name) for name in names)


def _commit(opened: Opened, change: MetadataChange, replaced: dict[str, list[str]]) -> bytes:
    stats: dict[str, list[dict[str, object]]] = {}
    for one in change.added:
        rows = pq.read_metadata(opened.path / one.path).num_rows
        stats.setdefault(one.partition_path, []).append(
            {
                "fileId": one.file_id,
                "path": one.path,
                "prevCommit": "null",
                "numWrites": rows,
                "numInserts": rows if replaced else 0,
                "partitionPath": one.partition_path,
                "totalWriteBytes": one.size_bytes,
                "fileSizeInBytes": one.size_bytes,
            }
        )
    commit: dict[str, object] = {
        "partitionToWriteStats": stats,
        "compacted": not replaced,
        "extraMetadata": {"schema": change.schema},
        "operationType": "CLUSTER" if replaced else "COMPACT",
    }
    if replaced:
        commit["partitionToReplaceFileIds"] = replaced
    if opened.config.layout == 1:
        return json.dumps(commit).encode()
    return container(Kind.REPLACE_COMMIT if replaced else Kind.COMMIT, [commit])


def as_upsert(prepared: Prepared) -> Prepared:
    """Return the same files as those of an upsert."""
    return replace(prepared, change=replace(prepared.change, operation=Operation.UPSERT))
