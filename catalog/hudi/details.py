"""What instants say: what a commit wrote, what a plan wants to be done.  Pure.

Commits are JSON until version 6 and Avro since 8, where old ones may have been taken over as they
were; plans are Avro in all versions. What a field means is the same in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from catalog.avro.container import MAGIC, AvroFile
from catalog.errors import CorruptTableError

# Most of a commit's bytes, and nobody asks for them.
_UNWANTED = frozenset(("runtimeStats", "cdcStats", "recordsStats"))


@dataclass(frozen=True, slots=True)
class WriteStat:
    """What a commit wrote to one file group.

    Attributes:
        file_id: of the file group.
        path: of the file that was written, below the table; the last log file of several.
        partition_path: empty for an unpartitioned table.
        row_count: rows that the file holds, where it is a base file; else records written.
        deleted_count: records that were deleted.
        updated_count: records that were updated.
        inserted_count: records that were new.
        size_bytes: of the file.
        base_file: name of the base file that log files belong to; empty where unknown.
        log_files: names of the log files that were written.
    """

    file_id: str
    path: str
    partition_path: str
    row_count: int
    deleted_count: int
    updated_count: int
    inserted_count: int
    size_bytes: int
    base_file: str
    log_files: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the file at `path`."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class CommitDetails:
    """What a completed commit did.

    Attributes:
        write_stats: what it wrote, in the order of partitions.
        replaced: by partition path, ids of the file groups that it replaced.
        operation: `UPSERT`, `COMPACT`, `CLUSTER` and the like; empty where it is not said.
        is_compacted: whether it is a compaction.
        extra: further pairs, such as `schema`.
    """

    write_stats: tuple[WriteStat, ...]
    replaced: Mapping[str, tuple[str, ...]]
    operation: str
    is_compacted: bool
    extra: Mapping[str, str]

    @property
    def schema(self) -> str:
        """The Avro schema of the rows, as text; empty where the commit does not say."""
        return self.extra.get("schema") or ""


@dataclass(frozen=True, slots=True)
class PlannedSlice:
    """A file slice in a plan.

    Attributes:
        partition_path: empty for an unpartitioned table.
        file_id: of its file group.
        base_instant: of the slice; empty where the plan does not say.
        base_file: name of its base file; empty for none.
        log_files: names of its log files.
        metrics: what the planner expected.
    """

    partition_path: str
    file_id: str
    base_instant: str
    base_file: str
    log_files: tuple[str, ...]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """What a compaction or a log compaction is to do.

    Attributes:
        slices: those to be compacted.
        extra: further pairs.
        strategy: name of the class that made the plan; empty where it is not said.
    """

    slices: tuple[PlannedSlice, ...]
    extra: Mapping[str, str]
    strategy: str


@dataclass(frozen=True, slots=True)
class ClusteringPlan:
    """What a clustering is to do.

    Attributes:
        groups: slices that become new file groups together, and how many of these.
        strategy: name of the class that carries it out.
        parameters: of the strategy, such as the columns to sort by.
        extra: further pairs, of the plan and of what surrounds it.
        preserves_metadata: whether rows keep their meta columns.
    """

    groups: tuple[tuple[tuple[PlannedSlice, ...], int], ...]
    strategy: str
    parameters: Mapping[str, str]
    extra: Mapping[str, str]
    preserves_metadata: bool

    @property
    def slices(self) -> tuple[PlannedSlice, ...]:
        """All slices that are to be replaced."""
        return tuple(one for slices, _ in self.groups for one in slices)


def instant_record(
    name: str, data: bytes, *, unwanted: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Return what a file of an instant says, whether it is Avro or JSON; nothing if it is empty.

    Args:
        name: what the file is called in errors.
        data: the whole file.
        unwanted: names of fields that are stepped over where that saves time.

    Raises:
        CorruptTableError: it does not decode.
    """
    if not data:
        return {}
    if data.startswith(MAGIC):
        return AvroFile.parse(name, data).the_record(unwanted=unwanted)
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise CorruptTableError(f"{name} is neither Avro nor JSON: {error}") from error
    if not isinstance(found, dict):
        raise CorruptTableError(f"{name} holds no record")
    return found


