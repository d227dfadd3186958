"""`compact demo`: fragmented tables made, compacted and proved, without any set-up."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compactor.cli.exits import ExitCode
from compactor.cli.options import runtime_options, shared_options
from compactor.cli.session import Session

if TYPE_CHECKING:
    from catalog.iceberg.demo import DemoCatalog
    from catalog.table import Table
    from compactor.jobs.report import JobReport
    from compactor.jobs.runner import JobEnvironment
    from compactor.jobs.verification import Verification
    from compactor.planner.health import Health
    from compactor.planner.plan import Plan
    from compactor.planner.policy import Policy
    from compactor.settings import Settings

_SETTINGS = """\
# Written by `compact demo`: jobs on its tables are recorded beside them.
[store]
url = "sqlite:///{directory}/state/jobs.db"
[runtime]
profiles = "{directory}/state/profiles.db"
"""
_NEXT_STEPS = """\
Go on with the tables:
  cd {directory}    # its .pyiceberg.yaml names the catalog `demo`
  compact tables 'demo.*.*' ./payments ./trips
  compact run {clicks}
  compact jobs list

Your own catalogs are found the way PyIceberg finds them; this one, from anywhere:
  export PYICEBERG_CATALOG__DEMO__TYPE=sql
  export PYICEBERG_CATALOG__DEMO__URI={uri}"""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What the demo did to a table: health around it, the job, and the proof."""

    before: Health
    plan: Plan
    report: JobReport
    proof: Verification
    after: Health

    @property
    def is_good(self) -> bool:
        """Whether the job did all it had planned, and no row changed."""
        return self.proof.is_equal and not self.report.exit_code


@click.command("demo")
@click.argument(
    "directory", type=click.Path(path_type=Path, file_okay=False), default="compact-demo"
)
@runtime_options
@shared_options
def command(directory: Path) -> int:
    """Make small fragmented tables, compact three of them, prove that no row changed.

    They are tables of Iceberg, of Delta Lake and of Hudi, made in DIRECTORY, `compact-demo` when
    none is given.
    """
    session = Session.of()
    session.tell(f"Making fragmented tables in `{directory}` …")
    demo = _make(directory)
    config = demo.directory / "compact.toml"
    config.write_text(_SETTINGS.format(directory=demo.directory), encoding="utf-8")
    session.given["config"] = config
    done = _compact_all(session, demo)
    session.emit(lambda: _document(demo, done), lambda: None)
    if not session.is_json:
        uri = dict(demo.properties)["uri"]
        click.echo(_NEXT_STEPS.format(directory=directory, clicks=demo.clicks, uri=uri))
    failed = (one.report.exit_code or ExitCode.FAILED for one in done if not one.is_good)
    return next(failed, ExitCode.DONE)


def _make(directory: Path) -> DemoCatalog:
    """Make the tables.

    Raises:
        SettingsError: the directory is somebody else's.
    """
    from catalog.delta.demo import make_demo_table as make_delta_table
    from catalog.errors import LocationError
    from catalog.hudi.demo import make_demo_table as make_hudi_table
    from catalog.iceberg.demo import make_demo_catalog
    from compactor.errors import SettingsError

    try:
        demo = make_demo_catalog(directory)
        make_delta_table(demo.payments)
        make_hudi_table(demo.trips)
        return demo
    except LocationError as error:
        raise SettingsError(str(error), hint=error.hint) from error


def _compact_all(session: Session, demo: DemoCatalog) -> list[Compaction]:
    """Compact a table of each format, and tell of each before the next begins."""
    from compactor.cli.targets import opened
    from compactor.cli.workplace import workplace

    settings = session.settings()
    orders = opened(demo.orders, dict(demo.properties))
    others = [opened(str(path)) for path in (demo.payments, demo.trips)]
    done = []
    with workplace(session, settings) as (environment, _):
        for table in (orders, *others):
            one = _compact(table, settings, environment, session)
            if not session.is_json:
                _render(one)
                click.echo()
            done.append(one)
    return done


def _compact(
    table: Table, settings: Settings, environment: JobEnvironment, session: Session
) -> Compaction:
    """Compact a table; every group is proved, and then the whole snapshot."""
    from compactor.cli.workplace import now_ms
    from compactor.jobs.compaction import compact_table
    from compactor.jobs.planning import plan_table
    from compactor.jobs.verification import verify_snapshots
    from compactor.rewrite.task import Proof

    policy = settings.policy(table.name)
    before = _health(table, policy)
    plan = plan_table(table, policy, now_ms=now_ms())
    if not session.is_json:
        _show_plan(plan)
    options = replace(settings.run, proof=Proof.FULL)
    report = compact_table(table, policy, environment=environment, options=options)
    proof = verify_snapshots(
        table, report.snapshot_before, report.snapshot_after, runtime=environment.runtime
    )
    return Compaction(before, plan, report, proof, _health(table, policy))


def _health(table: Table, policy: Policy) -> Health:
    from compactor.planner.health import assess_health

    snapshot = table.snapshot()
    sizes = policy.file_sizes(table.files(snapshot).layout.target_file_size_bytes)
    return assess_health(table.inventory(snapshot), sizes)


def _document(demo: DemoCatalog, done: list[Compaction]) -> dict[str, Any]:
    first, *others = done
    return {
        "directory": str(demo.directory),
        **_figures(first),
        "others": [_figures(one) for one in others],
    }


def _figures(done: Compaction) -> dict[str, Any]:
    from compactor.cli.outcome import report_document
    from compactor.cli.verify import verification_document
    from compactor.planner.document import plan_document

    return {
        "before": asdict(done.before),
        "plan": plan_document(done.plan),
        "run": report_document(done.report),
        "verify": verification_document(done.proof),
        "after": asdict(done.after),
    }


def _show_plan(plan: Plan) -> None:
    from compactor.cli.console import results
    from compactor.cli.render_plan import render_plan

    render_plan(results(), plan)
    click.echo()


def _render(done: Compaction) -> None:
    """Print the summary of the job, the table of before and after, and the proof."""
    from compactor.cli.console import grid, results, show
    from compactor.cli.outcome import render_report
    from compactor.units import format_size

    render_report(done.report, done.plan)
    click.echo()
    table = grid("", "Before", "After")
    proof, sides = done.proof, (done.before, done.after)
    live_rows = (proof.from_digest.row_count, proof.to_digest.row_count)
    table.add_row("Health", *(f"{side.score}/100" for side in sides))
    table.add_row("Data files", *(f"{side.files:,}" for side in sides))
    table.add_row("Average size", *(format_size(side.size_bytes / side.files) for side in sides))
    table.add_row("Delete files", *(f"{side.delete_files:,}" for side in sides))
    table.add_row("Bytes", *(format_size(side.size_bytes + side.delete_bytes) for side in sides))
    table.add_row("Stored rows", *(f"{side.rows:,}" for side in sides))
    table.add_row("Live rows", *(f"{rows:,}" for rows in live_rows))
    show(results(), table)
    click.echo()
    if proof.is_equal:
        click.echo(
            f"No row changed: all {live_rows[1]:,} rows of snapshot {proof.from_id} "
            f"are in snapshot {proof.to_id}, compared by content."
        )
    else:
        click.echo(f"THE ROWS DIFFER between snapshots {proof.from_id} and {proof.to_id}.")
