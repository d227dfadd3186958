"""The counters in the summary of a snapshot of ours.

The library counts appends, overwrites and deletes only; whatever we add and remove is counted as
for an overwrite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import (
    Operation,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)

from catalog.iceberg.commit_properties import partition_summaries_max
from catalog.iceberg.data_file import DataFile
from catalog.iceberg.head import schema_for


def counted_summary(
    metadata: TableMetadata,
    *,
    added: Sequence[DataFile],
    removed: Sequence[DataFile],
    properties: Mapping[str, str],
) -> dict[str, str]:
    """Return the summary of a snapshot that follows the current one, its operation left out."""
    collector = SnapshotSummaryCollector(partition_summaries_max(metadata.properties))
    specs = metadata.specs()
    for file in added:
        spec = specs[file.spec_id]
        collector.add_file(file, schema_for(metadata, spec), spec)
    for file in removed:
        spec = specs[file.spec_id]
        collector.remove_file(file, schema_for(metadata, spec), spec)
    parent = metadata.current_snapshot()
    counted = update_snapshot_summaries(
        Summary(Operation.OVERWRITE, **collector.build()),
        parent.summary if parent else None,
    )
    return {**properties, **counted.additional_properties, **_vectors(added, removed)}


def _vectors(added: Sequence[DataFile], removed: Sequence[DataFile]) -> dict[str, str]:
    """Count deletion vectors, which the library takes for files of positions."""
    counts = {
        name: sum(one.content_offset is not None for one in files)
        for name, files in (("added-dvs", added), ("removed-dvs", removed))
    }
    return {name: str(count) for name, count in counts.items() if count}
