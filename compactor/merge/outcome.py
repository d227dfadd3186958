"""What becomes of the table: the stored rows that go, and the rows that come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from catalog.model import Selection
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import ChangeSet
from compactor.merge.choice import UNTOUCHED, Touched
from compactor.merge.keys import Flags, Rows
from compactor.merge.kinds import DELETE
from compactor.merge.matching import Matched


@dataclass(frozen=True, slots=True)
class Hits:
    """The rows of one file that changes act on.

    Attributes:
        positions: where they stand in the file, ascending, each once.
        matched: what happens to each.
        touched: how much of the file they are in.
    """

    positions: Rows
    matched: Matched
    touched: Touched = UNTOUCHED

    def take(self, rows: Rows | Flags) -> Hits:
        """Return some of the hits."""
        return Hits(self.positions[rows], self.matched.take(rows), self.touched)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a merge does to the files that were matched.

    Attributes:
        dropped: per file, the rows that go.
        upserts: which changes become rows, ascending.
        stored: for each of `upserts`, the file (a number in the order of `paths`) and the position
            of the row that it replaces; -1 for those that are new.
        paths: the files with hits.
        stale: number of changes that are older than the stored row.
        touched: per file that loses rows, how much of it is touched.
    """

    dropped: Mapping[str, Selection]
    upserts: Rows
    stored: tuple[Rows, Rows]
    paths: tuple[str, ...]
    stale: int
    touched: Mapping[str, Touched] = field(default_factory=dict)

    @property
    def rows_dropped(self) -> int:
        """Number of stored rows that go."""
        return sum(len(one.dropped) for one in self.dropped.values())


def settle(changes: ChangeSet, hits: Mapping[str, Hits]) -> Outcome:
    """Put together what was matched in all files.

    A change that is older than any stored row of its key does nothing to any of them.

    Args:
        changes: one per key.
        hits: by path, of every file that may hold a key of theirs.

    Raises:
        ChangesRefusedError: a change that lacks columns hits several stored rows: which of them
            is to fill it cannot be told.
    """
    # One place more than there are changes: -1 stands for none.
    is_stale = np.zeros(len(changes) + 1, np.bool_)
    for one in hits.values():
        is_stale[one.matched.change[one.matched.is_newer]] = True
    file, position = np.full((2, len(changes)), -1, np.int64)
    is_twice, places = np.zeros(len(changes), np.bool_), np.empty(len(changes), np.int64)
    dropped = {}
    for number, (path, one) in enumerate(hits.items()):
        change = one.matched.change
        is_changed = (change >= 0) & ~is_stale[change]
        rows = change[is_changed]
        is_twice[rows[file[rows] >= 0]] = True
        places[rows] = np.arange(len(rows))
        is_twice[rows[places[rows] != np.arange(len(rows))]] = True
        file[rows], position[rows] = number, one.positions[is_changed]
        selected = one.positions[is_changed | one.matched.is_deleted]
        if len(selected):
            dropped[path] = Selection(selected)
    is_stale, is_upsert = is_stale[:-1], changes.kinds != DELETE
    _check_fillable(changes, is_upsert & is_twice & ~is_stale)
    upserts = np.flatnonzero(is_upsert & ~is_stale)
    stored = file[upserts], position[upserts]
    touched = {path: hits[path].touched for path in dropped}
    return Outcome(dropped, upserts, stored, tuple(hits), int(is_stale.sum()), touched)


def _check_fillable(changes: ChangeSet, is_twice: Flags) -> None:
    for row in np.flatnonzero(is_twice)[:1] if changes.is_partial else ():
        if changes.shapes[changes.shape_numbers[row]]:
            raise ChangesRefusedError(
                "a change that lacks columns has a key that several stored rows have:"
                " they are no keyed table"
            )
