"""What one call of `compact` was asked for: how to talk, which settings to override."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from compactor.settings import Settings

SERVER_VARIABLE, TOKEN_VARIABLE = "COMPACT_SERVER", "COMPACT_TOKEN"
AUTHORITIES_VARIABLE = "COMPACT_SERVER_CA"
_META_KEY = "compactor.session"


@dataclass(slots=True)
class Session:
    """Filled while the command line is parsed, read by the commands.

    Attributes:
        given: shared options that were given, by name.
        flags: settings that were given as flags: dotted key -> (spelling of the flag, value).
    """

    given: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, tuple[str, object]] = field(default_factory=dict)

    @staticmethod
    def of(context: click.Context | None = None) -> Session:
        """Return the session of a command line, the running one by default."""
        meta = (context or click.get_current_context()).meta
        session: Session = meta.setdefault(_META_KEY, Session())
        return session

    @property
    def is_json(self) -> bool:
        """Whether stdout holds one JSON document and nothing else."""
        return bool(self.given.get("json"))

    @property
    def is_quiet(self) -> bool:
        """Whether only results and errors are told."""
        return bool(self.given.get("quiet"))

    @property
    def verbosity(self) -> int:
        """How often `-v` was given."""
        return int(self.given.get("verbose", 0))

    @property
    def shows_progress(self) -> bool:
        """Whether work in progress is told on stderr."""
        return not (self.is_quiet or self.given.get("no_progress"))

    @property
    def server(self) -> str:
        """The service that is to do the work; empty to do it here."""
        return str(self.given.get("server") or os.environ.get(SERVER_VARIABLE, ""))

    def settings(self) -> Settings:
        """Read the settings, flags included."""
        from compactor.settings import load_settings

        return load_settings(self.given.get("config"), flags=self.flags)

    def emit(self, document: Callable[[], object], text: Callable[[], None]) -> None:
        """Put the result on stdout, as JSON or as text."""
        if self.is_json:
            click.echo(_indented(document()))
        else:
            text()

    def tell(self, line: str) -> None:
        """Say something on stderr that is not a result."""
        if not self.is_quiet:
            click.echo(line, err=True)

    @property
    def asks(self) -> bool:
        """Whether there is somebody at the terminal who can be asked."""
        return not self.is_json and sys.stdin.isatty() and sys.stderr.isatty()


def _indented(document: object) -> str:
    """Return JSON for people: indented by Python itself it takes several times as long."""
    import msgspec  # lazy: most commands print text

    text = json.dumps(document)
    try:
        return msgspec.json.format(text, indent=2)
    except msgspec.DecodeError:  # a name that is no text, which only Python lets through
        return json.dumps(document, indent=2)
