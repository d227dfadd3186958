"""Stacks of partial rows are those that laying them one by one gives."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.hudi.layers import Arrivals, stacked

# Rank, whether it is a delete, whether it is a whole row.
entries = st.tuples(st.integers(0, 3), st.booleans(), st.booleans()).map(
    lambda one: (one[0], one[1], one[2] and not one[1])
)
groups = st.lists(st.lists(entries, min_size=1, max_size=6), min_size=1, max_size=4)


def laid(found):
    """Return the entry that is compared, and the stack, topmost first."""
    rank, stack, top = -1, None, 0
    for number, (at, is_gone, _) in enumerate(found):
        has_won = at >= rank
        if is_gone:
            stack = None if has_won else stack
        elif has_won:
            stack = [number, *(stack or ())]
        elif stack is not None:
            stack = [*stack, number]
        if has_won:
            rank, top = at, number
    seen = []
    for number in stack or ():
        seen.append(number)
        if found[number][2]:
            break
    return top, seen


@settings(max_examples=100, deadline=None)
@given(groups)
def test_stacks_are_those_of_laying_one_by_one(found):
    flat = [one for group in found for one in group]
    codes = [7 * number for number, group in enumerate(found) for _ in group]
    ranks, gone, whole = (np.array(column) for column in zip(*flat, strict=True))
    stacks = stacked(Arrivals(np.array(codes), ranks, gone, whole))
    first = 0
    for number, group in enumerate(found):
        begin, end = stacks.offsets[number : number + 2]
        seen = [int(one) - first for one in stacks.entries[begin:end]]
        assert (int(stacks.tops[number]) - first, seen) == laid(group)
        first += len(group)
