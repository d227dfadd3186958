"""Plans that put rows in order: what is rewritten, what stays, and that planning ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.layout import SortField
from compactor.clustering import FILE_FACTS, Clustering, SortKey, Strategy, row_group_facts
from compactor.errors import SettingsError
from compactor.planner.cluster import ClusterFacts
from compactor.planner.plan import Plan, Rung, Touched
from compactor.planner.planfile import decode_plan, encode_plan
from compactor.planner.planning import make_plan
from compactor.planner.policy import MIB, Policy
from tests.compactor.planner.inventories import NOW_MS, TARGET, File, inventory_of, state_of

ORDER = Clustering(Strategy.SORT, (SortField(1, ("a",)),))
POLICY = Policy(strategy=Strategy.SORT, sort_by=(SortKey("a"),), max_group_bytes=4 * TARGET)


@dataclass(frozen=True)
class Placed:
    """A file whose rows lie between two places; in order or not."""

    lower: int
    upper: int
    is_clustered: bool = True
    size: int = TARGET
    partition: str = "p=0"


def place(number: int) -> bytes:
    return number.to_bytes(8, "big")


def plan_of(files: Sequence[Placed], policy: Policy = POLICY) -> Plan:
    inventory = inventory_of([File(size=one.size, partition=one.partition) for one in files])
    facts = ClusterFacts(
        ORDER,
        pa.table(
            {
                "order_id": [ORDER.order_id if one.is_clustered else None for one in files],
                "lower": [place(one.lower) for one in files],
                "upper": [place(one.upper) for one in files],
            },
            schema=FILE_FACTS,
        ),
        pa.table(
            {
                "file": range(len(files)),
                "rows": [100] * len(files),
                "lower_0": [place(one.lower) for one in files],
                "upper_0": [place(one.upper) for one in files],
            },
            schema=row_group_facts(1),
        ),
        (False,),
    )
    return make_plan(replace(state_of(inventory), clusters=facts), policy, now_ms=NOW_MS)


def paths_of(plan: Plan) -> list[list[int]]:
    return [
        [int(path[1:]) for path in group.files.files["path"].to_pylist()] for group in plan.groups
    ]


def applied(files: Sequence[Placed], plan: Plan) -> list[Placed]:
    """Put each group in order: files of about the target size that only touch each other."""
    gone = {number for group in paths_of(plan) for number in group}
    after = [one for number, one in enumerate(files) if number not in gone]
    for group in paths_of(plan):
        inputs = [files[number] for number in group]
        points = sorted(point for one in inputs for point in (one.lower, one.upper))
        total = sum(one.size for one in inputs)
        count = max(1, round(total / TARGET))
        cuts = [points[(len(points) - 1) * number // count] for number in range(count + 1)]
        after += [
            Placed(low, high, size=total // count, partition=inputs[0].partition)
            for low, high in pairwise(cuts)
        ]
    return after


def test_only_files_out_of_order_are_taken() -> None:
    plan = plan_of([Placed(0, 10), Placed(10, 20), Placed(5, 15, is_clustered=False)])
    assert paths_of(plan) == [[2]]
    assert plan.groups[0].rung is Rung.CLUSTER
    assert plan.groups[0].reason == "1 out of order"
    assert plan.kept_files == 2
    assert plan.splice is None


def test_overlap_is_borne_up_to_a_depth() -> None:
    runs = [Placed(start, start + 50) for _ in range(3) for start in (0, 50)]
    assert not plan_of(runs, replace(POLICY, overlap_depth_max=3)).groups
    deep = plan_of(runs, replace(POLICY, overlap_depth_max=2, max_group_bytes=10 * TARGET))
    assert len(paths_of(deep)[0]) == 6
    assert deep.groups[0].reason == "6 overlapping"


def test_a_frequent_value_is_no_overlap() -> None:
    """Files that hold one value and nothing else cannot be put in a better order."""
    files = [Placed(0, 7), *[Placed(7, 7) for _ in range(20)], Placed(7, 9)]
    assert not plan_of(files, replace(POLICY, overlap_depth_max=1)).groups


def test_a_limit_keeps_groups_to_neighbours() -> None:
    files = [Placed(start, start + 1, is_clustered=False) for start in range(16)]
    groups = paths_of(plan_of(files))
    assert len(groups) == 4
    assert all(group == list(range(group[0], group[0] + 4)) for group in groups)


def test_files_of_other_partitions_do_not_overlap() -> None:
    files = [Placed(0, 10, partition=f"p={number}") for number in range(9)]
    assert not plan_of(files, replace(POLICY, overlap_depth_max=1)).groups


def test_the_gain_is_told() -> None:
    files = [Placed(0, 1 << 40, is_clustered=False, size=TARGET) for _ in range(8)]
    plan = plan_of(files, replace(POLICY, max_group_bytes=20 * TARGET))
    assert plan.cluster is not None
    pruning = plan.cluster.pruning
    assert pruning.before == Touched(8.0, 8.0)
    assert pruning.after_estimate.files == 1.0
    assert len(pruning.probes[0]) == 9


def test_a_plan_with_an_order_is_saved_and_read() -> None:
    plan = plan_of([Placed(0, 10, is_clustered=False)])
    again = decode_plan(encode_plan(plan))
    assert again.cluster == plan.cluster
    assert encode_plan(again) == encode_plan(plan)


def test_an_empty_table_has_nothing_to_order() -> None:
    assert not plan_of([]).groups


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"sort_by": (SortKey("a"),)}, "the strategy is binpack"),
        (
            {"strategy": Strategy.HILBERT, "sort_by": tuple(SortKey(c) for c in "abcdefghi")},
            "at most",
        ),
        ({"sort_memory_bytes": MIB}, "sort_memory_bytes"),
        ({"overlap_depth_max": 0}, "overlap_depth_max"),
    ],
)
def test_policies_that_make_no_sense_are_refused(values: dict[str, object], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        Policy(**values)  # type: ignore[arg-type]


PLACED = st.builds(
    lambda lower, width, is_clustered, size, partition: Placed(
        lower, lower + width, is_clustered, size, f"p={partition}"
    ),
    st.integers(0, 60),
    st.sampled_from([0, 1, 5, 60]),
    st.booleans(),
    st.sampled_from([100, TARGET]),
    st.integers(0, 1),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(PLACED, max_size=25), st.integers(1, 4), st.sampled_from([2, 50]))
def test_planning_comes_to_an_end(files: list[Placed], depth_max: int, limit: int) -> None:
    policy = replace(POLICY, overlap_depth_max=depth_max, max_group_bytes=limit * TARGET)
    for _ in range(12):
        plan = plan_of(files, policy)
        if not plan.groups:
            return
        before = sum(one.size for one in files)
        files = applied(files, plan)
        assert abs(sum(one.size for one in files) - before) <= 200
    raise AssertionError("every plan finds something")


@settings(deadline=None, max_examples=40)
@given(st.lists(PLACED, max_size=25), st.integers(1, 4))
def test_one_plan_is_enough_without_a_limit(files: list[Placed], depth_max: int) -> None:
    policy = replace(POLICY, overlap_depth_max=depth_max, max_group_bytes=1000 * TARGET)
    after = applied(files, plan_of(files, policy))
    assert not any(
        group.reason != "" and "out of order" in group.reason
        for group in plan_of(after, policy).groups
    )
