"""What happened to a table between two of its snapshots, as file slices whose rows came or went."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from catalog.model import Inventory
from catalog.schema import TableSchema
from catalog.table import MapFunction, TableFiles


class Happening(StrEnum):
    """What the rows of file slices tell."""

    CAME = "came"
    WENT = "went"
    # Each row says itself, in the column `CHANGE_TYPE`.
    TOLD = "told"


# As a change data feed of Delta Lake has it.
CHANGE_TYPE = "_change_type"


@dataclass(frozen=True, slots=True)
class Step:
    """Rows that came or went together.

    Attributes:
        position: place of the snapshot among those of the history, counted from 0.
        happening: what the rows tell.
        files: the slices that they are in.
        against: slices of files with the same paths: rows that are in these as well do not count.
    """

    position: int
    happening: Happening
    files: Inventory
    against: Inventory


@dataclass(frozen=True, slots=True)
class History:
    """What happened after a watermark.

    Attributes:
        watermark: how far this goes; text that only the table's format understands.
        steps: in their order. Of one position, what went comes before what came.
        table: the workers' side of the snapshot that it goes to.
        schema: its columns, and `CHANGE_TYPE` where rows tell themselves.
    """

    watermark: str
    steps: tuple[Step, ...]
    table: TableFiles
    schema: TableSchema


@runtime_checkable
class HistoricTable(Protocol):
    """A table that tells what happened to it."""

    @property
    def name(self) -> str:
        """A target that names it; equal however it was spelled, where it lies at a path."""
        ...

    def history(self, watermark: str | None, *, map_function: MapFunction = map) -> History:
        """Return what happened after a watermark, up to now; without one, all rows that are there.

        Raises:
            HistoryError: rows went, or were replaced, and there is no record of which; or the
                record is gone.
        """
        ...
