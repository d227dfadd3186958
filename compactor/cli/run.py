"""`compact run`: plan a table and apply the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from compactor.cli.exits import ExitCode
from compactor.cli.options import policy_options, run_options, shared_options
from compactor.cli.session import Session

if TYPE_CHECKING:
    from catalog.table import Table
    from compactor.settings import Settings


@click.command("run")
@click.argument("target")
@click.option("-y", "--yes", is_flag=True, help="Do not ask, run.")
@policy_options
@run_options
@shared_options
def command(target: str, yes: bool) -> int:
    """Compact TARGET: plan, rewrite, prove and commit.

    An interrupted run is taken up where it stopped. On a terminal the plan is shown first and you
    are asked.
    """
    from compactor.cli.outcome import told_outcome
    from compactor.cli.targets import opened
    from compactor.cli.workplace import workplace
    from compactor.jobs.compaction import compact_table

    session = Session.of()
    settings = session.settings()
    policy = settings.policy(target)
    table = opened(target)
    if not yes and session.asks and not _agrees(table, settings):
        session.tell("Nothing was done.")
        return ExitCode.DONE
    with workplace(session, settings) as (environment, watcher):
        report = compact_table(table, policy, environment=environment, options=settings.run)
    return told_outcome(session, report, watcher.plan)


def _agrees(table: Table, settings: Settings) -> bool:
    """Show the plan on stderr and ask; a table without work needs no answer."""
    from compactor.cli.console import messages
    from compactor.cli.render_plan import render_plan
    from compactor.cli.workplace import now_ms, spread_reading
    from compactor.jobs.compaction import plan_table

    with spread_reading(settings.runtime) as read:
        plan = plan_table(table, settings.policy(table.name), now_ms=now_ms(), map_function=read)
    if not plan.groups:
        return True
    render_plan(messages(), plan)
    return click.confirm("\nRun this plan?", err=True)
