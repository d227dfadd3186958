"""`compact merge`: bring changes into a keyed table, each exactly once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from compactor.cli.exits import ExitCode
from compactor.cli.merge_options import merge_options, request_of
from compactor.cli.options import run_options, shared_options
from compactor.cli.session import Session

if TYPE_CHECKING:
    from catalog.table import Table
    from compactor.jobs.merge_changes import MergeRequest
    from compactor.jobs.merge_planning import Writing
    from compactor.settings import Settings


@click.command("merge")
@click.argument("target")
@merge_options
@run_options
@shared_options
def command(target: str) -> int:
    """Merge changes into TARGET: upserts and deletes of rows told apart by a key.

    Files without a changed row stay as they are. What is merged is recorded with the data: a second
    call merges what is new since. An interrupted merge is finished, or done again from the start.
    On a terminal the plan is shown first and you are asked.
    """
    from compactor.cli.targets import opened
    from compactor.jobs.merge_planning import Writing
    from compactor.merge.choice import WriteMode

    session = Session.of()
    settings = session.settings()
    request = request_of(session)
    mode = WriteMode(session.given["--write-mode"])
    writing = Writing(
        settings.policy(target),
        settings.run.proof,
        mode,
        keeps_filters=bool(session.given.get("--key-filter")),
    )
    table = opened(target)
    if session.given.get("--dry-run"):
        return _shown(session, settings, table, request, writing=writing)
    return _merged(session, settings, table, request, writing=writing)


def _shown(
    session: Session, settings: Settings, table: Table, request: MergeRequest, *, writing: Writing
) -> int:
    """Show what a merge would do."""
    from compactor.cli.render_merge import merge_plan_document, render_merge_plan
    from compactor.cli.workplace import connected
    from compactor.jobs.merge import plan_merge

    with connected(settings.runtime) as runtime:
        plan = plan_merge(table, request, writing=writing, runtime=runtime).plan

    def text() -> None:
        from compactor.cli.console import results

        render_merge_plan(results(), plan, shows_all=bool(session.verbosity))

    session.emit(lambda: merge_plan_document(plan), text)
    return ExitCode.DONE


def _merged(
    session: Session, settings: Settings, table: Table, request: MergeRequest, *, writing: Writing
) -> int:
    """Merge, and tell what came of it."""
    from compactor.cli.asking import DeclinedError, asking
    from compactor.cli.outcome import told_outcome
    from compactor.cli.render_merge import render_merge_plan
    from compactor.cli.workplace import workplace
    from compactor.jobs.merge import merge_into

    is_asked = session.asks and not session.given.get("--yes")
    with workplace(session, settings) as (place, watcher):
        on_event = asking(watcher, place.on_event, render_merge_plan)
        environment = replace(place, on_event=on_event) if is_asked else place
        try:
            report = merge_into(
                table, request, writing=writing, environment=environment, options=settings.run
            )
        except DeclinedError:
            session.tell("Nothing was done.")
            return ExitCode.DONE
    return told_outcome(session, report, watcher.plan)
