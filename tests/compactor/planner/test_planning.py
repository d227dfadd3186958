"""What every plan must keep, whatever the table, and what planning decides in plain cases."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.model import Inventory
from compactor.planner.columns import read_columns
from compactor.planner.plan import Plan
from compactor.planner.planning import make_plan
from compactor.planner.policy import Order, Policy
from compactor.planner.select import select_candidates
from tests.compactor.planner.inventories import (
    NOW_MS,
    TARGET,
    Delete,
    File,
    applied,
    inventories,
    inventory_of,
    permuted,
    plan_of,
    policies,
    read_files,
    replaced_paths,
    rolled,
    state_of,
)


def kept_bytes(plan: Plan) -> list[int]:
    return [group.price.output_bytes_estimate for group in plan.groups]


@settings(max_examples=300, deadline=None)
@given(inventories(), policies(), st.data())
def test_planning_again_after_applying_yields_nothing(
    inventory: Inventory, policy: Policy, data: st.DataObject
) -> None:
    plan = plan_of(inventory, policy)
    share = st.floats(0.6, 1.1)
    outputs = [
        (group, rolled(group.price.output_bytes_estimate * data.draw(share), data.draw))
        for group in plan.groups
    ]
    again = plan_of(applied(inventory, outputs), policy)
    assert [(group.partition, group.reason) for group in again.groups] == []


@settings(max_examples=200, deadline=None)
@given(inventories(), policies())
def test_every_selected_file_is_in_exactly_one_group_of_its_partition(
    inventory: Inventory, policy: Policy
) -> None:
    plan = plan_of(inventory, policy)
    columns = read_columns(inventory)
    candidates = select_candidates(columns, policy, sizes=policy.file_sizes(TARGET), now_ms=NOW_MS)
    selected = columns.paths.filter(candidates.is_selected).to_pylist()
    assert sorted(replaced_paths(plan)) == sorted(selected)
    for group in plan.groups:
        assert set(group.files.files["partition_key"].to_pylist()) == {group.partition_key}
        assert set(group.files.files["partition"].to_pylist()) == {group.partition}


@settings(max_examples=200, deadline=None)
@given(inventories(), policies(), st.sampled_from([None, 1, 3000, 10**9]))
def test_kept_and_grouped_are_all(
    inventory: Inventory, policy: Policy, max_job_bytes: int | None
) -> None:
    plan = plan_of(inventory, replace(policy, max_job_bytes=max_job_bytes))
    totals = plan.totals()
    assert plan.kept_files + totals.files == inventory.file_count
    assert plan.kept_bytes + totals.price.input_bytes == inventory.size_bytes
    assert sum(skipped.files for skipped in plan.skipped) <= plan.kept_files
    assert len({group.group_id for group in plan.groups}) == len(plan.groups)
    assert len({(s.partition, s.reason) for s in plan.skipped}) == len(plan.skipped)
    if max_job_bytes is not None:
        assert totals.price.input_bytes <= max_job_bytes


@settings(max_examples=200, deadline=None)
@given(inventories(), policies(), st.integers(0, 2**32))
def test_equal_tables_get_equal_plans_in_whatever_order_their_rows_come(
    inventory: Inventory, policy: Policy, seed: int
) -> None:
    assert plan_of(inventory, policy) == plan_of(permuted(inventory, seed), policy)


@settings(max_examples=200, deadline=None)
@given(inventories(), policies())
def test_a_group_exceeds_the_limit_only_where_less_would_not_fill_a_file(
    inventory: Inventory, policy: Policy
) -> None:
    for group in plan_of(inventory, policy).groups:
        sizes = group.files.files["size_bytes"].to_pylist()
        if sum(sizes) <= policy.max_group_bytes:
            continue
        # It joined one lone file, or was filled: less than a file, the one that filled it, a tail.
        fills_bytes = policy.small_file_ratio * TARGET / 0.6 + 1
        kept_bytes = group.price.output_bytes_estimate
        assert sum(sizes[:-1]) <= policy.max_group_bytes or (
            kept_bytes - max(sizes) <= 2 * fills_bytes
        )


@settings(max_examples=200, deadline=None)
@given(inventories(), policies())
def test_every_group_gains_something(inventory: Inventory, policy: Policy) -> None:
    for group in plan_of(inventory, policy).groups:
        fewer = group.output_files_estimate < group.files.file_count
        has_deletes = group.files.delete_files.num_rows > 0
        splits = max(group.files.files["size_bytes"].to_pylist()) > policy.large_file_ratio * TARGET
        assert fewer or has_deletes or splits
        assert group.reason


@settings(max_examples=200, deadline=None)
@given(inventories(), policies())
def test_groups_hold_their_slices_in_order_and_as_they_are(
    inventory: Inventory, policy: Policy
) -> None:
    files, deletes = read_files(inventory)
    known = {file.path: file for file in files}
    rows = {delete.path: delete for delete in deletes}
    for group in plan_of(inventory, policy).groups:
        found, found_deletes = read_files(group.files)
        keys = [(file.sequence, file.path) for file in found]
        assert keys == sorted(keys)
        for file in found:
            assert replace(file, deletes=()) == replace(known[file.path], deletes=())
            assert Counter(file.deletes) == Counter(known[file.path].deletes)
        assert {delete.path for delete in found_deletes} == {d for f in found for d in f.deletes}
        assert all(rows[delete.path] == delete for delete in found_deletes)


@settings(max_examples=100, deadline=None)
@given(inventories(), policies(), st.integers(500, 5000), st.data())
def test_a_budget_is_worked_off_in_a_few_rounds(
    inventory: Inventory, policy: Policy, budget: int, data: st.DataObject
) -> None:
    policy = replace(policy, max_job_bytes=budget)
    before = inventory
    for _ in range(60):
        plan = plan_of(before, policy)
        if not plan.groups:
            break
        before = applied(
            before,
            [
                (group, rolled(group.price.output_bytes_estimate * data.draw(st.floats(0.6, 1.1))))
                for group in plan.groups
            ],
        )
    assert not plan_of(before, policy).groups


def test_a_partition_is_split_evenly_without_a_tiny_last_group() -> None:
    inventory = inventory_of([File(100) for _ in range(81)])
    groups = plan_of(inventory).groups
    assert sorted(group.price.input_bytes for group in groups) == [2700, 2700, 2700]


def test_a_lone_small_file_at_the_end_joins_its_neighbour() -> None:
    # Two are within the limit and fill a file; no split leaves two for the rest.
    (group,) = plan_of(inventory_of([File(700)] * 3), Policy(max_group_bytes=1500)).groups
    assert group.files.file_count == 3


def test_small_files_wait_until_there_are_enough() -> None:
    plan = plan_of(inventory_of([File(10)] * 4 + [File(10, partition="p=1")]))
    assert plan.groups == ()
    assert [(s.partition, s.files, s.reason) for s in plan.skipped] == [
        ("p=0", 4, "fewer than 5 small files"),
        ("p=1", 1, "nothing to gain"),
    ]


def test_few_small_files_that_fill_a_file_do_not_wait() -> None:
    plan = plan_of(inventory_of([File(600), File(700)]))
    assert [group.reason for group in plan.groups] == ["2 small"]
    assert plan.groups[0].output_files_estimate == 1


def test_small_files_join_what_is_rewritten_anyway() -> None:
    inventory = inventory_of([File(10), File(2500), File(1000)])
    (group,) = plan_of(inventory).groups
    assert group.reason == "1 small, 1 too large"
    assert group.files.file_count == 2


def test_a_delete_file_without_target_counts_evenly_for_its_files() -> None:
    files = [File(1000, rows=100, deletes=("d",)) for _ in range(4)]
    assert plan_of(inventory_of(files, [Delete("d", 36)])).groups == ()
    (group,) = plan_of(inventory_of(files, [Delete("d", 40)])).groups
    assert group.reason == "4 with deleted rows"
    assert group.price.output_bytes_estimate == 3600


def test_a_delete_file_with_a_target_counts_for_it_alone() -> None:
    files = [File(1000, rows=100, deletes=("d",)) for _ in range(4)]
    (group,) = plan_of(inventory_of(files, [Delete("d", 20, target="f00002")])).groups
    assert group.files.files["path"].to_pylist() == ["f00002"]


def test_files_that_would_be_left_with_a_shared_delete_file_are_rewritten_too() -> None:
    small = [File(10, rows=100, deletes=("d",)) for _ in range(5)]
    whole = [File(1000, rows=100, deletes=("d",)) for _ in range(2)]
    # 28 rows are 4 of each of the seven files, but 14 of each of the two that would stay.
    plan = plan_of(inventory_of([*small, *whole], [Delete("d", 28)]))
    assert plan.totals().files == 7
    # One row less, and the small files alone are worth it; the next plan must agree.
    inventory = inventory_of([*small, *whole], [Delete("d", 19)])
    plan = plan_of(inventory)
    assert plan.totals().files == 5
    again = applied(inventory, [(group, [40]) for group in plan.groups])
    assert plan_of(again).groups == ()


def test_heavily_deleted_groups_grow_until_they_fill_a_file() -> None:
    deletes = [Delete(f"d{n}", 90, target=f"f{n:05d}") for n in range(40)]
    files = [File(1000, rows=100, deletes=(f"d{n}",)) for n in range(40)]
    plan = plan_of(inventory_of(files, deletes))
    assert kept_bytes(plan) == [1400, 1300, 1300]


def test_recent_files_are_left_alone() -> None:
    files = [File(10, written_at_ms=NOW_MS - 4 * 60_000)] * 6
    plan = plan_of(inventory_of(files), Policy(min_age_seconds=900))
    assert plan.groups == ()
    assert [s.reason for s in plan.skipped] == ["written less than 15m 0s ago"]
    old = [File(10, written_at_ms=NOW_MS - 16 * 60_000)] * 6
    assert plan_of(inventory_of(old), Policy(min_age_seconds=900)).groups


def test_what_is_not_selected_says_so() -> None:
    files = [File(10, partition=p) for p in ["day=1", "day=2"] for _ in range(5)]
    plan = plan_of(inventory_of(files), Policy(partitions=("day=1",), files=("*[0-3]", "*/x")))
    assert plan.groups == ()
    assert [(s.partition, s.files, s.reason) for s in plan.skipped] == [
        ("day=1", 1, "file not selected"),
        ("day=1", 4, "fewer than 5 small files"),
        ("day=2", 5, "partition not selected"),
    ]


def test_the_budget_takes_groups_in_the_order_of_work() -> None:
    sizes = {"a": 40, "b": 20, "c": 30}
    files = [File(size, partition=p) for p, size in sizes.items() for _ in range(5)]
    policy = Policy(max_job_bytes=260, order=Order.BYTES_ASCENDING)
    plan = plan_of(inventory_of(files), policy)
    assert [group.partition for group in plan.groups] == ["b", "c"]
    assert [(s.partition, s.reason) for s in plan.skipped] == [
        ("a", "over the limit of 260 B per job")
    ]


@pytest.mark.parametrize(
    ("order", "partitions"),
    [
        (Order.BYTES_ASCENDING, "bca"),
        (Order.BYTES_DESCENDING, "acb"),
        (Order.FILES_ASCENDING, "cab"),
        (Order.FILES_DESCENDING, "bac"),
        (Order.NONE, "abc"),
        (Order.OLDEST_FIRST, "cba"),
    ],
)
def test_order_of_work(order: Order, partitions: str) -> None:
    files = [File(100, partition="a", sequence=9)] * 6
    files += [File(10, partition="b", sequence=7)] * 7
    files += [File(60, partition="c", sequence=5)] * 5
    plan = plan_of(inventory_of(files), Policy(order=order))
    assert "".join(group.partition for group in plan.groups) == partitions
    assert [group.group_id for group in plan.groups] == ["0001", "0002", "0003"]


def test_every_file_may_be_asked_for() -> None:
    files = [File(1000, partition="a"), File(1000, partition="b"), File(10, partition="b")]
    assert plan_of(inventory_of(files), Policy()).groups == ()
    policy = Policy(rewrites_all=True, partitions=("b",))
    plan = plan_of(inventory_of(files), policy)
    assert [(group.partition, group.files.file_count) for group in plan.groups] == [("b", 2)]
    assert "2 as asked for" in plan.groups[0].reason


def test_an_empty_table_has_an_empty_plan() -> None:
    plan = plan_of(Inventory.empty())
    assert (plan.groups, plan.skipped, plan.kept_files, plan.kept_bytes) == ((), (), 0, 0)
    assert plan.totals().price.memory_bytes_estimate == 0


def test_the_tables_own_target_yields_to_the_policys() -> None:
    state = state_of(inventory_of([File(400)] * 3))
    assert make_plan(state, Policy(), now_ms=NOW_MS).target_file_size_bytes == TARGET
    plan = make_plan(state, Policy(target_file_size_bytes=500), now_ms=NOW_MS)
    assert (plan.target_file_size_bytes, plan.groups) == (500, ())
