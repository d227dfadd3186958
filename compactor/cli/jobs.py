"""`compact jobs`: what ran, what came of it, and what each attempt took."""

from __future__ import annotations

import json
from dataclasses import asdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from compactor.cli.options import shared_options
from compactor.cli.session import Session

if TYPE_CHECKING:
    from compactor.jobs.store import JobDetail


@click.group("jobs")
@shared_options
def command() -> None:
    """Show the history of jobs."""


@command.command("list")
@click.option("--table", metavar="TARGET", help="Only jobs of this table.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@shared_options
def list_jobs(table: str | None, limit: int) -> None:
    """List jobs, the newest first."""
    from compactor.cli.render_jobs import render_jobs
    from compactor.jobs.store import open_store

    session = Session.of()
    with open_store(session.settings().store.url) as store:
        jobs = store.jobs(table=table, limit=limit)
    session.emit(lambda: {"jobs": [asdict(job) for job in jobs]}, lambda: render_jobs(jobs))


@command.command("show")
@click.argument("job")
@shared_options
def show_job(job: str) -> None:
    """Show one job: its groups, attempts and commits. JOB is an id or its beginning."""
    from compactor.cli.render_jobs import render_job

    session = Session.of()
    detail = _find(session, job)
    session.emit(
        lambda: _document(detail),
        lambda: render_job(detail, shows_all=bool(session.verbosity)),
    )


def _find(session: Session, job: str) -> JobDetail:
    from compactor.errors import SettingsError
    from compactor.jobs.store import open_store

    with open_store(session.settings().store.url) as store:
        detail = store.job(job)
        known = [record.job for record in store.jobs()] if detail is None else []
    if detail is not None:
        return detail
    close = get_close_matches(job, known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else "list them: compact jobs list"
    raise SettingsError(f"no single job `{job}`", hint=hint)


def _document(detail: JobDetail) -> dict[str, Any]:
    document = asdict(detail)
    report = json.loads(detail.report) if detail.report else None
    return {**document.pop("job"), **document, "report": report}
