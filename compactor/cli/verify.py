"""`compact verify`: prove that two snapshots hold the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from compactor.cli.exits import ExitCode
from compactor.cli.options import runtime_options, shared_options
from compactor.cli.session import Session

if TYPE_CHECKING:
    from compactor.jobs.verification import Verification


@click.command("verify")
@click.argument("target")
@click.option("--from", "before", metavar="SNAPSHOT", required=True, help="The one snapshot.")
@click.option("--to", "after", metavar="SNAPSHOT", required=True, help="The other.")
@runtime_options
@shared_options
def command(target: str, before: str, after: str) -> ExitCode:
    """Compare two snapshots of TARGET row by row, as multisets. Exits 1 when they differ."""
    from compactor.cli.targets import opened
    from compactor.cli.workplace import connected
    from compactor.jobs.verification import verify_snapshots

    session = Session.of()
    settings = session.settings()
    table = opened(target)
    session.tell(f"Comparing snapshots {before} and {after} of `{target}` …")
    with connected(settings.runtime) as runtime:
        verification = verify_snapshots(table, before, after, runtime=runtime)
    session.emit(lambda: verification_document(verification), lambda: _render(verification))
    return ExitCode.DONE if verification.is_equal else ExitCode.FAILED


def verification_document(verification: Verification) -> dict[str, Any]:
    """Return the JSON document."""
    return {
        "table": verification.table,
        "from": verification.from_id,
        "to": verification.to_id,
        "equal": verification.is_equal,
        "files_equal": verification.files_equal,
        "files_read": verification.files_read,
        "rows_from": verification.from_digest.row_count,
        "rows_to": verification.to_digest.row_count,
        "digest_from": f"{verification.from_digest.hash_sum:032x}",
        "digest_to": f"{verification.to_digest.hash_sum:032x}",
    }


def _render(verification: Verification) -> None:
    """Print what was compared and what came of it."""
    from compactor.units import format_count

    by_reference = (
        f"; {format_count(verification.files_equal, 'data file')} are in both, by reference"
        if verification.files_equal
        else ""
    )
    read = format_count(verification.files_read, "data file")
    rows_from, rows_to = (
        verification.from_digest.row_count,
        verification.to_digest.row_count,
    )
    snapshots = f"snapshots {verification.from_id} and {verification.to_id}"
    if verification.is_equal:
        click.echo(f"Equal: {snapshots} of `{verification.table}` hold the same rows.")
        click.echo(f"Read {read} with {format_count(rows_from, 'live row')}{by_reference}.")
        return
    click.echo(f"Different: {snapshots} of `{verification.table}` do not hold the same rows.")
    click.echo(f"Read {read}: {rows_from:,} live rows against {rows_to:,}{by_reference}.")
