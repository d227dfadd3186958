"""Which files are out of order: found by what their footers say, without a look at a row.

A clustered file says which order its rows are in and where they begin and end. Files that do not,
or whose order is another one, are *unclustered* and always candidates. Clustered ones stay where
they are until too many of them *overlap*: hold rows at the same places of the order, beyond a
common end. Then those are put in order together, so that the work for a row grows with the
logarithm of the table and not with the number of commits.

Putting overlapping files in order leaves no overlap among their outputs, and a group that has none
is not rewritten for it: planning comes to an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from compactor.clustering import Clustering
from compactor.planner.columns import FileColumns, Flags, Ints
from compactor.planner.pack import Packing
from compactor.planner.select import Need, Needs


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What footers say of the files of an inventory.

    Attributes:
        clustering: the order that is wanted.
        files: one row per data file in the order of the inventory, schema `FILE_FACTS`.
        row_groups: one row per row group, schema `row_group_facts`; `file` is the row of the
            inventory.
        is_text: for each key column whether it is compared as text.
    """

    clustering: Clustering
    files: pa.Table
    row_groups: pa.Table
    is_text: tuple[bool, ...]

    def is_clustered(self) -> Flags:
        """Return which files are in the wanted order."""
        found = pc.equal(self.files["order_id"], self.clustering.order_id)
        clustered: Flags = pc.fill_null(found, False).to_numpy()
        return clustered


@dataclass(frozen=True, slots=True)
class Spans:
    """Where the rows of each file are, as numbers that compare as places do.

    Attributes:
        lower: at the least; below all others when unknown.
        upper: at the most; above all others when unknown.
    """

    lower: Ints
    upper: Ints


def find_spans(facts: ClusterFacts) -> Spans:
    """Return the spans of all files."""
    count = facts.files.num_rows
    chunks = [*facts.files["lower"].chunks, *facts.files["upper"].chunks]
    ends = pa.chunked_array(chunks, pa.binary()).combine_chunks()
    ranks = pc.rank(ends, tiebreaker="dense").to_numpy().astype(np.int64)
    is_known = ends.is_valid().to_numpy(zero_copy_only=False)
    lower = np.where(is_known[:count], ranks[:count], 0)
    upper = np.where(is_known[count:], ranks[count:], len(ranks) + 1)
    return Spans(lower, upper)


def order_needs(
    columns: FileColumns, facts: ClusterFacts, spans: Spans, *, depth_max: int
) -> Needs:
    """Return what each file needs for the sake of the order."""
    is_clustered = facts.is_clustered()
    is_deep = _overlapping(columns, spans, is_clustered, depth_max)
    needs = ~is_clustered * np.uint8(Need.UNCLUSTERED) | is_deep * np.uint8(Need.OVERLAPPING)
    return needs.astype(np.uint8)


def _overlapping(columns: FileColumns, spans: Spans, is_clustered: Flags, depth_max: int) -> Flags:
    """Return the clustered files that have part in an overlap of more than `depth_max`."""
    # A file whose rows are all at one place overlaps nothing: order has done for it what it can.
    rows = np.flatnonzero(is_clustered & (spans.lower < spans.upper))
    width = int(spans.upper.max(initial=0)) + 1
    starts = columns.partition[rows] * width + spans.lower[rows]
    ends = columns.partition[rows] * width + spans.upper[rows]
    points, at = np.unique(np.concatenate([starts, ends]), return_inverse=True)
    steps = np.zeros(len(points) + 1, dtype=np.int64)
    np.add.at(steps, at[: len(rows)], 1)
    np.add.at(steps, at[len(rows) :], -1)
    too_deep_before = np.concatenate([[0], np.cumsum(np.cumsum(steps) > depth_max)])
    found = np.zeros(len(is_clustered), dtype=np.bool_)
    found[rows] = too_deep_before[at[len(rows) :]] > too_deep_before[at[: len(rows)]]
    return found


def useless_groups(packing: Packing, needs: Needs, spans: Spans) -> Iterator[int]:
    """Yield the groups that order cannot help: clustered files of which no two overlap."""
    for group in range(packing.group_count):
        rows = packing.group_rows(group)
        if np.all(needs[rows] == Need.OVERLAPPING):
            reached = np.maximum.accumulate(spans.upper[rows])[:-1]
            if not np.any(spans.lower[rows][1:] < reached):
                yield group
