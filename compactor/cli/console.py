"""The two streams as rich consoles: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

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
    is_pipe = not stream.isatty()
    width = int(os.environ.get("COLUMNS") or _PIPE_COLUMNS) if is_pipe else None
    return Console(
        file=stream, markup=False, highlight=False, emoji=False, width=width, soft_wrap=False
    )


def grid(*columns: str, left: Sequence[int] = (0,)) -> Table:
    """Return an empty table with a header; columns stand right but those counted in `left`.

    Args:
        columns: the headers.
        left: positions of the columns of text; negative ones count from the end.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    stand_left = {position % len(columns) for position in left}
    for position, header in enumerate(columns):
        is_left = position in stand_left
        table.add_column(
            header, justify="left" if is_left else "right", overflow="fold", no_wrap=not is_left
        )
    return table


def show(console: Console, table: Table) -> None:
    """Print a table, without the blanks that fill its last column off a terminal."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        console.print(Text(line.rstrip()), soft_wrap=True)


def dim(text: str) -> Text:
    """Return text that is of less weight."""
    return Text(text, style="dim")
