"""The two streams as rich consoles: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Columns of sentences: they are folded where the others, names and figures, must stay whole.
_PROSE = ("Why", "Reason")
_PROSE_COLUMNS_MIN = 24
_GAP_COLUMNS = 2
# Nobody folds a pipe: what reads it gets whole lines.
_PIPE_COLUMNS = 240


def results() -> Console:
    """Return the console on stdout."""
    return _console(sys.stdout)


def messages() -> Console:
    """Return the console on stderr."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    """Names of tables and files are data: nothing in them is markup or worth a highlight."""
    wanted = os.environ.get("COLUMNS", "")
    pipe_columns = int(wanted) if wanted.isdecimal() and int(wanted) else _PIPE_COLUMNS
    width = None if stream.isatty() else pipe_columns
    return Console(
        file=stream, markup=False, highlight=False, emoji=False, width=width, soft_wrap=False
    )


def grid(*columns: str, left: Sequence[int] = (0,)) -> Table:
    """Return an empty table with a header; columns stand right but those counted in `left`.

    Args:
        columns: the headers.
        left: positions of the columns of text; negative ones count from the end.
    """
    table = Table(box=None, pad_edge=False, padding=(0, _GAP_COLUMNS, 0, 0), header_style="bold")
    stand_left = {position % len(columns) for position in left}
    for position, header in enumerate(columns):
        is_prose = position in stand_left and header in _PROSE
        table.add_column(
            header,
            justify="left" if position in stand_left else "right",
            overflow="fold",
            no_wrap=not is_prose,
        )
    return table


def show(console: Console, table: Table) -> None:
    """Print a table, without the blanks that fill its last column.

    One that is wider than the terminal is left to the terminal to fold: names stay whole.
    """
    least_columns = _least_width(table)
    if least_columns > console.width:
        table.width = least_columns
    with console.capture() as capture:
        console.print(table, crop=False)
    for line in capture.get().splitlines():
        text = Text.from_ansi(line)
        text.rstrip()
        console.print(text, soft_wrap=True)


def _least_width(table: Table) -> int:
    """Return the width at which all but prose is whole."""
    widths = [
        max(cell_len(str(cell)) for cell in (column.header, *column.cells))
        for column in table.columns
    ]
    least = [
        width if column.no_wrap else min(width, _PROSE_COLUMNS_MIN)
        for width, column in zip(widths, table.columns, strict=True)
    ]
    return sum(least) + _GAP_COLUMNS * len(least)


def dim(text: str) -> Text:
    """Return text that is of less weight."""
    return Text(text, style="dim")
