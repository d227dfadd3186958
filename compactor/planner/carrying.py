"""Slices that another writer wants to be replaced: as it has grouped them, whatever we would do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from catalog.announcing import Announced, Standing, WorkKind
from compactor.planner.columns import FileColumns
from compactor.planner.folding import Folding
from compactor.planner.pack import Packing
from compactor.planner.policy import Policy
from compactor.planner.select import Candidates, Need
from compactor.sort_keys import SortKey, Strategy


def carried_policy(policy: Policy, standing: Standing) -> Policy:
    """Return the policy of whoever has announced the work; how rows are copied stays ours."""
    return replace(
        policy,
        strategy=Strategy.SORT if standing.sort_by else Strategy.BINPACK,
        sort_by=tuple(map(SortKey, standing.sort_by)),
        target_file_size_bytes=standing.target_bytes,
        partitions=(),
        files=(),
        min_age_seconds=0.0,
        output_spec=None,
    )


def carried_out(columns: FileColumns, standing: Standing) -> Folding:
    """Return the groups of announced work: all of its slices, in their order."""
    count = len(columns.size_bytes)
    every = np.ones(count, dtype=np.bool_)
    dropped = np.minimum(columns.links.rows_dropped(every), columns.row_count)
    candidates = Candidates(
        needs=np.full(count, Need.ASKED_FOR, dtype=np.uint8),
        is_selected=every,
        stays=np.zeros(count, dtype=np.uint8),
        rows_dropped=dropped,
        kept_bytes=columns.size_bytes.astype(float),
    )
    ends = np.cumsum(standing.groups)
    packing = Packing(np.arange(count), ends - np.array(standing.groups), ends)
    return Folding(Announced(WorkKind.REPLACE, standing.work_id), candidates, packing)
