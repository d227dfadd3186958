"""`compact tables`: how healthy tables are, and what compaction would gain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from compactor.cli.exits import ExitCode, Failure, describe
from compactor.cli.options import policy_options, runtime_options, server_option, shared_options
from compactor.cli.session import Session

if TYPE_CHECKING:
    from compactor.planner.health import Health
    from compactor.planner.plan import Plan
    from compactor.settings import Settings


@dataclass(frozen=True, slots=True)
class Assessed:
    """A table with its health and the plan that would heal it."""

    health: Health
    plan: Plan


_Assess = Callable[[str], Assessed]


@click.command("tables")
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@policy_options
@runtime_options
@server_option
@shared_options
def command(targets: tuple[str, ...]) -> ExitCode:
    """Show the health of tables. A TARGET may be a glob such as `lake.sales.*`.

    A table that cannot be looked at does not keep the others from being shown; the exit code is
    then 3.
    """
    session = Session.of()
    names, assess = _there(session, targets) if session.server else _here(session, targets)
    if len(names) == 1:
        found: dict[str, Assessed | Failure] = {names[0]: assess(names[0])}
    else:
        found = {name: _assess_or_fail(name, assess) for name in names}
    found = dict(sorted(found.items(), key=lambda item: _urgency(item[1])))
    session.emit(lambda: _document(found), lambda: _render(found))
    is_complete = all(isinstance(one, Assessed) for one in found.values())
    return ExitCode.DONE if is_complete else ExitCode.PARTIAL


def _here(session: Session, targets: tuple[str, ...]) -> tuple[list[str], _Assess]:
    from catalog.open import expand

    settings = session.settings()
    names = list(dict.fromkeys(name for target in targets for name in expand(target)))
    return names, partial(_assess, settings=settings)


def _there(session: Session, targets: tuple[str, ...]) -> tuple[list[str], _Assess]:
    from compactor.cli.remote import expanded, planned

    def assess(name: str) -> Assessed:
        plan, health = planned(session, name)
        return Assessed(health, plan)

    return expanded(session, targets), assess


def _urgency(one: Assessed | Failure) -> int:
    """Order the worst tables first, and those that could not be looked at last."""
    return one.health.score if isinstance(one, Assessed) else 101


def _assess(name: str, settings: Settings) -> Assessed:
    from compactor.cli.targets import opened
    from compactor.cli.workplace import now_ms, spread_reading
    from compactor.jobs.planning import plan_snapshot, table_state
    from compactor.planner.health import assess_health

    table = opened(name)
    snapshot = table.snapshot()
    policy = settings.policy(name)
    with spread_reading(settings.runtime) as read:
        inventory = table.inventory(snapshot, map_function=read)
        state = table_state(table, snapshot, inventory)
        files = table.files(snapshot)
        plan = plan_snapshot(state, files, policy, now_ms=now_ms(), map_function=read)
    sizes = policy.file_sizes(state.layout.target_file_size_bytes)
    return Assessed(assess_health(inventory, sizes), plan)


def _assess_or_fail(name: str, assess: _Assess) -> Assessed | Failure:
    from catalog.errors import ExplainedError

    try:
        return assess(name)
    except ExplainedError as error:
        return describe(error)


def _document(found: dict[str, Assessed | Failure]) -> dict[str, Any]:
    return {
        "tables": [
            {"table": name, **(_gain(one) if isinstance(one, Assessed) else one.document())}
            for name, one in found.items()
        ]
    }


def _gain(assessed: Assessed) -> dict[str, Any]:
    from compactor.planner.document import plan_document

    plan = plan_document(assessed.plan)
    health = asdict(assessed.health)
    health["small_file_ratio"] = assessed.health.small_file_ratio
    return {
        "format": plan["format"],
        "snapshot": plan["snapshot"],
        "health": health,
        "gain": {
            **plan["totals"],
            "files_after_estimate": _files_after(assessed.plan),
        },
    }


def _files_after(plan: Plan) -> int:
    return plan.kept_files + plan.totals().output_files_estimate


def _render(found: dict[str, Assessed | Failure]) -> None:
    from compactor.cli.console import dim, grid, results, show

    columns = (
        "Table", "Health", "Data files", "Average", "Small", "Deletes", "Size", "Why",
    )  # fmt: skip
    table = grid(*columns, left=(0, -1))
    for name, one in found.items():
        if isinstance(one, Assessed):
            table.add_row(name, *_figures(one))
        else:
            empty: Sequence[str] = ["-"] * (len(columns) - 2)
            table.add_row(name, *empty, dim(one.message))
    show(results(), table)


def _deletes(health: Health) -> str:
    """Tell delete files that name rows by their keys apart: these are what costs readers most."""
    by_key = health.equality_delete_files
    return f"{health.delete_files:,}" + (f", {by_key:,} by key" if by_key else "")


def _figures(assessed: Assessed) -> tuple[str, ...]:
    from compactor.units import format_size

    health, plan = assessed.health, assessed.plan
    return (
        f"{health.score}/100",
        f"{health.files:,} → {_files_after(plan):,}" if plan.groups else f"{health.files:,}",
        format_size(health.size_bytes / max(health.files, 1)),
        f"{health.small_file_ratio:.0%}",
        _deletes(health),
        format_size(health.size_bytes),
        "; ".join(health.reasons) or "as it should be",
    )
