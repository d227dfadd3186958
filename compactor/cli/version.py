"""`compact version`: which program this is."""

from __future__ import annotations

import platform

import click

from compactor import __version__
from compactor.cli.options import shared_options
from compactor.cli.session import Session


@click.command("version")
@shared_options
def command() -> None:
    """Show the version."""
    python = platform.python_version()
    Session.of().emit(
        lambda: {"version": __version__, "python": python},
        lambda: click.echo(f"compact {__version__} on Python {python}"),
    )
