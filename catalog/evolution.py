"""Columns that are added to a table, and columns that are widened: what breaks no reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Evolution:
    """What becomes of the columns of a table.

    Attributes:
        added: new columns at the top, all of them nullable, by the names that people know.
        widened: columns that get a type which holds every value of theirs, with that type.
    """

    added: pa.Schema = field(default_factory=lambda: pa.schema([]))
    widened: pa.Schema = field(default_factory=lambda: pa.schema([]))

    @property
    def is_empty(self) -> bool:
        """Whether all stays as it is."""
        return not len(self.added) and not len(self.widened)


@runtime_checkable
class EvolvableTable(Protocol):
    """A table whose columns can be added to."""

    def evolve(self, evolution: Evolution) -> None:
        """Add and widen columns in a commit of their own; what is there already is left alone.

        Rows read null in what was added. A column that this table cannot widen stays as it is.

        Raises:
            UnsupportedTableError: the format or the table has no such column.
            CommitConflictError: other writers kept winning.
        """
        ...
