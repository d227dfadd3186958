"""A merge for people and programs: what it would do, and what it has done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from compactor.cli.console import grid, show
from compactor.cli.render_plan import render_groups
from compactor.planner.document import plan_document
from compactor.planner.plan import ChangeCounts, ChangePlan, Plan
from compactor.units import format_count, format_duration, format_size

if TYPE_CHECKING:
    from rich.console import Console

    from compactor.jobs.report import JobReport

# What ruled out the rows that are not in a stage of the search any more.
_STAGES = {
    "stored": "stored",
    "partitions": "left by partitions",
    "files": "left by bounds of files",
    "row groups": "left by bounds of row groups",
    "key filters": "left by filters of keys",
    "filters": "left by Bloom filters",
    "keys": "hit",
}

# How far rounds have come is recorded like a watermark, and of no use to people.
_ROUNDS = (".round", ".round.key")


def merge_plan_document(plan: Plan) -> dict[str, Any]:
    """Return the JSON document of a merge that is only planned; keys are only ever added."""
    return {**plan_document(plan), **change_document(plan.change)}


def change_document(change: ChangePlan | None) -> dict[str, Any]:
    """Return what stands in a document of what was merged, or would be."""
    if change is None:
        return {}
    return {
        **asdict(change.counts),
        "watermarks": {one.source: one.value for one in change.watermarks},
        "search": [asdict(stage) for stage in change.stages],
        "row_groups_hit": change.row_groups_hit,
        "row_groups_free": change.row_groups_free,
        "files_marked": change.files_marked,
    }


def render_merge_plan(console: Console, plan: Plan, *, shows_all: bool = False) -> None:
    """Print the plan of a merge."""
    snapshot = plan.snapshot.snapshot_id or "(empty)"
    title = f"{plan.table}  {plan.format}  snapshot {snapshot}"
    console.print(title, style="bold", soft_wrap=True)
    change = plan.change
    if change is None or not plan.groups:
        console.print()
        console.print(nothing_new(change), soft_wrap=True)
        return
    console.print()
    _render_search(console, change)
    console.print()
    render_groups(console, plan, shows_all=shows_all)
    console.print()
    for line in _plan_lines(plan, change):
        console.print(line, soft_wrap=True)


def _render_search(console: Console, change: ChangePlan) -> None:
    table = grid("Rows with changed keys", "Data files", "Row groups", "Rows")
    for stage in change.stages:
        table.add_row(
            _STAGES.get(stage.name, stage.name),
            f"{stage.files:,}",
            "-" if stage.row_groups is None else f"{stage.row_groups:,}",
            f"{stage.rows:,}",
        )
    show(console, table)


def _plan_lines(plan: Plan, change: ChangePlan) -> Iterator[str]:
    yield f"Changes: {counts_line(change.counts)}."
    totals = plan.totals()
    price = totals.price
    rewritten = totals.files - change.files_marked
    new_rows = sum(group.rows_added for group in plan.groups)
    marked = f", {format_count(change.files_marked, 'other')} marked" if change.files_marked else ""
    yield (
        f"Plan: {format_count(rewritten, 'data file')} written anew{marked}, "
        f"{format_count(new_rows, 'row')} to come; "
        f"{format_count(change.row_groups_hit, 'row group')} encoded, "
        f"{change.row_groups_free:,} copied if they can be."
    )
    yield (
        f"Bytes: read {format_size(price.input_bytes + price.delete_bytes)}, "
        f"write {format_size(price.output_bytes_estimate)}, "
        f"copy {format_size(price.splice_bytes_estimate)} of them as they are; "
        f"keep {format_count(plan.kept_files, 'data file')}, "
        f"{format_size(plan.kept_bytes)}, by reference."
    )
    yield (
        f"Price: {format_duration(price.cpu_seconds_estimate)} of CPU time, "
        f"{format_size(price.memory_bytes_estimate)} of memory per worker, "
        f"{format_count(price.requests_estimate, 'storage request')}."
    )
    yield from _watermark_lines(change)


def _watermark_lines(change: ChangePlan) -> Iterator[str]:
    for one in change.watermarks:
        if not one.source.endswith(_ROUNDS):
            yield f"Merged up to: {one.value} of {one.source}"


def counts_line(counts: ChangeCounts) -> str:
    """Say what changes are and do."""
    read = f"{format_count(counts.upserts, 'upsert')}, {format_count(counts.deletes, 'delete')}"
    void = f", {counts.superseded:,} of them superseded" if counts.superseded else ""
    idle = f", {counts.unchanged:,} without effect" if counts.unchanged else ""
    return (
        f"{read}{void} → {counts.inserted:,} inserted, {counts.updated:,} updated, "
        f"{counts.deleted:,} deleted{idle}"
    )


def nothing_new(change: ChangePlan | None) -> str:
    """Say that there is nothing to merge, and since when."""
    marks = () if change is None else change.watermarks
    since = "; ".join(f"{one.source} is merged up to {one.value}" for one in marks)
    return f"Nothing new: {since}." if since else "Nothing new."


def merge_summary(report: JobReport, change: ChangePlan) -> Iterator[str]:
    """Yield the lines of the summary of a merge."""
    if not report.groups.committed and not report.problems and not report.reason:
        yield nothing_new(change)
        return
    took = format_duration(report.seconds)
    if report.groups.committed:
        yield f"Merged into `{report.table}` in {took}: {counts_line(change.counts)}"
        yield from _watermark_lines(change)
        yield _moved(report, change)
    else:
        yield f"Nothing of it is in `{report.table}`: {report.reason}"
    if report.groups.committed and report.verified:
        yield (
            f"Proved: {format_count(report.rows_before, 'row')} stored before, "
            f"{report.rows_dropped:,} gone, {report.rows_added:,} new, {report.rows_after:,} after"
        )


def _moved(report: JobReport, change: ChangePlan) -> str:
    copied = report.splice.row_groups + report.splice.row_groups_patched
    return (
        f"Moved: read {format_size(report.bytes_read)}, "
        f"wrote {format_size(report.bytes_written)}, "
        f"copied {format_size(report.bytes_spliced)} in {format_count(copied, 'row group')}, "
        f"kept {format_size(report.bytes_kept)} by reference; "
        f"{format_duration(report.cpu_seconds)} of CPU time, "
        f"peak {format_size(report.peak_memory_bytes)} per worker"
    )
