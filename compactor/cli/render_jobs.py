"""The job history for people: a line per job, and one job with its groups, attempts and commits."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec
from rich.console import Console

from compactor.cli.console import dim, grid, results, show
from compactor.cli.outcome import splice_lines
from compactor.jobs.store import AttemptRecord, GroupRecord, JobDetail, JobRecord
from compactor.rewrite.task import Spliced
from compactor.units import format_count, format_duration, format_size

_ROWS_MAX = 40
_GOES_ON = "the next run of the table goes on with it"


def render_jobs(jobs: Iterable[JobRecord]) -> None:
    """Print a line per job."""
    console = results()
    table = grid(
        "Job", "Table", "State", "Groups", "Input", "Took", "Started", "Reason", left=(0, 1, 2, -1)
    )
    now_ms = time.time() * 1000
    for job in jobs:
        age = format_duration(max(0.0, (now_ms - job.created_at_ms) / 1000))
        table.add_row(
            job.job,
            job.table,
            _state(job),
            f"{job.groups_committed:,}/{job.groups:,}",
            format_size(job.input_bytes),
            _took(job.created_at_ms, job.finished_at_ms),
            f"{age} ago",
            _GOES_ON if _is_interrupted(job) else job.reason,
        )
    if table.row_count:
        show(console, table)
    else:
        console.print("No jobs yet.")


def render_job(detail: JobDetail, *, shows_all: bool) -> None:
    """Print one job."""
    console, job = results(), detail.job
    title = f"Job {job.job}  {job.table}  {job.format}  {_state(job)}"
    console.print(title, style="bold", soft_wrap=True)
    if job.reason:
        console.print(job.reason, soft_wrap=True)
    took = _took(job.created_at_ms, job.finished_at_ms)
    console.print(
        f"{job.groups_committed:,} of {format_count(job.groups, 'group')} committed, "
        f"{format_size(job.input_bytes)} of input, {took}; planned against snapshot "
        f"{job.snapshot_before}",
        soft_wrap=True,
    )
    for line in _splice_lines(detail):
        console.print(line, soft_wrap=True)
    rows_max = None if shows_all else _ROWS_MAX
    _render_groups(console, detail.groups, detail.attempts, rows_max=rows_max)
    _render_batches(console, detail)
    if next_step := _next_step(job):
        console.print()
        console.print(f"hint: {next_step}", soft_wrap=True)


def _splice_lines(detail: JobDetail) -> Iterator[str]:
    """Yield what was copied and why the rest was not; nothing before the job has ended."""
    report = json.loads(detail.report) if detail.report else {}
    if "splice" in report:
        yield from splice_lines(msgspec.convert(report["splice"], Spliced))


def _render_groups(
    console: Console,
    groups: Iterable[GroupRecord],
    attempts: Iterable[AttemptRecord],
    *,
    rows_max: int | None,
) -> None:
    by_group = defaultdict(list)
    for attempt in attempts:
        by_group[attempt.group_id].append(attempt)
    columns = (
        "Group", "Partition", "State", "Files", "Input", "Output", "Attempts",
        "CPU", "Predicted", "Granted", "Peak", "Reason",
    )  # fmt: skip
    table = grid(*columns, left=(0, 1, 2, -1))
    members = list(groups)
    for group in members[:rows_max]:
        tries = by_group[group.group_id]
        table.add_row(
            group.group_id,
            group.partition or "(all)",
            str(group.state),
            f"{group.input_files:,}",
            format_size(group.input_bytes),
            format_size(group.output_bytes),
            f"{group.attempts:,}",
            format_duration(sum(each.cpu_seconds for each in tries)),
            _most(each.predicted_bytes for each in tries),
            _most(each.granted_bytes for each in tries),
            _most(each.peak_memory_bytes for each in tries),
            group.reason or next((each.error for each in reversed(tries) if each.error), ""),
        )
    console.print()
    show(console, table)
    left_out = len(members) - len(members[:rows_max])
    if left_out:
        console.print(dim(f"… and {format_count(left_out, 'more group')}; -v shows all"))


def _render_batches(console: Console, detail: JobDetail) -> None:
    if not detail.batches:
        return
    table = grid("Commit", "State", "Groups", "Snapshot", "Took", "Reason", left=(0, 1, 3, -1))
    for batch in detail.batches:
        table.add_row(
            batch.batch_id,
            batch.state,
            f"{batch.groups:,}",
            batch.snapshot_id or "-",
            _took(batch.started_at_ms, batch.finished_at_ms),
            batch.reason,
        )
    console.print()
    show(console, table)


def _state(job: JobRecord) -> str:
    """Name the state; a job that is not over and that nobody works on was interrupted."""
    return f"{job.state} (interrupted)" if _is_interrupted(job) else str(job.state)


def _is_interrupted(job: JobRecord) -> bool:
    return not (job.state.is_final or job.is_running)


def _next_step(job: JobRecord) -> str:
    """Say what is to be done about a job that did not do all of its work."""
    if _is_interrupted(job):
        return f"{_GOES_ON}: compact run {job.table}"
    if job.state.is_final and job.groups_committed < job.groups:
        return f"what was committed stays; for the rest: compact run {job.table}"
    return ""


def _took(started_at_ms: int, finished_at_ms: int | None) -> str:
    if finished_at_ms is None:
        return "-"
    # The clock may have been set back in between.
    return format_duration(max(0, finished_at_ms - started_at_ms) / 1000)


def _most(sizes_bytes: Iterable[int]) -> str:
    largest = max(sizes_bytes, default=0)
    return format_size(largest) if largest else "-"
