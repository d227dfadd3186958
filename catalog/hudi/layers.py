"""Records put together from several partial ones: which rows of logs give a key its values.  Pure.

A partial row has values for some columns. Merging a newer one lays it over what there is; merging
an older one, by event time, slides it under. A row with all columns hides what is below it, a
delete that stays takes everything away. So the record of a key is a stack of rows: each column
comes from the topmost one that has it, else from the base row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_Numbers = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Entries in the order of their keys, and of one key in the order of their arrival.

    Attributes:
        codes: the key of each, as a number.
        ranks: in the order of the ordering values; all equal by commit time.
        is_gone: whether it is a delete.
        is_whole: whether it is a row with all columns.
    """

    codes: _Numbers
    ranks: _Numbers
    is_gone: _Mask
    is_whole: _Mask


@dataclass(frozen=True, slots=True)
class Stacks:
    """The stack of each key.

    Attributes:
        tops: the entry of each key that the others are compared with; a delete where the key is
            gone.
        offsets: where in `entries` the stack of each key begins, and behind the last one where that
            ends; one of a key that is gone is empty.
        entries: the entries of all stacks, the topmost of each first.
    """

    tops: _Numbers
    offsets: _Numbers
    entries: _Numbers


def stacked(arrivals: Arrivals) -> Stacks:
    """Return the stacks; keys are in their order, entries are numbered as they are given."""
    codes, count = arrivals.codes, len(arrivals.codes)
    places = np.arange(count)
    firsts = np.flatnonzero(np.append([True] * bool(count), codes[1:] != codes[:-1]))
    groups = np.cumsum(np.isin(places, firsts)) - 1
    has_won = arrivals.ranks >= _greatest_before(groups, arrivals.ranks)
    ends = _last(groups, has_won & arrivals.is_gone, len(firsts))
    # What loses against a delete is gone, too: a stack begins with the first that wins again.
    is_start = has_won & (places > ends[groups])
    starts = _first(groups, is_start, len(firsts), count)
    is_live = (places >= starts[groups]) & ~arrivals.is_gone
    tops = np.where(starts < count, _last(groups, has_won, len(firsts)), ends)
    return _cut(
        tops, groups, np.where(is_live, np.where(has_won, places, -1 - places), count), arrivals
    )


def _cut(tops: _Numbers, groups: _Numbers, heights: _Numbers, arrivals: Arrivals) -> Stacks:
    """Put the live entries of each key in the order of their heights, down to the first whole one.

    Heights are the place of what won, and below zero for what lost; too great for what is not live.
    """
    count = len(groups)
    live = np.flatnonzero(heights < count)
    order = live[np.lexsort([-heights[live], groups[live]])]
    inner = groups[order]
    whole_before: _Numbers = np.cumsum(arrivals.is_whole[order]) - arrivals.is_whole[order]
    begins = np.searchsorted(inner, inner)
    is_seen = whole_before == whole_before[begins] if len(order) else np.empty(0, np.bool_)
    order, inner = order[is_seen], inner[is_seen]
    offsets = np.searchsorted(inner, np.arange(len(tops) + 1))
    return Stacks(tops, offsets.astype(np.int64), order)


def _greatest_before(groups: _Numbers, ranks: _Numbers) -> _Numbers:
    """Return the greatest rank of the same group before each entry; -1 for the first."""
    if not len(ranks):
        return ranks
    width = int(ranks.max()) + 2
    climbing = np.maximum.accumulate(groups * width + ranks + 1)
    before = np.concatenate([[0], climbing[:-1]]) - groups * width - 1
    found: _Numbers = np.maximum(before, -1)
    return found


def _last(groups: _Numbers, is_wanted: _Mask, count: int) -> _Numbers:
    found = np.full(count, -1, np.int64)
    found[groups[is_wanted]] = np.flatnonzero(is_wanted)
    return found


def _first(groups: _Numbers, is_wanted: _Mask, count: int, nothing: int) -> _Numbers:
    found = np.full(count, nothing, np.int64)
    places = np.flatnonzero(is_wanted)[::-1]
    found[groups[places]] = places
    return found
