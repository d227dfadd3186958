"""Plan the rewrite of files that are parted otherwise than they are to be: all of them, once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from compactor.planner.plan import Plan, Rung
from compactor.planner.planning import TableState, make_plan
from compactor.planner.policy import Policy
from compactor.sort_keys import Strategy
from compactor.splicing import Effort


def plan_repartition(
    table: TableState, policy: Policy, *, foreign: Collection[str], spec: int, now_ms: int
) -> Plan:
    """Plan the rewrite of all files of some partitions into those of another spec.

    Args:
        table: the snapshot to be planned against, and its files.
        policy: what its owner wants.
        foreign: keys of the partitions of other specs.
        spec: the spec that outputs are parted by.
        now_ms: milliseconds since the epoch, for the age of files.
    """
    every = table.inventory
    is_foreign = pc.is_in(
        every.files["partition_key"].cast(pa.string()),
        value_set=pa.array(sorted(foreign), pa.string()),
    )
    some = every.take(np.flatnonzero(is_foreign.to_numpy()).astype(np.int64))
    # Rows are parted one by one: nothing can be copied, and no file is good as it is.
    wanted = replace(policy, rewrites_all=True, effort=Effort.DEEP, strategy=Strategy.BINPACK)
    plan = make_plan(replace(table, inventory=some, composed_bytes_min=None), wanted, now_ms=now_ms)
    groups = tuple(
        replace(group, rung=Rung.REPARTITION, reason="parted by another spec")
        for group in plan.groups
    )
    return replace(
        plan,
        groups=groups,
        kept_files=plan.kept_files + every.file_count - some.file_count,
        kept_bytes=plan.kept_bytes + every.size_bytes - some.size_bytes,
        output_spec=spec,
    )
