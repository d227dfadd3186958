"""Expect how many bytes of each file can be copied as they are, from what an inventory knows.

Footers are not read for a plan: whether a file is encoded as the table wants it, and how its rows
are cut into row groups, is for the worker to see.  So this takes for granted that files are as
their table wants them, cut into row groups of the usual size.
"""

from __future__ import annotations

import numpy as np

from compactor.planner.columns import FileColumns, Floats
from compactor.planner.policy import MIB
from compactor.planner.select import Candidates
from compactor.splicing import SpliceLimits

# What the usual 128 MiB of a writer's memory take on storage.
_ROW_GROUP_BYTES = 32 * MIB


def spliced_bytes(
    columns: FileColumns,
    candidates: Candidates,
    *,
    limits: SpliceLimits | None,
    leaf_columns: int,
) -> Floats:
    """Return the expected bytes per file.

    Args:
        columns: the files.
        candidates: the rows that they lose.
        limits: which row groups may be copied; None for none.
        leaf_columns: column chunks of a row group.
    """
    size = columns.size_bytes.astype(np.float64)
    if limits is None:
        return np.zeros_like(size)
    row_groups = np.maximum(np.ceil(size / _ROW_GROUP_BYTES), 1)
    row_group_bytes = size / row_groups
    least = max(limits.row_group_bytes_min, limits.chunk_bytes_min * leaf_columns, 1)
    is_copied = (row_group_bytes >= least) & (columns.row_count > 0)
    # Deleted rows may lie anywhere: each hits one row group out of all.
    untouched = (1 - 1 / row_groups) ** candidates.rows_dropped
    untouched[candidates.rows_dropped == 0] = 1
    expected: Floats = np.where(is_copied, size * untouched, 0.0)
    return expected
