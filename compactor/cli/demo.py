"""`compact demo`: fragmented tables made, compacted and proved, without any set-up."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compactor.cli.exits import ExitCode
from compactor.cli.options import runtime_options, shared_options
from compactor.cli.session import Session

if TYPE_CHECKING:
    from catalog.iceberg.demo import DemoCatalog
    from catalog.table import Table
    from compactor.planner.health import Health
    from compactor.settings import Settings

_SETTINGS = """\
# Written by `compact demo`: jobs on its tables are recorded beside them.
[store]
url = "sqlite:///{directory}/state/jobs.db"
[runtime]
profiles = "{directory}/state/profiles.db"
"""


@click.command("demo")
@click.argument(
    "directory", type=click.Path(path_type=Path, file_okay=False), default="compact-demo"
)
@runtime_options
@shared_options
def command(directory: Path) -> int:
    """Make small fragmented Iceberg tables in DIRECTORY, compact one, prove that no row changed."""
    from catalog.iceberg.demo import make_demo_catalog

    session = Session.of()
    session.tell(f"Making fragmented tables in `{directory}` …")
    demo = make_demo_catalog(directory)
    config = demo.directory / "compact.toml"
    config.write_text(_SETTINGS.format(directory=demo.directory), encoding="utf-8")
    session.given["config"] = config
    return _compact(session, demo, directory)


def _compact(session: Session, demo: DemoCatalog, directory: Path) -> int:
    from compactor.cli.outcome import report_document
    from compactor.cli.targets import opened
    from compactor.cli.verify import document
    from compactor.cli.workplace import now_ms, workplace
    from compactor.jobs.compaction import compact_table, plan_table
    from compactor.jobs.verification import verify_snapshots
    from compactor.planner.document import plan_document

    settings = session.settings()
    table = opened(demo.orders, dict(demo.properties))
    before = _health(table, settings)
    plan = plan_table(table, settings.policy(demo.orders), now_ms=now_ms())
    if not session.is_json:
        _show_plan(plan)
    with workplace(session, settings) as (environment, _):
        report = compact_table(
            table,
            settings.policy(demo.orders),
            environment=environment,
            options=_with_full_proof(settings),
        )
        proof = verify_snapshots(
            table, report.snapshot_before, report.snapshot_after, runtime=environment.runtime
        )
    after = _health(table, settings)
    session.emit(
        lambda: {
            "directory": str(demo.directory),
            "plan": plan_document(plan),
            "run": report_document(report),
            "verify": document(proof),
            "before": asdict(before),
            "after": asdict(after),
        },
        lambda: _render(before, after, report=report, plan=plan, proof=proof),
    )
    if not session.is_json:
        _render_next_steps(demo, directory)
    return report.exit_code if proof.is_equal else ExitCode.FAILED


def _with_full_proof(settings: Settings) -> Any:
    from dataclasses import replace

    from compactor.rewrite.task import Proof

    return replace(settings.run, proof=Proof.FULL)


def _health(table: Table, settings: Settings) -> Health:
    from compactor.planner.health import assess_health

    snapshot = table.snapshot()
    target_bytes = table.files(snapshot).layout.target_file_size_bytes
    sizes = settings.policy(table.name).file_sizes(target_bytes)
    return assess_health(table.inventory(snapshot), sizes)


def _show_plan(plan: Any) -> None:
    from compactor.cli.console import results
    from compactor.cli.render_plan import render_plan

    render_plan(results(), plan)
    click.echo()


def _render(before: Health, after: Health, *, report: Any, plan: Any, proof: Any) -> None:
    """Print the summary of the job, the table of before and after, and the proof."""
    from compactor.cli.console import grid, results, show
    from compactor.cli.outcome import render_report
    from compactor.units import format_size

    render_report(report, plan)
    click.echo()
    table = grid("", "Before", "After")
    for label, one, other in (
        ("Health", f"{before.score}/100", f"{after.score}/100"),
        ("Data files", f"{before.files:,}", f"{after.files:,}"),
        ("Average size", *(format_size(h.size_bytes / max(h.files, 1)) for h in (before, after))),
        ("Delete files", f"{before.delete_files:,}", f"{after.delete_files:,}"),
        ("Bytes", *(format_size(h.size_bytes + h.delete_bytes) for h in (before, after))),
        ("Stored rows", f"{before.rows:,}", f"{after.rows:,}"),
        ("Live rows", f"{proof.from_digest.row_count:,}", f"{proof.to_digest.row_count:,}"),
    ):
        table.add_row(label, one, other)
    show(results(), table)
    click.echo()
    if proof.is_equal:
        click.echo(
            f"No row changed: all {proof.to_digest.row_count:,} rows of snapshot {proof.from_id} "
            f"are in snapshot {proof.to_id}, compared by content."
        )
    else:
        click.echo(f"THE ROWS DIFFER between snapshots {proof.from_id} and {proof.to_id}.")


def _render_next_steps(demo: DemoCatalog, directory: Path) -> None:
    uri = dict(demo.properties)["uri"]
    click.echo(
        f"""
Go on with the tables:
  cd {directory}    # its .pyiceberg.yaml names the catalog `demo`
  compact tables 'demo.*.*'
  compact run {demo.clicks}
  compact jobs list

Your own catalogs are found the way PyIceberg finds them; this one, from anywhere:
  export PYICEBERG_CATALOG__DEMO__TYPE=sql
  export PYICEBERG_CATALOG__DEMO__URI={uri}"""
    )
