"""Options that many commands take, and the session that they add up to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from compactor.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


def shared_options(function: F) -> F:
    """Add what every command takes; the values are in `Session.of(context)`."""
    added: list[Decorator[F]] = [
        _noted("--json", name="json", is_flag=True, help="One JSON document on stdout."),
        _noted(
            "--config",
            name="config",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Read this configuration file and no other.",
        ),
        _noted("-q", "--quiet", name="quiet", is_flag=True, help="Only results and errors."),
        _noted("-v", "--verbose", name="verbose", count=True, help="Tell more; show tracebacks."),
        _noted("--no-progress", name="no_progress", is_flag=True, help="No progress report."),
    ]
    for option in reversed(added):
        function = option(function)
    return function


def setting(*flags: str, key: str, help: str, **attributes: Any) -> Decorator[F]:  # noqa: A002
    """Return an option that overrides a setting; the settings check its value."""

    def note(context: click.Context, parameter: click.Parameter, value: object) -> None:
        if value is not None and value != ():
            Session.of(context).flags[key] = (flags[0], value)

    return click.option(*flags, expose_value=False, callback=note, help=help, **attributes)


def policy_options(function: F) -> F:
    """Add the options that override the policy of a table."""
    added: list[Decorator[F]] = [
        setting(
            "--target-file-size",
            key="policy.target_file_size",
            metavar="SIZE",
            help="Size wanted for data files. [default: the table's own property]",
        ),
        setting(
            "--min-input-files",
            key="policy.min_input_files",
            metavar="COUNT",
            help="Rewrite small files once this many are together.",
        ),
        setting(
            "--delete-ratio",
            key="policy.delete_ratio",
            metavar="SHARE",
            help="Rewrite a file that has lost this share of its rows.",
        ),
        setting(
            "--partition",
            key="policy.partitions",
            metavar="PATTERN",
            multiple=True,
            help="Only partitions such as `day=2026-11-*`; may be repeated.",
        ),
        setting(
            "--max-bytes",
            key="policy.max_bytes",
            metavar="SIZE",
            help="Read no more than this in one job.",
        ),
        setting(
            "--max-group-size",
            key="policy.max_group_size",
            metavar="SIZE",
            help="Rewrite no more than this in one task.",
        ),
        setting(
            "--min-age",
            key="policy.min_age",
            metavar="DURATION",
            help="Leave files alone that were written more recently, such as `15m`.",
        ),
        setting(
            "--order",
            key="policy.order",
            metavar="ORDER",
            help="Which groups come first: bytes-asc, bytes-desc, files-desc, oldest-first.",
        ),
    ]
    for option in reversed(added):
        function = option(function)
    return function


def run_options(function: F) -> F:
    """Add the options that override how and where a job runs."""
    added: list[Decorator[F]] = [
        setting(
            "--verify",
            key="run.verify",
            metavar="counts|full",
            help="How each rewrite is proved before it may be committed.",
        ),
        setting(
            "--runtime", key="runtime.url", metavar="URL", help="Where tasks run: local or inline."
        ),
        setting(
            "--workers", key="runtime.workers", metavar="COUNT", help="Worker processes at most."
        ),
        setting(
            "--memory", key="runtime.memory", metavar="SIZE", help="Memory of all workers together."
        ),
    ]
    for option in reversed(added):
        function = option(function)
    return function


def _noted(*flags: str, name: str, **attributes: Any) -> Decorator[F]:
    """Return an option whose value goes to the session, wherever on the line it is given."""

    def note(context: click.Context, parameter: click.Parameter, value: object) -> None:
        if value:
            Session.of(context).given[name] = value

    return click.option(*flags, name, expose_value=False, callback=note, **attributes)
