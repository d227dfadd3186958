"""The end of a job for people and programs: what was saved, what was moved, what did not work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from compactor.cli.session import Session
from compactor.units import format_count, format_duration, format_size

if TYPE_CHECKING:
    from compactor.jobs.report import JobReport
    from compactor.planner.plan import Plan
    from compactor.rewrite.task import Spliced

_PROBLEMS_MAX = 10
_VERBS = {"succeeded": "Compacted", "partial": "Compacted in part", "cancelled": "Interrupted on"}


def told_outcome(session: Session, report: JobReport, plan: Plan | None) -> int:
    """Print the report and return the exit code that it calls for."""
    session.emit(lambda: report_document(report), lambda: render_report(report, plan))
    if session.verbosity:
        for line in splice_lines(report.splice):
            session.tell(line)
    for line in _problems(report):
        # What failed is an error: it is told to those, too, who want to hear of nothing else.
        click.echo(line, err=True)
    return report.exit_code


def report_document(report: JobReport) -> dict[str, Any]:
    """Return the JSON document; its keys are a contract and are only ever added to."""
    document = {**asdict(report), "status": str(report.status)}
    del document["change"]
    if report.change is None:
        return document
    from compactor.cli.render_merge import change_document

    return {**document, **change_document(report.change)}


def render_report(report: JobReport, plan: Plan | None = None) -> None:
    """Print the summary."""
    from compactor.cli.console import results

    console = results()
    for line in summary(report, plan):
        console.print(line, soft_wrap=True)


def summary(report: JobReport, plan: Plan | None = None) -> Iterator[str]:
    """Yield the lines of the summary; with the plan at hand they also say what was before."""
    if report.change is not None:
        from compactor.cli.render_merge import merge_summary

        yield from merge_summary(report, report.change)
        yield from _job_line(report)
        return
    took = format_duration(report.seconds)
    groups = report.groups
    if not (groups.committed or groups.dropped or groups.failed or report.problems):
        if report.reason:
            yield f"{report.status.capitalize()}: {report.reason}"
            return
        files = format_count(report.files_before, "data file")
        yield f"Nothing to do on `{report.table}`: {files}, none worth rewriting."
        return
    verb = _VERBS.get(str(report.status), "Failed on")
    files = f"{format_count(report.files_before, 'data file')} → {report.files_after:,}"
    yield f"{verb} `{report.table}` in {took}: {files}{_saved(report, plan)}"
    if groups.committed:
        yield _moved(report)
    yield from _order_lines(report)
    if groups.committed and report.verified:
        yield f"Proved: {_rows(report)}"
    yield from _job_line(report)


def _job_line(report: JobReport) -> Iterator[str]:
    yield f"Job {report.job} · {' · '.join(_counts(report))}"


def _saved(report: JobReport, plan: Plan | None) -> str:
    """Say what became of the sizes; only a job that did all of its plan knows."""
    if report.problems or report.conflicts or report.exit_code or not report.files_after:
        return ""
    if report.rows_marked:
        return f", {format_count(report.rows_marked, 'deleted row')} recorded by position"
    average = format_size((report.bytes_written + report.bytes_kept) / report.files_after)
    if plan is None or not report.files_before:
        return f", average now {average}"
    totals = plan.totals()
    before = (plan.kept_bytes + totals.price.input_bytes) / report.files_before
    deletes = totals.delete_files
    applied = f", {format_count(deletes, 'delete file')} applied" if deletes else ""
    return f", average {format_size(before)} → {average}{applied}"


def _order_lines(report: JobReport) -> Iterator[str]:
    """Say what an order of rows spares readers."""
    if report.order is None or report.order.after is None or not report.groups.committed:
        return
    from compactor.cli.render_plan import touched_line

    yield f"Order: {report.order.order}"
    yield touched_line(report.order.before, report.order.after)


def _moved(report: JobReport) -> str:
    composed = report.splice.composed_bytes
    inside = f" ({format_size(composed)} of them inside the store)" if composed else ""
    copied = f", copied {format_size(report.bytes_spliced)}{inside}" if report.bytes_spliced else ""
    kept = f", kept {format_size(report.bytes_kept)} by reference" if report.bytes_kept else ""
    return (
        f"Moved: read {format_size(report.bytes_read)}, "
        f"wrote {format_size(report.bytes_written)}{copied}{kept}; "
        f"{format_duration(report.cpu_seconds)} of CPU time, "
        f"peak {format_size(report.peak_memory_bytes)} per worker"
    )


def splice_lines(splice: Spliced) -> Iterator[str]:
    """Yield what was copied as it is, and why other row groups were not."""
    if splice.copied_bytes:
        unchecked, patched = splice.unchecked_bytes, splice.row_groups_patched
        checks = f", {format_size(unchecked)} of them without page checksums" if unchecked else ""
        others = f" and most columns of {format_count(patched, 'other')}" if patched else ""
        yield (
            f"Copied as they are: {format_count(splice.row_groups, 'row group')}{others}, "
            f"{format_size(splice.copied_bytes)}{checks}"
        )
    if splice.composed_bytes:
        yield f"Copied inside the store: {format_size(splice.composed_bytes)}"
    for reason, count in splice.streamed:
        yield f"Copied through a worker: {format_count(count, 'output')}: {reason}"
    for reason, count in splice.reasons:
        yield f"Encoded anew: {format_count(count, 'row group')}: {reason}"


def _rows(report: JobReport) -> str:
    if report.rows_before == report.rows_after:
        return f"{format_count(report.rows_before, 'row')} before and after"
    return f"{report.rows_before:,} rows before, {report.rows_after:,} after other writers' commits"


def _counts(report: JobReport) -> Iterator[str]:
    yield f"{format_count(report.groups.committed, 'group')} committed"
    if report.groups.dropped:
        yield f"{report.groups.dropped:,} lost to other writers"
    if report.groups.failed:
        yield f"{report.groups.failed:,} failed"
    if report.conflicts:
        yield format_count(report.conflicts, "conflict")
    if report.commits.lost:
        yield f"{format_count(report.commits.lost, 'commit')} of {sum_of(report)} lost"
    if report.is_resumed:
        yield "resumed"


def sum_of(report: JobReport) -> int:
    """Return how many commits a job has tried."""
    return report.commits.made + report.commits.lost


def _problems(report: JobReport) -> Iterator[str]:
    """Yield what is not in the table and why, and how to go on."""
    for problem in report.problems[:_PROBLEMS_MAX]:
        where = f" in `{problem.partition}`" if problem.partition else ""
        yield f"warning: group {problem.group_id}{where}: {problem.reason}"
    left_out = len(report.problems) - _PROBLEMS_MAX
    if left_out > 0:
        more = format_count(left_out, "more group")
        yield f"warning: and {more}; see: compact jobs show {report.job}"
    if report.reason and report.reason not in {problem.reason for problem in report.problems}:
        yield f"warning: {report.status}: {report.reason}"
    for warning in (*report.warnings, *map(str, report.starving)):
        yield f"warning: {warning}"
    if report.exit_code and report.change is not None:
        yield "hint: all of a merge is committed or nothing; the same command tries again"
    elif report.exit_code:
        yield f"hint: what was committed stays; for the rest: compact run {report.table}"
