"""Pack the selected files of each partition into file groups.

Files are packed next-fit in the order (sequence number, path), so rows keep their order and their
neighbours.  The cap is the lowest one that needs no more groups than the limit of the policy does,
so a partition is split evenly and leaves no tiny last group.

The rule that must not break: every group but the last of a partition fills a file even if it is
written far smaller than estimated.  So at most one small file comes out of a partition, and
planning again finds nothing to pack it with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from compactor.planner.columns import FileColumns, Flags, Floats, Ints, take_texts
from compactor.planner.policy import FileSizes, Policy
from compactor.planner.select import NEEDY, Candidates

# A file may be written at this share of its estimate: better encoding, larger row groups.
WRITTEN_SHARE_MIN = 0.6
# The cap of a partition's groups is searched to 1/2**10 of the limit.
_CAP_SEARCH_STEPS = 10
_COMPARED_ROWS = 32 << 10


@dataclass(frozen=True, slots=True)
class Packing:
    """Which rows of the inventory make up which group.

    Attributes:
        rows: the grouped rows of the inventory, group by group, in packing order.
        starts: where in `rows` each group begins.
        ends: where it ends, exclusively.
    """

    rows: Ints
    starts: Ints
    ends: Ints

    @property
    def group_count(self) -> int:
        """Number of groups."""
        return len(self.starts)

    def group_rows(self, group: int) -> Ints:
        """Return the rows of one group, in packing order."""
        return self.rows[self.starts[group] : self.ends[group]]

    def numbers(self) -> Ints:
        """Return the group of each of `rows`."""
        return np.repeat(np.arange(self.group_count), self.ends - self.starts)

    def group_of_row(self, file_count: int) -> Ints:
        """Return the group of every row of the inventory, -1 for rows of no group."""
        groups = np.full(file_count, -1, dtype=np.int64)
        groups[self.rows] = self.numbers()
        return groups


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Which files are put together.

    Attributes:
        places: of every file, to be neighbours by before the time of writing; None for no such.
        halvings: of every partition, how often the limit of its groups is halved; None for never.
    """

    places: Ints | None = None
    halvings: Ints | None = None


NO_NEIGHBOURS = Neighbours()


def pack(
    columns: FileColumns,
    candidates: Candidates,
    *,
    policy: Policy,
    sizes: FileSizes,
    neighbours: Neighbours = NO_NEIGHBOURS,
) -> Packing:
    """Pack all selected files, neighbours together.

    Args:
        columns: the files.
        candidates: which of them are selected.
        policy: how much goes into a group.
        sizes: the sizes of files.
        neighbours: which files belong together, and how many.
    """
    places, halvings = neighbours.places, neighbours.halvings
    rows = in_order(columns, np.flatnonzero(candidates.is_selected), places)
    run = _Run(
        input_bytes=columns.size_bytes[rows].astype(np.float64),
        kept_bytes=candidates.kept_bytes[rows],
        is_needy=candidates.needs[rows] & NEEDY > 0,
        limit_bytes=min(policy.max_group_bytes, policy.max_job_bytes or policy.max_group_bytes),
        filling_bytes=sizes.small_below_bytes / WRITTEN_SHARE_MIN + 1,
    )
    partition = columns.partition[rows]
    first = np.flatnonzero(np.diff(partition, prepend=-1))
    last = np.append(first[1:], len(rows))
    pieces = [np.empty(0, dtype=np.int64)]
    totals = np.add.reduceat(run.input_bytes, first) if len(rows) else run.input_bytes
    shares = 0.5 ** (np.zeros(len(first)) if halvings is None else halvings[partition[first]])
    limits = np.maximum(run.limit_bytes * shares, min(sizes.target_bytes, run.limit_bytes))
    is_one_group = totals <= limits
    pieces.append(first[is_one_group])
    for index in np.flatnonzero(~is_one_group):
        start, end = int(first[index]), int(last[index])
        pieces.append(start + run.part(start, end, limit_bytes=float(limits[index])).split())
    starts = np.sort(np.concatenate(pieces))
    return Packing(rows, starts, np.append(starts, len(rows))[1:])


def in_order(columns: FileColumns, rows: Ints, places: Ints | None) -> Ints:
    """Sort files by partition, place and sequence number, those that agree in all by path."""
    rows = rows[np.argsort(columns.partition[rows], kind="stable")]
    # Some partitions at a time: what sorting takes beside the files does not grow with the table.
    partitions = [0, *_cuts(columns.partition[rows]).tolist(), len(rows)]
    for start, end in pairwise(partitions):
        rows[start:end] = _some_in_order(columns, rows[start:end], places)
    return rows


