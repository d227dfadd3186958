"""Commands done by a service: asked for through its job API, told as if it had happened here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
import msgspec

from compactor.cli.exits import ExitCode
from compactor.cli.session import AUTHORITIES_VARIABLE, TOKEN_VARIABLE, Session
from compactor.errors import SettingsError

if TYPE_CHECKING:
    from compactor.jobs.store import JobDetail
    from compactor.planner.health import Health
    from compactor.planner.plan import Plan
    from compactor.service.rpc.api_pb2 import Trigger
    from compactor.service.rpc.client import ServiceClient

_POLICY = "policy."
_EXITS = {
    "succeeded": ExitCode.DONE,
    "skipped": ExitCode.DONE,
    "partial": ExitCode.PARTIAL,
    "cancelled": ExitCode.INTERRUPTED,
}


def connected(session: Session) -> ServiceClient:
    """Return a client of the session's service.

    Raises:
        SettingsError: its address or its token cannot be used.
    """
    try:
        from compactor.service.rpc.client import ServiceClient
    except ImportError as error:
        raise SettingsError(
            "talking to a service needs libraries that are not installed",
            hint="install them: pip install 'lake-compactor[service]'",
        ) from error
    token, authorities = (os.environ.get(one, "") for one in (TOKEN_VARIABLE, AUTHORITIES_VARIABLE))
    return ServiceClient(session.server, token, authorities=authorities)


def planned(session: Session, target: str) -> tuple[Plan, Health]:
    """Have the service plan a table, with the policy that flags override.

    Raises:
        RemoteError: it does not.
    """
    _refuse_flags(session, [key for key in session.flags if not key.startswith(_POLICY)])
    overrides = {
        key.removeprefix(_POLICY): _text(value) for key, (_, value) in session.flags.items()
    }
    with connected(session) as service:
        return service.plan(target, overrides)


def expanded(session: Session, targets: tuple[str, ...]) -> list[str]:
    """Return the registered tables that names and globs stand for.

    Raises:
        RemoteError: the service does not tell.
    """
    from fnmatch import fnmatchcase

    names: dict[str, None] = {}
    with connected(session) as service:
        for target in targets:
            if not set("*?[") & set(target):
                names[target] = None
                continue
            fixed = target.partition("*")[0].partition("?")[0].partition("[")[0]
            found = (one for one in service.targets(fixed) if fnmatchcase(one, target))
            names.update(dict.fromkeys(found))
    return list(names)


def run(session: Session, target: str, *, is_asked: bool) -> int:
    """Have the service compact a table and tell what it does; return the exit code.

    Raises:
        SettingsError: flags were given that the service takes from its own configuration.
        RemoteError: it does not do so.
    """
    _refuse_flags(session, session.flags)
    plan = None
    if is_asked:
        plan, _ = planned(session, target)
        if not _is_wanted(plan):
            session.tell("Nothing was done.")
            return ExitCode.DONE
    with connected(session) as service:
        trigger = service.submit(target, cause="compact run")
        return _followed(session, service, trigger.trigger_id, plan)


def _is_wanted(plan: Plan) -> bool:
    from compactor.cli.console import messages
    from compactor.cli.render_plan import render_plan

    if not plan.groups:
        return True
    render_plan(messages(), plan)
    return click.confirm("\nRun this plan?", err=True)


def _followed(session: Session, service: ServiceClient, trigger_id: int, plan: Plan | None) -> int:
    from compactor.cli.outcome import told_outcome
    from compactor.jobs.report import decode_report

    try:
        trigger, detail = _watched(session, service, trigger_id)
    except KeyboardInterrupt:
        session.tell(f"The service goes on with trigger {trigger_id} of its queue.")
        raise
    if detail is not None and detail.report is not None:
        return told_outcome(session, decode_report(detail.report), plan)
    said = {"trigger": trigger_id, "status": trigger.status, "reason": trigger.why}
    text = trigger.why or f"`{trigger.target}`: {trigger.status or trigger.state}"
    session.emit(lambda: said, lambda: click.echo(text))
    return _EXITS.get(trigger.status, ExitCode.FAILED)


def _watched(
    session: Session, service: ServiceClient, trigger_id: int
) -> tuple[Trigger, JobDetail | None]:
    from compactor.cli.progress import told_progress
    from compactor.jobs.retelling import retold

    waiting, before = "", None
    with told_progress(shows_progress=session.shows_progress, is_quiet=session.is_quiet) as watcher:
        for progress in service.watch(trigger_id):
            trigger = progress.trigger
            if trigger.state == "pending" and trigger.why != waiting and session.shows_progress:
                waiting = trigger.why
                with watcher.paused():
                    session.tell(f"Waiting: {waiting}")
            if progress.job is not None:
                for event in retold(before, progress.job):
                    watcher(event)
                before = progress.job
    return trigger, before


def _refuse_flags(session: Session, keys: Iterable[str]) -> None:
    shown = ", ".join(f"`{session.flags[key][0]}`" for key in keys)
    if shown:
        raise SettingsError(
            f"{shown} cannot be given together with a service",
            hint="it has a policy for every table; only `compact plan` takes another one",
        )


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
