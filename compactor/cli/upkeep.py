"""`compact upkeep`: what a table needs besides the rewriting of its data files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from compactor.cli.exits import ExitCode
from compactor.cli.options import shared_options
from compactor.cli.session import Session

if TYPE_CHECKING:
    from catalog.table import Table
    from catalog.upkeep import UnfinishedJob, UpkeepOperation, UpkeepOrder, UpkeepResult


@click.command("upkeep")
@click.argument("target")
@click.option("--only", metavar="NAME", multiple=True, help="Just this operation; repeatable.")
@click.option("--dry-run", is_flag=True, help="Tell what would be done, and do nothing.")
@click.option(
    "--retention",
    metavar="DURATION",
    help="Keep what the table no longer refers to for this long. [default: the table's property]",
)
@click.option(
    "--keep-last",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep this many snapshots of each branch however old. [default: the table's property]",
)
@click.option("--force", is_flag=True, help="Keep less than the table says.")
@shared_options
def command(
    target: str,
    only: tuple[str, ...],
    dry_run: bool,
    retention: str | None,
    keep_last: int | None,
    force: bool,
) -> ExitCode:
    """Look after the metadata of TARGET: expire snapshots, remove files nothing refers to."""
    from catalog.upkeep import UpkeepOrder
    from compactor.cli.targets import opened

    session = Session.of()
    table = opened(target)
    seconds = _seconds(retention)
    order = UpkeepOrder(dry_run, seconds, force, keep_last, _unfinished(session, table))
    chosen = _chosen(table, only)
    for operation in chosen:
        operation.check(order)
    results = [_run(session, operation, order) for operation in chosen]
    session.emit(lambda: _document(table, order, results), lambda: _render(results, order))
    return ExitCode.DONE


def _unfinished(session: Session, table: Table) -> tuple[UnfinishedJob, ...]:
    """Return the jobs whose files and base must stay."""
    from compactor.jobs.store import open_store
    from compactor.jobs.unfinished import unfinished_jobs

    with open_store(session.settings().store.url) as store:
        return unfinished_jobs(store, table.name)


def _run(session: Session, operation: UpkeepOperation, order: UpkeepOrder) -> UpkeepResult:
    session.tell(f"{operation.name} …")
    return operation.run(order)


def _chosen(table: Table, only: Sequence[str]) -> list[UpkeepOperation]:
    """Return the operations that were asked for, or the usual ones, in the table's order.

    Raises:
        UnsupportedTableError: the format has none.
        click.BadParameter: one is not known.
    """
    from catalog.errors import UnsupportedTableError

    known = table.upkeep()
    if not known:
        raise UnsupportedTableError(
            f"there is no upkeep for tables of the format {table.format}",
            hint="leave it to the engine that writes the table",
        )
    names = [operation.name for operation in known]
    if unknown := [name for name in only if name not in names]:
        raise click.BadParameter(
            f"no operation `{unknown[0]}`; there are {', '.join(names)}", param_hint="--only"
        )
    return [one for one in known if (one.name in only if only else one.is_usual)]


def _seconds(text: str | None) -> int | None:
    from compactor.units import parse_duration

    if text is None:
        return None
    try:
        return int(parse_duration(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--retention") from error


def _document(table: Table, order: UpkeepOrder, results: Sequence[UpkeepResult]) -> dict[str, Any]:
    return {
        "table": table.name,
        "format": table.format,
        "dry_run": order.is_dry_run,
        "operations": [asdict(result) for result in results],
    }


def _render(results: Sequence[UpkeepResult], order: UpkeepOrder) -> None:
    from compactor.cli.console import grid, show
    from compactor.cli.console import results as console
    from compactor.units import format_size

    table = grid("Operation", "Files", "Size", "Note", left=(0, -1))
    for one in results:
        table.add_row(one.operation, f"{one.files:,}", format_size(one.bytes), one.note)
    show(console(), table)
    if order.is_dry_run:
        click.echo("Nothing was changed: this was a dry run.")