def _some_in_order(columns: FileColumns, rows: Ints, places: Ints | None) -> Ints:
    if not len(rows):
        return rows
    partition, sequence_number = columns.partition[rows], columns.sequence_number[rows]
    place = () if places is None else (places[rows],)
    keys = (sequence_number, *place, partition)
    order = np.lexsort(keys)
    steps = np.logical_or.reduce([np.diff(key[order]) != 0 for key in keys])
    starts = np.append(True, steps)
    # Paths are long: only those that decide something are compared, not all of them at once.
    tied = np.flatnonzero(~starts | ~np.append(steps, True))
    ties = np.cumsum(starts)[tied]
    for start, end in pairwise([0, *_cuts(ties).tolist(), len(tied)]):
        in_tie = order[tied[start:end]]
        paths = take_texts(columns.paths, rows[in_tie])
        if not _ascend(ties[start:end], paths):  # most do: to see it is a tenth of sorting them
            names = pa.table({"tie": ties[start:end], "path": paths})
            by_path = pc.sort_indices(
                names, sort_keys=[(name, "ascending") for name in ("tie", "path")]
            )
            order[tied[start:end]] = in_tie[by_path.to_numpy()]
    return rows[order]


def _ascend(ties: Ints, paths: pa.Array) -> bool:
    """Tell whether the paths of each tie are in order already."""
    falls = pc.greater(paths[:-1], paths[1:]).to_numpy(zero_copy_only=False)
    return not np.any(falls & (np.diff(ties) == 0))


def _cuts(ties: Ints) -> Ints:
    """Return where to divide files that are grouped by a number, without dividing a group."""
    firsts = np.flatnonzero(np.diff(ties)) + 1
    cuts: Ints = firsts[np.diff(firsts // _COMPARED_ROWS, prepend=0) != 0]
    return cuts


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive files to be split into groups.

    Attributes:
        input_bytes: size per file.
        kept_bytes: estimate of the surviving bytes per file.
        is_needy: whether the file is worth a rewrite by itself.
        limit_bytes: input of a group at most.
        filling_bytes: surviving bytes from which a group surely fills a file.
    """

    input_bytes: Floats
    kept_bytes: Floats
    is_needy: Flags
    limit_bytes: float
    filling_bytes: float

    def part(self, start: int, end: int, *, limit_bytes: float) -> _Run:
        """Return a part of it, with a limit of its own."""
        return _Run(
            self.input_bytes[start:end],
            self.kept_bytes[start:end],
            self.is_needy[start:end],
            limit_bytes,
            self.filling_bytes,
        )

    def split(self) -> Ints:
        """Return where the groups begin, evenly split."""
        input_ends, kept_ends = np.cumsum(self.input_bytes), np.cumsum(self.kept_bytes)
        starts = self._next_fit(input_ends, kept_ends, self.limit_bytes)
        total = float(input_ends[-1])
        group_count = math.ceil(total / self.limit_bytes)
        low, high = total / max(group_count, len(starts)), self.limit_bytes
        for _ in range(_CAP_SEARCH_STEPS):
            middle = (low + high) / 2
            tried = self._next_fit(input_ends, kept_ends, middle)
            if len(tried) <= len(starts):
                starts, high = tried, middle
            else:
                low = middle
        if len(starts) > 1 and self._joins_neighbour(starts[-2], starts[-1]):
            starts = starts[:-1]
        return np.array(starts, dtype=np.int64)

    def _next_fit(self, input_ends: Floats, kept_ends: Floats, cap: float) -> list[int]:
        """Begin a group where the cap is reached and the group before surely fills a file."""
        starts, total = [0], float(input_ends[-1])
        input_before = kept_before = 0.0
        while (reached := input_before + cap) < total:
            filled = kept_before + self.filling_bytes
            # The methods: the functions of numpy take twice as long for arrays as short as these.
            following = int(input_ends.searchsorted(reached, side="right"))
            if not following or kept_ends[following - 1] < filled:
                following = int(kept_ends.searchsorted(filled)) + 1
                if following >= len(kept_ends):
                    break
            starts.append(following)
            input_before = float(input_ends[following - 1])
            kept_before = float(kept_ends[following - 1])
        return starts

    def _joins_neighbour(self, before: int, last: int) -> bool:
        """Tell whether the last group is better off with the one before, whatever the limit.

        A single small file alone would gain nothing.  And where deletes have made the group before
        exceed the limit to fill a file, one more that fills none would be left.
        """
        if last == len(self.is_needy) - 1 and not self.is_needy[-1]:
            return True
        is_over = self.input_bytes[before:last].sum() > self.limit_bytes
        return bool(is_over and self.kept_bytes[last:].sum() < self.filling_bytes)
