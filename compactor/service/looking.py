"""Looking into a table: its snapshot, where it lies, its health.  Runs in child processes only."""

from __future__ import annotations

from catalog.errors import CatalogError, TableNotFoundError
from catalog.open import open_table
from catalog.table import Table
from compactor.errors import CompactorError
from compactor.planner.health import Health, assess_health
from compactor.planner.policy import Policy
from compactor.service.orders import HealthSeen, Looked


def look_into(target: str, policy: Policy) -> Looked:
    """Open a table and look at it; what keeps it from being read is part of the answer."""
    try:
        return look_at(open_table(target), policy, target=target)
    except (CatalogError, CompactorError) as error:
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
