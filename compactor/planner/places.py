"""Where the data files of groups are in an inventory: by hashes, eight bytes a path.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.duplicates import hash_texts
from catalog.model import Inventory
from compactor.planner.columns import Ints, take_texts
from compactor.planner.deferred import RUN_ROWS


@dataclass(frozen=True, slots=True)
class Places:
    """The paths of an inventory, to be looked up.

    Attributes:
        paths: the paths.
        hashes: their hashes, in order.
        rows: the row of each.
    """

    paths: pa.ChunkedArray
    hashes: Ints
    rows: Ints

    @staticmethod
    def of(paths: pa.ChunkedArray) -> Places:
        """Prepare paths; they are not copied."""
        hashes = np.concatenate([np.empty(0, np.int64), *map(hash_texts, paths.chunks)])
        rows = np.argsort(hashes)
        return Places(paths, hashes[rows], rows)

    def find(self, paths: pa.ChunkedArray) -> Ints:
        """Return the row of each of some paths, -1 where it is not there."""
        wanted = np.concatenate([np.empty(0, np.int64), *map(hash_texts, paths.chunks)])
        starts = np.searchsorted(self.hashes, wanted)
        ends = np.searchsorted(self.hashes, wanted, side="right")
        rows = np.full(len(wanted), -1, np.int64)
        is_known = ends > starts
        rows[is_known] = self.rows[starts[is_known]]
        if len(self.rows):
            same = pc.equal(paths, take_texts(self.paths, np.maximum(rows, 0)))
            is_other = is_known & ~same.to_numpy()
            rows[is_other] = self._among_all(paths.filter(pa.array(is_other)))
        return rows

    def find_groups(self, groups: Iterable[Inventory]) -> Iterator[Ints]:
        """Yield the rows of the data files of each group, -1 where one is not there."""
        for run in _runs(groups):
            rows = self.find(pa.chunked_array([*chain(*run)], pa.string()))
            ends = np.cumsum([sum(map(len, chunks)) for chunks in run])
            yield from np.split(rows, ends)[:-1]

    def _among_all(self, paths: pa.ChunkedArray) -> Ints:
        """Look up paths whose hashes are those of others, which hardly ever happens."""
        if not len(paths):
            return np.empty(0, np.int64)
        known = self.paths.combine_chunks()
        found: Ints = pc.index_in(paths, value_set=known).fill_null(-1).to_numpy().astype(np.int64)
        return found


def _runs(groups: Iterable[Inventory]) -> Iterator[list[list[pa.Array]]]:
    """Yield the paths of some groups at a time."""
    run: list[list[pa.Array]] = []
    count = 0
    for group in groups:
        run.append(group.files["path"].chunks)
        count += sum(map(len, run[-1]))
        if count >= RUN_ROWS:
            yield run
            run, count = [], 0
    if run:
        yield run
