"""`compact apply`: run a saved plan, exactly as it was reviewed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from compactor.cli.options import run_options, shared_options
from compactor.cli.session import Session

if TYPE_CHECKING:
    from catalog.model import Inventory
    from catalog.table import Table
    from compactor.planner.plan import Plan
    from compactor.settings import RuntimeSettings


@click.command("apply")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@run_options
@shared_options
def command(file: Path) -> int:
    """Run the plan in FILE, which `compact plan --out` has saved.

    Groups whose files have changed since are not run; when none is left, the plan is stale (11).
    """
    from compactor.cli.outcome import told_outcome
    from compactor.cli.targets import opened
    from compactor.cli.workplace import workplace
    from compactor.jobs.compaction import apply_plan
    from compactor.planner.planfile import decode_plan, fit_plan

    session = Session.of()
    settings = session.settings()
    reviewed = decode_plan(file.read_bytes())
    table = opened(reviewed.table)
    plan = fit_plan(reviewed, _planned_inventory(table, reviewed, settings.runtime))
    with workplace(session, settings) as (environment, watcher):
        report = apply_plan(table, plan, environment=environment, options=settings.run)
    return told_outcome(session, report, watcher.plan)


def _planned_inventory(table: Table, plan: Plan, settings: RuntimeSettings) -> Inventory:
    """Read the files of the snapshot that a plan was made from.

    Raises:
        PlanStaleError: the snapshot has expired.
    """
    from catalog.errors import SnapshotNotFoundError
    from compactor.cli.workplace import spread_reading
    from compactor.errors import PlanStaleError

    try:
        snapshot = table.snapshot(plan.snapshot.snapshot_id)
        with spread_reading(settings) as read:
            return table.inventory(snapshot, map_function=read)
    except SnapshotNotFoundError as error:
        message = f"the plan's snapshot {plan.snapshot.snapshot_id} has expired"
        hint = f"make a new plan: compact plan {plan.table} --out FILE"
        raise PlanStaleError(message, hint=hint) from error
