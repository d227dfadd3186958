"""What a plan expects to be copied: by size, by columns, by deletes, by policy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from catalog.model import Inventory
from compactor.planner.document import plan_document
from compactor.planner.plan import Plan, Rung
from compactor.planner.planfile import decode_plan, encode_plan
from compactor.planner.planning import make_plan
from compactor.planner.policy import MIB, Policy
from compactor.planner.width import RowWidth
from compactor.splicing import Effort
from tests.compactor.planner.inventories import (
    LAYOUT,
    NOW_MS,
    Delete,
    File,
    inventories,
    inventory_of,
    plan_of,
    policies,
    state_of,
)

TABLE_LAYOUT = replace(LAYOUT, target_file_size_bytes=512 * MIB, row_group_size_bytes=128 * MIB)


def planned(files: list[File], policy: Policy, *deletes: Delete, leaves: int = 10) -> Plan:
    state = state_of(inventory_of(files, deletes))
    return make_plan(
        replace(state, layout=TABLE_LAYOUT, leaf_columns=leaves), policy, now_ms=NOW_MS
    )


@pytest.mark.parametrize(
    ("size", "leaves", "effort", "rung"),
    [
        (3 * MIB, 10, Effort.BALANCED, Rung.SPLICE),
        (1 * MIB, 10, Effort.BALANCED, Rung.TRANSCODE),
        (12 * MIB, 100, Effort.BALANCED, Rung.TRANSCODE),
        (13 * MIB, 100, Effort.BALANCED, Rung.SPLICE),
        (1 * MIB, 100, Effort.BYTES, Rung.SPLICE),
        (30 * MIB, 10, Effort.DEEP, Rung.TRANSCODE),
    ],
)
def test_size_and_columns_decide(size: int, leaves: int, effort: Effort, rung: Rung) -> None:
    (group,) = planned([File(size)] * 10, Policy(effort=effort), leaves=leaves).groups
    assert group.rung is rung
    expected = group.price.input_bytes if rung is Rung.SPLICE else 0
    assert group.price.splice_bytes_estimate == expected


def test_copying_is_far_cheaper() -> None:
    files = [File(3 * MIB)] * 400
    (spliced,) = planned(files, Policy()).groups
    (encoded,) = planned(files, Policy(effort=Effort.DEEP)).groups
    assert spliced.price.cpu_seconds_estimate < encoded.price.cpu_seconds_estimate / 10
    assert spliced.price.memory_bytes_estimate < encoded.price.memory_bytes_estimate / 3


@pytest.mark.parametrize(
    ("sizes_mib", "copied_mib", "stretch_files"),
    [
        ([3, 1, 3, 1, 3], 11, 0),
        ([3, 1, 1, 3, 1], 7, 2),
        ([1, 1, 3, 1, 1, 1, 3, 1], 7, 3),
        ([1, 1, 1, 1, 1], 0, 5),
    ],
)
def test_what_is_copied_ends_a_stretch_of_what_is_encoded(
    sizes_mib: list[int], copied_mib: int, stretch_files: int
) -> None:
    """A small file stays as it is unless another one comes next to it, as in the worker."""
    width = RowWidth(1000.0, 0)
    state = state_of(inventory_of([File(size * MIB, rows=1000) for size in sizes_mib], []))
    layout = replace(TABLE_LAYOUT, row_group_rows_max=10**6)
    state = replace(state, layout=layout, leaf_columns=10, row_width=width)
    (group,) = make_plan(state, Policy(), now_ms=NOW_MS).groups
    assert group.price.splice_bytes_estimate == copied_mib * MIB
    read_bytes = MIB if stretch_files else 0
    held = stretch_files * 10**6 + read_bytes
    assert group.price.memory_bytes_estimate == 44 * MIB + held


def test_deletes_touch_row_groups() -> None:
    files = [File(320 * MIB, rows=1000, deletes=("d",)), *[File(3 * MIB)] * 5]
    few = planned(files, Policy(), Delete("d", 1, "f00000")).groups[0]
    many = planned(files, Policy(), Delete("d", 200, "f00000")).groups[0]
    assert few.rung is many.rung is Rung.MIXED
    assert few.price.splice_bytes_estimate == pytest.approx(303 * MIB, rel=0.01)
    assert many.price.splice_bytes_estimate == pytest.approx(15 * MIB, rel=0.01)


@pytest.mark.parametrize(
    ("size", "dropped", "rung", "composed"),
    [
        (64 * MIB, 0, Rung.COMPOSE, 640 * MIB),
        (5 * MIB, 0, Rung.COMPOSE, 50 * MIB),
        (4 * MIB, 0, Rung.SPLICE, 0),
        # One of two row groups of 32 MiB is touched, the other one is a range of its own.
        (64 * MIB, 1, Rung.MIXED, 320 * MIB),
    ],
)
def test_a_store_copies_what_is_long_enough_for_it(
    size: int, dropped: int, rung: Rung, composed: int
) -> None:
    deletes = [Delete(f"d{n}", dropped, f"f{n:05}") for n in range(10)] if dropped else []
    files = [File(size, rows=1000, deletes=(one.path,)) for one in deletes] or [File(size)] * 10
    state = replace(
        state_of(inventory_of(files, deletes)),
        layout=TABLE_LAYOUT,
        leaf_columns=10,
        composed_bytes_min=5 * MIB,
    )
    plan = make_plan(state, Policy(delete_ratio=0.0005), now_ms=NOW_MS)
    elsewhere = make_plan(
        replace(state, composed_bytes_min=None), Policy(delete_ratio=0.0005), now_ms=NOW_MS
    )
    price, dearer = plan.totals().price, elsewhere.totals().price
    assert {group.rung for group in plan.groups} == {rung}
    assert price.compose_bytes_estimate == composed
    assert dearer.compose_bytes_estimate == 0
    assert price.splice_bytes_estimate == dearer.splice_bytes_estimate
    assert (price.cpu_seconds_estimate < dearer.cpu_seconds_estimate) is (composed > 0)
    document = plan_document(plan)["totals"]["bytes_by_rung"]
    assert document["splice, server side"] == composed
    assert document["splice"] == price.splice_bytes_estimate - composed
    assert decode_plan(encode_plan(plan)).totals().price == price


@settings(max_examples=100, deadline=None)
@given(inventories(), policies())
def test_the_bytes_of_the_rungs_are_those_that_are_read(
    inventory: Inventory, policy: Policy
) -> None:
    plan = plan_of(inventory, replace(policy, effort=Effort.BYTES))
    for group in plan_document(plan)["groups"]:
        assert sum(group["bytes_by_rung"].values()) == group["input_bytes"]
        assert min(group["bytes_by_rung"].values()) >= 0
    assert decode_plan(encode_plan(plan)).splice == plan.splice


def test_a_plan_of_an_earlier_version_copies_nothing() -> None:
    plan = replace(plan_of(inventory_of([File(10)] * 5)), splice=None)
    text = encode_plan(plan).decode().replace('"splice":null', '"other":null')
    assert decode_plan(text).splice is None