def read_commit(name: str, data: bytes) -> CommitDetails:
    """Read a completed commit, deltacommit or replacecommit; an empty file did nothing.

    Raises:
        CorruptTableError: it does not decode.
    """
    return commit_details(instant_record(name, data, unwanted=_UNWANTED))


def commit_details(record: Mapping[str, Any]) -> CommitDetails:
    """Return what the record of a commit says."""
    stats = _pairs(record.get("partitionToWriteStats"))
    replaced = _pairs(record.get("partitionToReplaceFileIds"))
    return CommitDetails(
        write_stats=tuple(
            _write_stat(partition, stat) for partition in stats for stat in stats[partition] or ()
        ),
        replaced={path: tuple(ids or ()) for path, ids in replaced.items()},
        operation=record.get("operationType") or "",
        is_compacted=bool(record.get("compacted")),
        extra=_texts(record.get("extraMetadata")),
    )


def read_compaction_plan(name: str, data: bytes) -> CompactionPlan:
    """Read a requested compaction or log compaction.

    Raises:
        CorruptTableError: it does not decode.
    """
    record = instant_record(name, data, unwanted=_UNWANTED)
    return CompactionPlan(
        slices=tuple(_planned(one) for one in record.get("operations") or ()),
        extra=_texts(record.get("extraMetadata")),
        strategy=_pairs(record.get("strategy")).get("compactorClassName") or "",
    )


def read_clustering_plan(name: str, data: bytes) -> ClusteringPlan | None:
    """Read a requested clustering; None for a replacement that is none, which has no plan.

    Raises:
        CorruptTableError: it does not decode.
    """
    record = instant_record(name, data, unwanted=_UNWANTED)
    plan = record.get("clusteringPlan")
    if not plan:
        return None
    strategy = _pairs(plan.get("strategy"))
    groups = (
        (tuple(_planned(one) for one in group.get("slices") or ()), group["numOutputFileGroups"])
        for group in plan.get("inputGroups") or ()
    )
    return ClusteringPlan(
        groups=tuple((slices, count or 0) for slices, count in groups),
        strategy=strategy.get("strategyClassName") or "",
        parameters=_texts(strategy.get("strategyParams")),
        extra=_texts({**_pairs(record.get("extraMetadata")), **_pairs(plan.get("extraMetadata"))}),
        preserves_metadata=bool(plan.get("preserveHoodieMetadata")),
    )


def _write_stat(partition: str, stat: Mapping[str, Any]) -> WriteStat:
    return WriteStat(
        file_id=stat.get("fileId") or "",
        path=stat.get("path") or "",
        partition_path=partition,
        row_count=stat.get("numWrites") or 0,
        deleted_count=stat.get("numDeletes") or 0,
        updated_count=stat.get("numUpdateWrites") or 0,
        inserted_count=stat.get("numInserts") or 0,
        size_bytes=stat.get("fileSizeInBytes") or 0,
        base_file=stat.get("baseFile") or "",
        log_files=tuple(stat.get("logFiles") or ()),
    )


def _planned(one: Mapping[str, Any]) -> PlannedSlice:
    return PlannedSlice(
        partition_path=one.get("partitionPath") or "",
        file_id=one.get("fileId") or "",
        base_instant=one.get("baseInstantTime") or "",
        # Old plans have whole paths, new ones names.
        base_file=_name(one.get("dataFilePath")),
        log_files=tuple(_name(path) for path in one.get("deltaFilePaths") or ()),
        metrics=dict(one.get("metrics") or {}),
    )


def _name(path: str | None) -> str:
    return (path or "").rpartition("/")[2]


def _pairs(found: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return found or {}


def _texts(found: Mapping[str, Any] | None) -> Mapping[str, str]:
    return {key: "" if value is None else str(value) for key, value in _pairs(found).items()}
