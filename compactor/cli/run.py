"""`compact run`: plan a table and apply the plan."""

from __future__ import annotations

from dataclasses import replace

import click

from compactor.cli.exits import ExitCode
from compactor.cli.options import (
    branch_option,
    on_branch,
    policy_options,
    run_options,
    server_option,
    shared_options,
)
from compactor.cli.session import Session


@click.command("run")
@click.argument("target")
@click.option("-y", "--yes", is_flag=True, help="Do not ask, run.")
@branch_option
@policy_options
@run_options
@server_option
@shared_options
def command(target: str, yes: bool, branch: str | None) -> int:
    """Compact TARGET: plan, rewrite, prove and commit.

    An interrupted run is taken up where it stopped. On a terminal the plan is shown first and you
    are asked.
    """
    session, target = Session.of(), on_branch(target, branch)
    is_asked = session.asks and not yes
    if session.server:
        from compactor.cli import remote

        return remote.run(session, target, is_asked=is_asked)
    return _run_here(session, target, is_asked=is_asked)


def _run_here(session: Session, target: str, *, is_asked: bool) -> int:
    from compactor.cli.asking import DeclinedError, asking
    from compactor.cli.outcome import told_outcome
    from compactor.cli.render_plan import render_plan
    from compactor.cli.targets import opened
    from compactor.cli.workplace import workplace
    from compactor.jobs.compaction import compact_table

    settings = session.settings()
    policy = settings.policy(target)
    table = opened(target)
    with workplace(session, settings) as (place, watcher):
        environment = (
            replace(place, on_event=asking(watcher, place.on_event, render_plan))
            if is_asked
            else place
        )
        try:
            report = compact_table(table, policy, environment=environment, options=settings.run)
        except DeclinedError:
            session.tell("Nothing was done.")
            return ExitCode.DONE
    return told_outcome(session, report, watcher.plan)
