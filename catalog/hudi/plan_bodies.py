"""Plans as other writers read them: compaction and clustering, from the slices of groups.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from catalog.hudi.avro_schemas import Kind
from catalog.hudi.avro_writing import container
from catalog.hudi.details import PlannedSlice
from catalog.hudi.file_names import read_name
from catalog.model import FileSlice, Inventory

_MIB = 1 << 20
_COMPACTION_VERSION = 2
# Sorts by the columns of its parameters, or keeps rows as they come where there are none.
_STRATEGY = "org.apache.hudi.client.clustering.run.strategy.SparkSortAndSizeExecutionStrategy"
_METRICS = (
    "TOTAL_LOG_FILES",
    "TOTAL_IO_MB",
    "TOTAL_IO_READ_MB",
    "TOTAL_LOG_FILES_SIZE",
    "TOTAL_IO_WRITE_MB",
)


def planned_slices(files: Inventory) -> Iterator[PlannedSlice]:
    """Yield the slices of an inventory as plans name them."""
    return map(planned_slice, files.slices())


def planned_slice(file: FileSlice) -> PlannedSlice:
    """Return a slice as plans name it."""
    named = read_name(file.path)
    logs = tuple(read_name(one.path).name for one in file.deletes)
    base = "" if named.is_log else named.name
    return PlannedSlice(
        file.partition_key, named.file_id, str(file.sequence_number), base, logs, _metrics(file)
    )


def compaction_plan(groups: Iterable[Inventory], extra: Mapping[str, str]) -> bytes:
    """Return the plan that folds the logs of every slice into its base file."""
    operations = [
        {
            "baseInstantTime": one.base_instant,
            "deltaFilePaths": list(one.log_files),
            "dataFilePath": one.base_file or None,
            "fileId": one.file_id,
            "partitionPath": one.partition_path,
            "metrics": dict(one.metrics),
        }
        for files in groups
        for one in planned_slices(files)
    ]
    plan = {
        "operations": operations,
        "extraMetadata": dict(extra),
        "version": _COMPACTION_VERSION,
        "preserveHoodieMetadata": False,
        "missingSchedulePartitions": [],
    }
    return container(Kind.COMPACTION_PLAN, [plan])


def clustering_plan(
    groups: Iterable[Inventory], extra: Mapping[str, str], *, target_bytes: int
) -> bytes:
    """Return the plan that puts new files in the place of the slices of each group."""
    plan = {
        "inputGroups": [_group(files, target_bytes) for files in groups],
        "strategy": {"strategyClassName": _STRATEGY, "strategyParams": {}},
        "extraMetadata": {},
        "preserveHoodieMetadata": True,
        "missingSchedulePartitions": [],
    }
    record = {"operationType": "CLUSTER", "clusteringPlan": plan, "extraMetadata": dict(extra)}
    return container(Kind.CLUSTERING_PLAN, [record])


def _group(files: Inventory, target_bytes: int) -> dict[str, Any]:
    slices = list(files.slices())
    totals = [_metrics(one) for one in slices]
    return {
        "slices": [_member(one) for one in slices],
        "metrics": {name: sum(one[name] for one in totals) for name in _METRICS},
        "numOutputFileGroups": max(1, -(-files.size_bytes // target_bytes)),
    }


def _member(file: FileSlice) -> dict[str, Any]:
    named = read_name(file.path)
    return {
        "dataFilePath": "" if named.is_log else file.path,
        "deltaFilePaths": [one.path for one in file.deletes],
        "fileId": named.file_id,
        "partitionPath": file.partition_key,
        "bootstrapFilePath": "",
    }


def _metrics(file: FileSlice) -> dict[str, float]:
    log_bytes = sum(one.size_bytes for one in file.deletes)
    read_mib, written_mib = (log_bytes + file.size_bytes) // _MIB, file.size_bytes // _MIB
    numbers = (len(file.deletes), read_mib + written_mib, read_mib, log_bytes, written_mib)
    return {name: float(value) for name, value in zip(_METRICS, numbers, strict=True)}
