"""`compact run`: plan a table and apply the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from compactor.cli.exits import ExitCode
from compactor.cli.options import policy_options, run_options, shared_options
from compactor.cli.session import Session

if TYPE_CHECKING:
    from compactor.cli.progress import Watcher
    from compactor.jobs.events import Event, OnEvent
    from compactor.planner.plan import Plan


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
    is_asked = session.asks and not yes
    with workplace(session, settings) as (place, watcher):
        environment = (
            replace(place, on_event=_asking(watcher, place.on_event)) if is_asked else place
        )
        try:
            report = compact_table(table, policy, environment=environment, options=settings.run)
        except _Declined:
            session.tell("Nothing was done.")
            return ExitCode.DONE
    return told_outcome(session, report, watcher.plan)


class _Declined(Exception):  # noqa: N818 - an answer, not an error
    """The plan was shown and not wanted."""


def _asking(watcher: Watcher, then: OnEvent) -> OnEvent:
    """Return a callback that shows the first plan on stderr and asks; without work it does not."""
    from compactor.jobs.events import JobPlanned

    def watch(event: Event) -> None:
        if isinstance(event, JobPlanned) and event.plan.groups and watcher.plan is None:
            with watcher.paused():
                _ask(event.plan)
        then(event)

    return watch


def _ask(plan: Plan) -> None:
    from compactor.cli.console import messages
    from compactor.cli.render_plan import render_plan

    render_plan(messages(), plan)
    if not click.confirm("\nRun this plan?", err=True):
        raise _Declined
