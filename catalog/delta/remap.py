"""Carries deletes of rows over to where a rewrite has put these rows.  Pure.

Outputs hold the rows that the inputs kept when they were planned, in order. So the place of a row
in the outputs follows from counting: the rows that are kept before it, in its own file and in the
files before. A row that another writer deletes while its file is rewritten is then deleted from
the output as well, and the rewrite need not be thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from catalog.deletion_vectors import Positions


@dataclass(frozen=True, slots=True)
class RewrittenFile:
    """An input of a rewrite and its deletes, before and now.

    Attributes:
        row_count: rows stored in it.
        dropped_count: how many of them the rewrite has left out.
        dropped: their positions, ascending; None where nothing has changed since.
        deleted: positions of the rows that are deleted by now, ascending; None as above.
    """

    row_count: int
    dropped_count: int
    dropped: Positions | None = None
    deleted: Positions | None = None


def has_only_grown(file: RewrittenFile) -> bool:
    """Whether every row that the rewrite has left out is still deleted."""
    if file.dropped is None or file.deleted is None:
        return True
    return bool(np.isin(file.dropped, file.deleted, assume_unique=True).all())


def remap(inputs: Sequence[RewrittenFile], output_row_counts: Sequence[int]) -> list[Positions]:
    """Return the positions in each output of the rows that were deleted since, ascending.

    Args:
        inputs: in the order of their rows; their deletes have only grown.
        output_row_counts: rows of each output, in the order of their rows.
    """
    parts, kept_before = [np.empty(0, np.int64)], 0
    for file in inputs:
        parts.append(kept_before + _ranks_of_new(file))
        kept_before += file.row_count - file.dropped_count
    if kept_before != sum(output_row_counts):
        raise AssertionError("the outputs do not hold the rows that the inputs kept")
    return _by_output(np.concatenate(parts), output_row_counts)


def _ranks_of_new(file: RewrittenFile) -> Positions:
    """Return the place among the kept rows of a file of those that were deleted since."""
    if file.dropped is None or file.deleted is None:
        return np.empty(0, np.int64)
    new = np.setdiff1d(file.deleted, file.dropped, assume_unique=True)
    return new - np.searchsorted(file.dropped, new)


def _by_output(positions: Positions, row_counts: Sequence[int]) -> list[Positions]:
    ends = np.cumsum(np.asarray(row_counts, np.int64))
    cuts = np.searchsorted(positions, ends)
    starts = [0, *cuts[:-1]] if len(cuts) else []
    firsts = ends - np.asarray(row_counts, np.int64)
    return [
        positions[start:end] - first for start, end, first in zip(starts, cuts, firsts, strict=True)
    ]
