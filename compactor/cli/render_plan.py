"""A plan for people: what would be rewritten per partition, why, at what price, and what is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from rich.console import Console
from rich.text import Text

from compactor.cli.console import dim, grid, show
from compactor.planner.plan import FileGroup, Plan, Skipped, Touched
from compactor.units import format_count, format_duration, format_size

# More rows than a screen holds are of no use without `-v`.
_ROWS_MAX = 40
_WHOLE_TABLE = "(all)"


def render_plan(console: Console, plan: Plan, *, shows_all: bool = False) -> None:
    """Print a plan."""
    snapshot = plan.snapshot.snapshot_id or "(empty)"
    title = f"{plan.table}  {plan.format}  snapshot {snapshot}"
    console.print(title, style="bold", soft_wrap=True)
    if plan.groups or plan.skipped:
        console.print()
        render_groups(console, plan, shows_all=shows_all)
    console.print()
    for one in plan.considered:
        console.print(f"{one.strategy}: {one.reason}.", soft_wrap=True)
    if not plan.groups:
        kept = format_count(plan.kept_files, "data file")
        idle = f"Nothing to do: {kept}, {format_size(plan.kept_bytes)}, all stay."
        console.print(idle, soft_wrap=True)
        return
    for line in _totals(plan):
        console.print(line, soft_wrap=True)


def render_groups(console: Console, plan: Plan, *, shows_all: bool) -> None:
    """Print the groups of a plan by partition, and what is skipped."""
    rows_max = None if shows_all else _ROWS_MAX
    columns = ("Partition", "Groups", "Data files", "Deletes", "Size", "After", "Why")
    table = grid(*columns, left=(0, -1))
    rows = [*_group_rows(plan.groups), *map(_skipped_row, plan.skipped)]
    for row in rows[:rows_max]:
        table.add_row(*row)
    show(console, table)
    left_out = len(rows) - len(rows[:rows_max])
    if left_out:
        console.print(dim(f"… and {format_count(left_out, 'more row')}; -v shows all"))


def _group_rows(groups: Iterable[FileGroup]) -> Iterator[tuple[str | Text, ...]]:
    """Yield a row per partition, in the order of work: its groups follow each other."""
    for partition, run in groupby(groups, key=attrgetter("partition")):
        members = list(run)
        files = sum(group.files.file_count for group in members)
        outputs = sum(group.output_files_estimate for group in members)
        deletes = len(
            {path for group in members for path in group.files.delete_files["path"].to_pylist()}
        )
        yield (
            partition or _WHOLE_TABLE,
            f"{len(members):,}",
            f"{files:,} → {outputs:,}",
            f"{deletes:,} → {sum(one.delete_files_estimate for one in members):,}"
            if deletes
            else "0",
            format_size(sum(group.price.input_bytes for group in members)),
            format_size(sum(group.price.output_bytes_estimate for group in members)),
            "; ".join(dict.fromkeys(group.reason for group in members)),
        )


def _skipped_row(skipped: Skipped) -> tuple[str | Text, ...]:
    return (
        dim(skipped.partition or _WHOLE_TABLE),
        dim("-"),
        dim(f"{skipped.files:,}"),
        dim("-"),
        dim(format_size(skipped.size_bytes)),
        dim("-"),
        dim(f"skipped: {skipped.reason}"),
    )


def touched_line(before: Touched, after: Touched) -> str:
    """Say what a reader is spared."""
    return (
        f"A predicate on one key touches {before.files:,.1f} → {after.files:,.1f} data files, "
        f"{before.row_groups:,.1f} → {after.row_groups:,.1f} row groups."
    )


def _totals(plan: Plan) -> Iterator[str]:
    totals = plan.totals()
    price = totals.price
    deletes = (
        f", {format_count(totals.delete_files, 'delete file')} → {totals.delete_files_estimate:,}"
        if totals.delete_files
        else ""
    )
    yield (
        f"Plan: {format_count(totals.groups, 'file group')}. "
        f"{format_count(totals.files, 'data file')} → {totals.output_files_estimate:,}{deletes}; "
        f"read {format_size(price.input_bytes + price.delete_bytes)}, "
        f"write {format_size(price.output_bytes_estimate)}."
    )
    if price.splice_bytes_estimate:
        composed = price.compose_bytes_estimate
        inside = f" ({format_size(composed)} inside the store)" if composed else ""
        yield (
            f"Bytes: copy {format_size(price.splice_bytes_estimate)}{inside} as they are, "
            f"encode {format_size(price.transcode_bytes_estimate)} anew; "
            "footers have the last word."
        )
    if plan.cluster is not None:
        yield f"Order: {plan.cluster.clustering}."
        if totals.groups:
            yield touched_line(plan.cluster.pruning.before, plan.cluster.pruning.after_estimate)
    yield (
        f"Price: {format_duration(price.cpu_seconds_estimate)} of CPU time, "
        f"{format_size(price.memory_bytes_estimate)} of memory per worker, "
        f"{format_count(price.requests_estimate, 'storage request')}."
    )
    if plan.kept_files:
        kept = format_count(plan.kept_files, "data file")
        yield f"Kept: {kept}, {format_size(plan.kept_bytes)}, by reference."
