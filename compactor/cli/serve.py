"""`compact serve`: the service, until a signal ends it."""

from __future__ import annotations

import json

import click

from compactor.cli.exits import ExitCode
from compactor.cli.options import shared_options
from compactor.cli.session import Session
from compactor.garbage import stay


@click.command("serve")
@click.option("--check", is_flag=True, help="Read the configuration, say what is wrong, and end.")
@click.option("--new-token", metavar="NAME", help="Print a token, and its entry of [auth]; end.")
@shared_options
def command(check: bool, new_token: str | None) -> int:
    """Compact registered tables: on schedules, when events tell of commits, when health asks.

    Everything is configured in `compact.toml`: see `docs/service.md`. The first SIGINT or SIGTERM
    lets running jobs end.
    """
    if new_token is not None:
        _tell_token(new_token)
        return ExitCode.DONE
    from compactor.service.app import opened, serve
    from compactor.service.config import load_service_config
    from compactor.service.logs import begin_logs

    session = Session.of()
    config = load_service_config(session.given.get("config"))
    if check:
        with opened(config) as service:
            tables = len(service.parts.config.table_rules)
        session.tell(f"The configuration is good: {tables} entries of tables.")
        return ExitCode.DONE
    begin_logs(config, is_verbose=session.verbosity > 1)
    # To look through all that is loaded for garbage, again and again, would keep deliveries waiting
    # for 70 ms each time.
    stay()
    serve(config)
    return ExitCode.DONE


def _tell_token(name: str) -> None:
    """Print a token for whoever is to have it, and what the service is to know of it."""
    from compactor.service.auth import new_token

    token, digest = new_token()
    shown = json.dumps(name)
    click.echo(f"# The token, which nobody is shown again:\n{token}")
    click.echo("# What the configuration of the service says of it:")
    click.echo(f'[[auth.tokens]]\nname = {shown}\nsha256 = "{digest}"\nscope = "read"')
