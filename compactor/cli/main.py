"""The entry of `compact`: a group that imports a command's module when the command is named."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from compactor.cli.exits import guarded, wants_traceback
from compactor.cli.logs import tell_logs
from compactor.cli.options import shared_options
from compactor.cli.streams import prepare_streams
from compactor.garbage import spare_collections

# In the order of the help page: name -> module below `compactor.cli` that has it as `command`.
COMMANDS = {
    "demo": "demo",
    "tables": "tables",
    "plan": "plan",
    "run": "run",
    "apply": "apply",
    "merge": "merge",
    "verify": "verify",
    "upkeep": "upkeep",
    "jobs": "jobs",
    "serve": "serve",
    "doctor": "doctor",
    "version": "version",
    "completion": "completion",
}


class LazyGroup(click.Group):
    """A group that knows its commands by name only."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = import_module(f"compactor.cli.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is refused with the names that come close."""
        name = args[0]
        is_option = name.startswith("-")
        if name not in COMMANDS and not is_option and not ctx.resilient_parsing:
            raise click.NoSuchCommand(name, possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]  # what it leaves out is set here
        self, args: Sequence[str] | None = None, prog_name: str | None = None
    ) -> NoReturn:
        """Run the command line behind the error boundary and end the process."""
        arguments = list(sys.argv[1:] if args is None else args)
        name = prog_name or "compact"
        inner = super().main
        sys.exit(guarded(lambda: inner(arguments, name, standalone_mode=False), arguments))


def _print_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from compactor import __version__

        click.echo(f"compact {__version__}")
        context.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@shared_options
def compact() -> None:
    """Keep lakehouse tables fast and cheap to read.

    A TARGET is `catalog.namespace.table`, for a catalog that PyIceberg's configuration names
    (`.pyiceberg.yaml` or `PYICEBERG_CATALOG__*`), or the path or URI of a Delta table. Start with
    `compact demo`.
    """


def _spare_threads() -> None:
    """Keep numpy from starting threads for products of matrices: of these there are none here.

    They wait busily at first: a tenth of a CPU-second, in every process that loads numpy.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main() -> NoReturn:
    """Run `compact` with the arguments of this process."""
    spare_collections()
    _spare_threads()
    prepare_streams()
    tell_logs(with_tracebacks=wants_traceback(sys.argv))
    compact.main()


if __name__ == "__main__":
    main()
