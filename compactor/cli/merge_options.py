"""Options of `compact merge`: where changes come from, and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from compactor.cli.options import note, setting
from compactor.cli.session import Session

if TYPE_CHECKING:
    from compactor.jobs.merge_changes import MergeRequest
    from compactor.merge.rules import MergeRules
    from compactor.merge.sources import Arrivals, ChangeSource

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]
_MODES = click.Choice(["upsert", "append"])
_WRITE_MODES = click.Choice(["auto", "copy-on-write", "merge-on-read"])


def merge_options(function: F) -> F:
    """Add the options of a merge; the values are in `Session.given`."""
    added: list[Decorator[F]] = [
        _text(
            "--changes", "A prefix of Parquet files, or a table: what is new in it.", "URI|TABLE"
        ),
        _columns("--key", "Tells rows apart; may be repeated."),
        _columns("--order-by", "Orders changes of one stream position; may be repeated."),
        _text("--event-time", "Orders changes, and holds them back from newer stored rows.", "COL"),
        _text("--op-column", "Says what a change does: I/U/D, c/u/d/r, true and false…", "COL"),
        _text("--deletes", "Separate deletes, keyed on columns.", "URI|TABLE"),
        _columns("--delete-key", "What these are keyed on; may be repeated. [default: the key]"),
        _choice("--mode", "Whether rows of one key replace each other.", _MODES),
        _text("--source", "What the watermark is kept under. [default: the URI]", "NAME"),
        _flag("--evolve", "Add columns to the table that only the changes have."),
        _flag("--key-filter", "Keep filters of keys beside the table: few keys open few files."),
        _choice("--write-mode", "Copy files without the rows that go, or mark rows.", _WRITE_MODES),
        _flag("--dry-run", "Show what would be done and at what price; nothing is touched."),
        _flag("--yes", "Do not ask, merge.", "-y"),
        setting(
            "--target-file-size",
            key="policy.target_file_size",
            metavar="SIZE",
            help="Size wanted for data files. [default: the table's own property]",
        ),
    ]
    for option in reversed(added):
        function = option(function)
    return function


def _text(flag: str, words: str, metavar: str) -> Decorator[F]:
    return click.option(flag, metavar=metavar, help=words, expose_value=False, callback=note(flag))


def _columns(flag: str, words: str) -> Decorator[F]:
    return click.option(
        flag, metavar="COL", help=words, multiple=True, expose_value=False, callback=note(flag)
    )


def _choice(flag: str, words: str, kind: click.Choice[str]) -> Decorator[F]:
    return click.option(
        flag,
        type=kind,
        default=kind.choices[0],
        show_default=True,
        help=words,
        expose_value=False,
        callback=note(flag),
    )


def _flag(flag: str, words: str, short: str = "") -> Decorator[F]:
    names = [name for name in (short, flag) if name]
    return click.option(*names, is_flag=True, help=words, expose_value=False, callback=note(flag))


def request_of(session: Session) -> MergeRequest:
    """Return what a command line asks of a merge.

    Raises:
        click.UsageError: the options do not go together.
        CatalogError: a source cannot be opened.
    """
    from compactor.jobs.merge_changes import MergeRequest

    given = session.given
    if not given.get("--changes") and not given.get("--deletes"):
        raise click.UsageError("there is nothing to merge: give --changes or --deletes")
    rules = _rules(session)
    changes, deletes = _source(given.get("--changes")), _source(given.get("--deletes"))
    name = given.get("--source")
    if name and changes is not None:
        changes = Named(changes, name)
    elif name and deletes is not None:
        deletes = Named(deletes, name)
    return MergeRequest(
        rules,
        changes,
        deletes,
        delete_by=tuple(given.get("--delete-key", ())),
        evolves=bool(given.get("--evolve")),
    )


def _rules(session: Session) -> MergeRules:
    from compactor.merge.rules import MergeRules, Mode

    given = session.given
    order_by, time = tuple(given.get("--order-by", ())), given.get("--event-time")
    mode = Mode(given["--mode"])
    if time and order_by:
        raise click.UsageError("give --order-by or --event-time, not both")
    if not given.get("--key") and mode is Mode.UPSERT:
        raise click.UsageError("no key is given: name its columns with --key")
    return MergeRules(
        key=tuple(given.get("--key", ())),
        order_by=(time,) if time else order_by,
        op_column=given.get("--op-column"),
        is_event_time=bool(time),
        mode=mode,
    )


def _source(target: str | None) -> ChangeSource | None:
    from compactor.merge.source_opening import open_source

    return None if target is None else open_source(target)


@dataclass(frozen=True, slots=True)
class Named:
    """A source of changes under a name that somebody gave it."""

    source: ChangeSource
    name: str

    def arrivals(self, watermark: str | None) -> Arrivals:
        """Return what is new after a watermark."""
        return self.source.arrivals(watermark)
