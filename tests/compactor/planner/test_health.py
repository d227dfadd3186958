"""The health of a table: what its figures say, and that the score follows them."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings

from catalog.model import DELETE_FILES, Inventory
from compactor.planner.health import assess_health
from compactor.planner.policy import GIB, MIB, FileSizes, Policy
from tests.compactor.planner.inventories import (
    TARGET,
    Delete,
    File,
    applied,
    inventories,
    inventory_of,
    plan_of,
    rolled,
)

SIZES = FileSizes(TARGET, 750, 2000)


def test_an_empty_table_is_healthy() -> None:
    health = assess_health(Inventory.empty(), SIZES)
    assert (health.score, health.reasons, health.files, health.partitions) == (100, (), 0, 0)


def test_whole_files_without_deletes_are_healthy() -> None:
    files = [File(1000, partition=f"p={n}") for n in range(5)] + [File(10, partition="p=9")]
    health = assess_health(inventory_of(files), SIZES)
    assert (health.score, health.reasons, health.small_files, health.spare_files) == (100, (), 1, 0)


def test_what_ails_a_table_is_named_and_counted() -> None:
    files = [File(10, deletes=("d0",))] * 10 + [File(3000, partition="p=1", rows=1000)] * 2
    health = assess_health(inventory_of(files, [Delete("d0", 500), Delete("d1", 5)]), SIZES)
    assert health.reasons == (
        "75% of the files are small and could be spared",
        "17% of the rows are deleted",
        "0.083 delete files per data file",
    )
    assert health.score == 45
    assert (health.files, health.partitions, health.files_per_partition_max) == (12, 2, 10)
    assert (health.small_files, health.spare_files, health.large_files) == (10, 9, 2)
    assert (health.delete_files, health.delete_bytes, health.files_with_deletes) == (1, 10, 10)
    assert (health.rows, health.deleted_rows_estimate) == (3000, 500)


def test_the_histogram_counts_every_file_once() -> None:
    sizes = [0, MIB - 1, MIB, 128 * MIB, 512 * MIB, GIB, 3 * GIB]
    health = assess_health(inventory_of([File(size) for size in sizes]), SIZES)
    assert [bucket.files for bucket in health.sizes] == [2, 1, 0, 0, 1, 1, 2]
    assert [bucket.size_bytes for bucket in health.sizes][-1] == 4 * GIB
    assert health.sizes[-1].below_bytes is None


@settings(max_examples=200, deadline=None)
@given(inventories())
def test_compaction_leaves_less_to_complain_of(inventory: Inventory) -> None:
    before = assess_health(inventory, SIZES)
    assert 0 <= before.score <= 100
    assert sum(bucket.files for bucket in before.sizes) == inventory.file_count
    plan = plan_of(inventory, Policy(delete_ratio=0, max_group_bytes=4 * TARGET))
    outputs = [(group, rolled(group.price.output_bytes_estimate)) for group in plan.groups]
    after = assess_health(applied(inventory, outputs), SIZES)
    assert after.deleted_rows_estimate == 0
    assert after.spare_files <= before.spare_files
    assert after.large_files == 0
    assert 0 <= after.score <= 100


def test_keys_that_readers_look_up_are_counted() -> None:
    files = [File(1000, deletes=("keys", "positions")), File(1000, deletes=("keys",))]
    inventory = inventory_of(files, [Delete("keys", 30), Delete("positions", 5)])
    ids = pa.array([[1], None], DELETE_FILES.field("equality_ids").type)
    place = DELETE_FILES.get_field_index("equality_ids")
    deletes = inventory.delete_files.set_column(place, DELETE_FILES.field(place), ids)
    health = assess_health(Inventory(inventory.files, deletes), SIZES)
    assert (health.equality_delete_files, health.equality_delete_rows) == (1, 30)
    assert health.key_lookups == 60
    assert health.score < assess_health(inventory, SIZES).score
    assert "60 keys to look up to read it all" in health.reasons
