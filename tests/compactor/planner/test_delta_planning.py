"""Plans of Delta tables: deletion vectors are purged by the share of rows that they delete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog.delta.deletion_vectors import inline_vector
from catalog.delta.table import DeltaTable
from catalog.location import Location
from compactor.jobs.planning import plan_table
from compactor.planner.health import assess_health
from compactor.planner.plan import Plan
from compactor.planner.policy import Policy
from tests.catalog.delta.logs import HandWritten, add, column, features, metadata

TARGET_BYTES = 100 << 20
PROPERTIES = {"delta.targetFileSize": str(TARGET_BYTES)}


def file_with(deleted: int, path: str = "a", **fields: Any) -> dict[str, Any]:
    """Return a file of the wanted size, 1,000 rows, and so many deleted."""
    vector = inline_vector(np.arange(deleted))
    said = {
        "storageType": vector.storage_type,
        "pathOrInlineDv": vector.path_or_inline,
        "sizeInBytes": vector.size_bytes,
        "cardinality": vector.cardinality,
    }
    deletes = {"deletionVector": said} if deleted else {}
    return add(path, rows=1000, size=TARGET_BYTES, **deletes, **fields)


def opened(directory: Path, *files: dict[str, Any], partitions: tuple[str, ...] = ()) -> DeltaTable:
    columns = column("id"), column("k", "string")
    table = metadata(*columns, partitions=partitions, configuration=PROPERTIES)
    HandWritten(directory).commit(0, features(readers=["deletionVectors"]), table, *files)
    return DeltaTable("t", Location.parse(str(directory)), {})


def plan(table: DeltaTable, **policy: Any) -> Plan:
    return plan_table(table, Policy(**policy), now_ms=0)


@pytest.mark.parametrize(("deleted", "is_purged"), [(0, False), (99, False), (100, True)])
def test_vectors_are_purged_from_a_share_of_rows_on(
    tmp_path: Path, deleted: int, is_purged: bool
) -> None:
    found = plan(opened(tmp_path, file_with(deleted), file_with(0, "b")), delete_ratio=0.1)

    assert len(found.groups) == is_purged
    assert [group.files.file_count for group in found.groups] == [1] * is_purged


def test_health_counts_the_rows_that_vectors_delete(tmp_path: Path) -> None:
    table = opened(tmp_path, file_with(400), file_with(0, "b"))
    snapshot = table.snapshot()
    sizes = Policy().file_sizes(table.files(snapshot).layout.target_file_size_bytes)
    health = assess_health(table.inventory(snapshot), sizes)

    assert (health.files, health.rows, health.delete_files) == (2, 2000, 1)
    assert health.deleted_rows_estimate == 400
    assert sizes.target_bytes == TARGET_BYTES


def test_files_of_other_partitions_are_not_put_together(tmp_path: Path) -> None:
    small = [
        add(f"{value}-{number}", partitionValues={"k": value}, modificationTime=number)
        for number in range(6)
        for value in ("x", "", None, "ü")
    ]
    found = plan(opened(tmp_path, *small, partitions=("k",)), min_input_files=2)

    assert {group.partition: group.files.file_count for group in found.groups} == {
        "k=x": 6,
        "k=": 6,  # null to some readers, but not to all
        "k=null": 6,
        "k=ü": 6,
    }
    for group in found.groups:
        times = group.files.files["written_at_ms"].to_pylist()
        assert times == sorted(times)
