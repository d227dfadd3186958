"""Expect how many bytes of each file can be copied as they are, from what an inventory knows.

Footers are not read for a plan: whether a file is encoded as the table wants it, and how its rows
are cut into row groups, is for the worker to see.  So this takes for granted that files are as
their table wants them, cut into row groups of the usual size. A small one between two that are
copied is copied too, as the worker does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compactor.planner.columns import FileColumns, Flags, Floats
from compactor.planner.pack import Packing
from compactor.planner.policy import MIB
from compactor.planner.select import Candidates
from compactor.splicing import SpliceLimits

# What the usual 128 MiB of a writer's memory take on storage.
ROW_GROUP_BYTES = 32 * MIB


@dataclass(frozen=True, slots=True)
class Expected:
    """Bytes per file of an inventory.

    Attributes:
        spliced: copied as they are.
        composed: the part of them that the store copies by itself.
    """

    spliced: Floats
    composed: Floats


@dataclass(frozen=True, slots=True)
class Copying:
    """What decides how bytes are copied.

    Attributes:
        limits: which row groups may be copied; None for none.
        leaf_columns: column chunks of a row group.
        composed_bytes_min: length from which on the store copies a range itself; None for never.
    """

    limits: SpliceLimits | None
    leaf_columns: int
    composed_bytes_min: int | None


def expected_bytes(
    columns: FileColumns,
    candidates: Candidates,
    packing: Packing,
    *,
    copying: Copying,
) -> Expected:
    """Return the expected bytes per file.

    Args:
        columns: the files.
        candidates: the rows that they lose.
        packing: next to which others they come.
        copying: what is copied, and by whom.
    """
    size = columns.size_bytes.astype(np.float64)
    limits = copying.limits
    if limits is None:
        return Expected(np.zeros_like(size), np.zeros_like(size))
    row_groups = np.maximum(np.ceil(size / ROW_GROUP_BYTES), 1)
    row_group_bytes = size / row_groups
    least = max(limits.row_group_bytes_min, limits.chunk_bytes_min * copying.leaf_columns, 1)
    is_copied = (row_group_bytes >= least) & (columns.row_count > 0)
    # Deleted rows may lie anywhere: each hits one row group out of all.
    loses = np.flatnonzero(candidates.rows_dropped)
    untouched = np.ones_like(size)
    untouched[loses] = (1 - 1 / row_groups[loses]) ** candidates.rows_dropped[loses]
    spliced: Floats = np.where(is_copied, size * untouched, 0.0)
    is_small = ~is_copied & (columns.row_count > 0) & (candidates.rows_dropped == 0)
    is_spared = _without_encoded_neighbours(spliced == 0, packing) & is_small & (row_groups == 1)
    spliced[is_spared] = size[is_spared]
    if copying.composed_bytes_min is None:
        return Expected(spliced, np.zeros_like(size))
    # Row groups that follow each other are one range; a deleted row may cut it at any place.
    is_whole = candidates.rows_dropped == 0
    shortest = np.where(is_whole, size, row_group_bytes)
    return Expected(spliced, np.where(shortest >= copying.composed_bytes_min, spliced, 0.0))


def _without_encoded_neighbours(is_encoded: Flags, packing: Packing) -> Flags:
    """Tell which files come next to none that is encoded."""
    encoded, groups = is_encoded[packing.rows], packing.numbers()
    is_joined = groups[1:] == groups[:-1]
    is_alone = np.ones(len(encoded), dtype=np.bool_)
    is_alone[1:] &= ~(encoded[:-1] & is_joined)
    is_alone[:-1] &= ~(encoded[1:] & is_joined)
    found = np.zeros(len(is_encoded), dtype=np.bool_)
    found[packing.rows] = is_alone
    return found
