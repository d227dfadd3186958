"""Looking into a table: its snapshot, where it lies, its health.  Runs in child processes only."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from catalog.errors import ExplainedError, TableNotFoundError
from catalog.open import open_table
from catalog.table import Table
from compactor.jobs.planning import plan_snapshot, table_state
from compactor.planner.health import Health, assess_health
from compactor.planner.planfile import encode_plan
from compactor.planner.policy import Policy
from compactor.service.orders import HealthSeen, Looked, Planned


def look_into(target: str, policy: Policy, *, kept: Path | None = None) -> Looked:
    """Open a table and look at it; what keeps it from being read is part of the answer.

    Args:
        target: the table.
        policy: what its owner wants.
        kept: where what was read of manifests is kept; None for nowhere.
    """
    try:
        return look_at(open_table(target, kept=kept), policy, target=target)
    except ExplainedError as error:
        is_missing = isinstance(error, TableNotFoundError)
        return Looked(target, trouble=f"{error.code}: {error}", is_missing=is_missing)


def look_at(table: Table, policy: Policy, *, target: str) -> Looked:
    """Look at the current snapshot of an open table.

    Raises:
        CatalogError: it cannot be read.
    """
    snapshot = table.snapshot()
    files = table.files(snapshot)
    sizes = policy.file_sizes(files.layout.target_file_size_bytes)
    health = assess_health(table.inventory(snapshot), sizes)
    return Looked(
        target=target,
        snapshot_id=snapshot.snapshot_id,
        format=table.format,
        health=_seen(health),
    )


def planned(target: str, policy: Policy, *, kept: Path | None = None) -> Planned:
    """Plan the compaction of a table.

    Args:
        target: the table.
        policy: what is wanted.
        kept: where what was read of manifests is kept; None for nowhere.

    Raises:
        CatalogError: it cannot be read.
        CompactorError: it cannot be planned as the policy asks for.
    """
    table = open_table(target, kept=kept)
    snapshot = table.snapshot()
    state = table_state(table, snapshot, table.inventory(snapshot))
    plan = plan_snapshot(state, table.files(snapshot), policy, now_ms=time.time_ns() // 1_000_000)
    sizes = policy.file_sizes(state.layout.target_file_size_bytes)
    health = assess_health(state.inventory, sizes)
    return Planned(encode_plan(plan), msgspec.json.encode(health))


def _seen(health: Health) -> HealthSeen:
    return HealthSeen(
        score=health.score,
        files=health.files,
        small_files=health.small_files,
        delete_files=health.delete_files,
        size_bytes=health.size_bytes,
        rows=health.rows,
        reasons=health.reasons,
    )
