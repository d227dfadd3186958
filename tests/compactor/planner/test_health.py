"""The health of a table: what its figures say, and that the score follows them."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(-(2**63), 2**63 - 1), keys=st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_a_score_is_a_score_whatever_the_metadata_say(rows: int, keys: list[int]) -> None:
    names = tuple(f"d{number}" for number in range(len(keys)))
    files = [File(1000, rows=rows, deletes=names), File(1000, rows=rows, deletes=names)]
    deletes = [Delete(*pair) for pair in zip(names, keys, strict=True)]
    health = assess_health(by_values(inventory_of(files, deletes)), SIZES)
    assert 0 <= health.score <= 100
    assert 0 <= health.equality_delete_rows <= health.key_lookups < 2**63


def by_values(inventory: Inventory) -> Inventory:
    """Take all delete files for equality deletes."""
    place = DELETE_FILES.get_field_index("equality_ids")
    field = DELETE_FILES.field(place)
    ids = pa.array([[1]] * inventory.delete_files.num_rows, field.type)
    return Inventory(inventory.files, inventory.delete_files.set_column(place, field, ids))
