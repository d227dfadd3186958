"""Which groups of a plan still fit a table is what plain Python says of paths and deletes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from compactor.jobs.staleness import outdated_groups, taken_groups
from compactor.planner.policy import Policy
from tests.compactor.planner.inventories import Delete, File, inventory_of, plan_of

FILES = [
    File(10, path=f"f{number}", partition=f"p={number // 4}", deletes=("d0",) * (number % 3 == 0))
    for number in range(12)
]
DELETES = [Delete("d0", 7), Delete("d1", 7)]


@settings(max_examples=50, deadline=None)
@given(
    gone=st.sets(st.integers(0, 11)),
    hit=st.sets(st.integers(0, 11)),
    order=st.permutations(range(12)),
)
def test_groups_that_others_have_changed_are_told(
    gone: set[int], hit: set[int], order: list[int]
) -> None:
    groups = plan_of(inventory_of(FILES, DELETES), Policy()).groups
    there = [
        replace(FILES[number], deletes=(*FILES[number].deletes, *["d1"] * (number in hit)))
        for number in order
        if number not in gone
    ]
    current = inventory_of(there, DELETES)
    paths = {group.group_id: group.files.files["path"].to_pylist() for group in groups}
    lost, changed = ({f"f{number}" for number in some} for some in (gone, hit))
    expected = {
        group_id: next((one for one in some if one in lost), None)
        or next((one for one in some if one in changed), None)
        for group_id, some in paths.items()
    }
    outdated = outdated_groups(groups, current)
    assert {key: reason.split()[0] for key, reason in outdated.items()} == {
        key: path for key, path in expected.items() if path
    }
    taken = taken_groups(groups, current)
    assert set(taken) == {key for key, some in paths.items() if lost.intersection(some)}
    assert taken.items() >= {
        (key, f"{path} was replaced by another writer before work on it began")
        for key, path in expected.items()
        if path in lost
    }
