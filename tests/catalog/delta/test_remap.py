"""Deletes that come while files are rewritten hit the same rows in the outputs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.deletion_vectors import Positions
from catalog.delta.remap import RewrittenFile, has_only_grown, remap


def positions(values: set[int]) -> Positions:
    return np.array(sorted(values), dtype=np.int64)


@st.composite
def inputs(draw: st.DrawFn) -> list[tuple[int, set[int], set[int]]]:
    """Draw files: rows, those deleted before the plan, those deleted by now."""
    found = []
    for rows in draw(st.lists(st.integers(0, 30), max_size=6)):
        some = st.sets(st.integers(0, rows - 1)) if rows else st.just(set[int]())
        before = draw(some)
        found.append((rows, before, before | draw(some)))
    return found


def cut(total: int, draw: st.DrawFn) -> list[int]:
    """Split rows into outputs, some of which may be empty."""
    places = sorted(draw(st.lists(st.integers(0, total), max_size=4)))
    edges = [0, *places, total]
    return [end - start for start, end in itertools.pairwise(edges)]


@given(st.data(), inputs())
def test_what_outputs_show_is_what_inputs_show(
    data: st.DataObject, files: list[tuple[int, set[int], set[int]]]
) -> None:
    rows = [(number, at) for number, (count, _, _) in enumerate(files) for at in range(count)]
    written = [(number, at) for number, at in rows if at not in files[number][1]]
    visible = [(number, at) for number, at in rows if at not in files[number][2]]
    counts = data.draw(st.composite(lambda draw: cut(len(written), draw))())
    rewritten = [
        RewrittenFile(count, len(before), positions(before), positions(now))
        if before != now or data.draw(st.booleans())
        else RewrittenFile(count, len(before))
        for count, before, now in files
    ]
    assert all(map(has_only_grown, rewritten))
    deleted = remap(rewritten, counts)
    shown, start = [], 0
    for count, gone in zip(counts, deleted, strict=True):
        assert sorted(set(gone.tolist())) == gone.tolist()
        assert not len(gone) or (gone[0] >= 0 and gone[-1] < count)
        kept = np.delete(np.arange(count), gone)
        shown += [written[start + at] for at in kept.tolist()]
        start += count
    assert shown == visible


def test_rows_that_came_back_are_no_growth() -> None:
    assert not has_only_grown(RewrittenFile(9, 2, positions({1, 2}), positions({2, 3})))
    assert has_only_grown(RewrittenFile(9, 2, positions({1, 2}), positions({1, 2, 3})))
    assert has_only_grown(RewrittenFile(9, 2))


def test_no_input_and_no_output() -> None:
    assert remap([], []) == []
    gone = remap([RewrittenFile(3, 3, positions({0, 1, 2}), positions({0, 1, 2}))], [])
    assert gone == []


def test_outputs_of_other_rows_are_refused() -> None:
    with pytest.raises(AssertionError, match="rows that the inputs kept"):
        remap([RewrittenFile(3, 1, positions({0}), positions({0, 1}))], [3])
