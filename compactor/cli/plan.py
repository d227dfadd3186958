"""`compact plan`: what would be rewritten, why, and at what price; nothing is touched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from compactor.cli.exits import ExitCode
from compactor.cli.options import (
    branch_option,
    on_branch,
    policy_options,
    runtime_options,
    server_option,
    shared_options,
)
from compactor.cli.session import Session

if TYPE_CHECKING:
    from compactor.planner.plan import Plan


@click.command("plan")
@click.argument("target")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Save the plan, for `compact apply`.",
)
@click.option("--check", is_flag=True, help="Exit with 4 when there is work to do.")
@branch_option
@policy_options
@runtime_options
@server_option
@shared_options
def command(target: str, out: Path | None, check: bool, branch: str | None) -> ExitCode:
    """Show what compacting TARGET would rewrite, and why."""
    from compactor.planner.document import plan_document

    session, target = Session.of(), on_branch(target, branch)
    plan = _planned_there(session, target) if session.server else _planned_here(session, target)
    if out is not None:
        from compactor.planner.planfile import encode_plan  # lazy: loads all of Parquet

        out.write_bytes(encode_plan(plan))

    def text() -> None:
        from compactor.cli.console import results
        from compactor.cli.render_plan import render_plan

        render_plan(results(), plan, shows_all=bool(session.verbosity))

    session.emit(lambda: plan_document(plan), text)
    if out is not None:
        session.tell(f"Saved the plan to `{out}`. To run exactly this plan: compact apply {out}")
    return ExitCode.WORK_FOUND if check and plan.groups else ExitCode.DONE


def _planned_here(session: Session, target: str) -> Plan:
    from compactor.cli.targets import opened
    from compactor.cli.workplace import now_ms, spread_reading
    from compactor.jobs.planning import plan_table

    settings = session.settings()
    table = opened(target)
    with spread_reading(settings.runtime) as read:
        return plan_table(table, settings.policy(target), now_ms=now_ms(), map_function=read)


def _planned_there(session: Session, target: str) -> Plan:
    from compactor.cli.remote import planned

    return planned(session, target)[0]
