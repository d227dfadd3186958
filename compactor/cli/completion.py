"""`compact completion`: the script that makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from compactor.cli.options import shared_options
from compactor.cli.session import Session


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
@shared_options
def command(context: click.Context, shell: str) -> None:
    """Print a script for a shell: eval "$(compact completion bash)"."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    root = context.find_root().command
    script = kind(root, {}, "compact", "_COMPACT_COMPLETE").source()
    Session.of().emit(lambda: {"shell": shell, "script": script}, lambda: click.echo(script))
