"""`compact jobs`: what runs and ran, what came of it, what each attempt took; and its end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

import click

from compactor.cli.exits import ExitCode
from compactor.cli.options import server_option, shared_options
from compactor.cli.session import Session

if TYPE_CHECKING:
    from compactor.jobs.store import JobDetail, JobRecord

_LOOK_SECONDS = 0.5
_NAMES_MAX = 50


@click.group("jobs")
@shared_options
def command() -> None:
    """Show the history of jobs; watch one, end it, or have it done again."""


@command.command("list")
@click.option("--table", metavar="TARGET", help="Only jobs of this table.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@server_option
@shared_options
def list_jobs(table: str | None, limit: int) -> None:
    """List jobs, the newest first."""
    from compactor.cli.render_jobs import render_jobs

    session = Session.of()
    with _source(session) as source:
        jobs = source.jobs(table=table, limit=limit)
    session.emit(lambda: {"jobs": [asdict(job) for job in jobs]}, lambda: render_jobs(jobs))


@command.command("show")
@click.argument("job")
@server_option
@shared_options
def show_job(job: str) -> None:
    """Show one job: its groups, attempts and commits. JOB is an id or its beginning."""
    from compactor.cli.render_jobs import render_job

    session = Session.of()
    with _source(session) as source:
        detail = _find(source, job)
    session.emit(
        lambda: _document(detail),
        lambda: render_job(detail, shows_all=bool(session.verbosity)),
    )


@command.command("watch")
@click.argument("job")
@server_option
@shared_options
def watch_job(job: str) -> int:
    """Tell what JOB does until it ends; then show its outcome, as `compact run` does."""
    from compactor.cli.outcome import told_outcome
    from compactor.cli.progress import told_progress
    from compactor.jobs.report import decode_report
    from compactor.jobs.retelling import retold

    session = Session.of()
    before = None
    with (
        _source(session) as source,
        told_progress(shows_progress=session.shows_progress, is_quiet=session.is_quiet) as watcher,
    ):
        detail = _find(source, job)
        while True:
            for event in retold(before, detail):
                watcher(event)
            before = detail
            if detail.job.state.is_final or not detail.job.is_running:
                break
            time.sleep(_LOOK_SECONDS)
            detail = _find(source, detail.job.job)
    if detail.report is None:
        session.emit(lambda: _document(detail), lambda: click.echo(_unended(detail)))
        return ExitCode.FAILED
    return told_outcome(session, decode_report(detail.report), None)


@command.command("cancel")
@click.argument("job")
@click.option("--reason", default="", metavar="TEXT", help="Kept with the job.")
@server_option
@shared_options
def cancel_job(job: str, reason: str) -> None:
    """End JOB: no further group is begun, what is written is committed and stays."""
    session = Session.of()
    with _source(session) as source:
        detail = _find(source, job)
        name = detail.job.job
        source.cancel(detail, reason=reason)
    told = {"job": name, "table": detail.job.table, "cancelling": True}
    session.emit(lambda: told, lambda: click.echo(f"Job {name} was asked to end."))


@command.command("retry")
@click.argument("job")
@server_option
@shared_options
@click.pass_context
def retry_job(context: click.Context, job: str) -> int:
    """Run the table of JOB again: what is left of it is planned anew."""
    from compactor.cli.run import command as run

    with _source(Session.of()) as source:
        table = _find(source, job).job.table
    code: int = context.invoke(run, target=table, yes=True)
    return code


class _Source(Protocol):
    """Where jobs are told of: the job store, or a service."""

    def jobs(self, *, table: str | None, limit: int) -> tuple[JobRecord, ...]: ...

    def job(self, job: str) -> JobDetail | None: ...

    def cancel(self, detail: JobDetail, *, reason: str) -> None: ...


@contextmanager
def _source(session: Session) -> Iterator[_Source]:
    if session.server:
        from compactor.cli.remote import connected

        with connected(session) as service:
            yield service
        return
    from compactor.cli.local_jobs import LocalJobs
    from compactor.jobs.store import open_store

    with open_store(session.settings().store.url) as store:
        yield LocalJobs(store)


def _find(source: _Source, job: str) -> JobDetail:
    from compactor.errors import SettingsError

    detail = source.job(job)
    if detail is not None:
        return detail
    known = [record.job for record in source.jobs(table=None, limit=_NAMES_MAX)]
    close = get_close_matches(job, known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else "list them: compact jobs list"
    raise SettingsError(f"no single job `{job}`", hint=hint)


def _unended(detail: JobDetail) -> str:
    job = detail.job
    if job.state.is_final:
        return (
            f"Job {job.job} on `{job.table}`: {job.state}{': ' if job.reason else ''}{job.reason}"
        )
    return f"Job {job.job} was interrupted; the next run of `{job.table}` goes on with it."


def _document(detail: JobDetail) -> dict[str, Any]:
    document = asdict(detail)
    report = json.loads(detail.report) if detail.report else None
    return {**document.pop("job"), **document, "report": report}
