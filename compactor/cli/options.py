"""Options that many commands take, and the session that they add up to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from compactor.cli.session import (
    AUTHORITIES_VARIABLE,
    SERVER_VARIABLE,
    TOKEN_VARIABLE,
    Session,
)

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


def shared_options(function: F) -> F:
    """Add what every command takes; the values are in `Session.of(context)`."""
    added: list[Decorator[F]] = [
        click.option(
            "--json",
            is_flag=True,
            expose_value=False,
            callback=note("json"),
            help="One JSON document on stdout.",
        ),
        click.option(
            "--config",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False),
            expose_value=False,
            callback=note("config"),
            help="Read this configuration file and no other.",
        ),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            expose_value=False,
            callback=note("quiet"),
            help="Only results and errors.",
        ),
        click.option(
            "-v",
            "--verbose",
            count=True,
            expose_value=False,
            callback=note("verbose"),
            help="Tell more; show tracebacks.",
        ),
        click.option(
            "--no-progress",
            is_flag=True,
            expose_value=False,
            callback=note("no_progress"),
            help="No progress report.",
        ),
    ]
    for option in reversed(added):
        function = option(function)
    return function


def server_option(function: F) -> F:
    """Add the option that has a service do the work; the value is in the session."""
    added: Decorator[F] = click.option(
        "--server",
        metavar="URL",
        expose_value=False,
        callback=note("server"),
        help="Have a service do it."
        f" [environment: {SERVER_VARIABLE}, {TOKEN_VARIABLE}, {AUTHORITIES_VARIABLE}]",
    )
    return added(function)


def setting(
    flag: str,
    *,
    key: str,
    metavar: str,
    help: str,  # noqa: A002 - click's word
    multiple: bool = False,
) -> Decorator[F]:
    """Return an option that overrides a setting; the settings check its value."""

    def keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
        if value is not None and value != ():
            Session.of(context).flags[key] = (flag, value)

    return click.option(
        flag, metavar=metavar, help=help, multiple=multiple, expose_value=False, callback=keep
    )


def switch(
    flag: str,
    *,
    key: str,
    help: str,  # noqa: A002 - click's word
) -> Decorator[F]:
    """Return an option without a value that turns a setting on."""

    def keep(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            Session.of(context).flags[key] = (flag, "true")

    return click.option(flag, is_flag=True, help=help, expose_value=False, callback=keep)


def branch_option(function: F) -> F:
    """Add the option that names a branch; the command gets it and joins it to the target."""
    added: Decorator[F] = click.option(
        "--branch",
        metavar="NAME",
        help="Work on this branch of an Iceberg table: the same as TARGET@NAME.",
    )
    return added(function)


def on_branch(target: str, branch: str | None) -> str:
    """Return the target of a branch of a table."""
    return f"{target}@{branch}" if branch else target


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
        candidate_options,
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
            help="Which groups come first: bytes-asc, bytes-desc, files-asc, files-desc,"
            " oldest-first, none.",
        ),
        order_options,
        setting(
            "--effort",
            key="policy.effort",
            metavar="bytes|balanced|deep",
            help="Copy all row groups that can be, those of a good size, or none.",
        ),
    ]
    for option in reversed(added):
        function = option(function)
    return function


def candidate_options(function: F) -> F:
    """Add the options that say which files are worth a rewrite whatever their sizes are."""
    added: list[Decorator[F]] = [
        setting(
            "--delete-ratio",
            key="policy.delete_ratio",
            metavar="SHARE",
            help="Rewrite a file that has lost this share of its rows.",
        ),
        setting(
            "--delete-file-threshold",
            key="policy.delete_files_min",
            metavar="COUNT",
            help="Rewrite a file that this many delete files apply to.",
        ),
        setting(
            "--output-spec",
            key="policy.output_spec",
            metavar="SPEC",
            help="Rewrite files of other partition specs into this one: current, or its id.",
        ),
        switch(
            "--rewrite-all",
            key="policy.rewrite_all",
            help="Rewrite every file, whatever it is like.",
        ),
    ]
    for option in reversed(added):
        function = option(function)
    return function


def order_options(function: F) -> F:
    """Add the options that override the order that rows are put in."""
    added: list[Decorator[F]] = [
        setting(
            "--strategy",
            key="policy.strategy",
            metavar="STRATEGY",
            help="What files are rewritten for: binpack (sizes), sort, zorder or hilbert (order),"
            " convert-deletes, rewrite-position-deletes (deletes), or auto.",
        ),
        setting(
            "--sort-by",
            key="policy.sort_by",
            metavar="COLUMNS",
            help="The order, such as `a, b desc nulls last`. [default: the table's own]",
        ),
    ]
    for option in reversed(added):
        function = option(function)
    return function


def run_options(function: F) -> F:
    """Add the options that override how a job runs and where."""
    added: list[Decorator[F]] = [
        setting(
            "--verify",
            key="run.verify",
            metavar="counts|full",
            help="How each rewrite is proved before it may be committed.",
        ),
        setting(
            "--max-commits",
            key="run.commits_max",
            metavar="COUNT",
            help="Divide the job into no more commits than this.",
        ),
        setting(
            "--max-failed-commits",
            key="run.commit_failures_max",
            metavar="COUNT",
            help="Begin nothing more after more lost commits than this.",
        ),
        runtime_options,
    ]
    for option in reversed(added):
        function = option(function)
    return function


def runtime_options(function: F) -> F:
    """Add the options that override where tasks run."""
    added: list[Decorator[F]] = [
        setting(
            "--runtime",
            key="runtime.url",
            metavar="URL",
            help="Where tasks run: local, inline, ray or ray://host:port.",
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


def note(name: str) -> Callable[[click.Context, click.Parameter, object], None]:
    """Return a callback that takes a value to the session, wherever on the line it stands."""

    def keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
        if value:
            Session.of(context).given[name] = value

    return keep
