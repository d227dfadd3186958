"""Upkeep of a table besides its data files: what a format offers, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from catalog.errors import UnsupportedTableError


@dataclass(frozen=True, slots=True)
class UnfinishedJob:
    """A job of ours that is running or was interrupted, whose files and base are in use.

    Attributes:
        job_id: what the names of its files begin with.
        snapshot_id: the version that it was planned against; empty for an empty table.
    """

    job_id: str
    snapshot_id: str


@dataclass(frozen=True, slots=True)
class UpkeepOrder:
    """How upkeep is to be done.

    Attributes:
        is_dry_run: whether nothing may be changed, only told what would be.
        retention_seconds: how long what the table no longer refers to is kept; None for as long as
            the table says.
        is_forced: whether it may be kept for less than the table says.
        versions_min: how many versions of each branch are kept however old they are; None for as
            many as the table says.
        unfinished: jobs whose files and whose base are to stay.
    """

    is_dry_run: bool = False
    retention_seconds: int | None = None
    is_forced: bool = False
    versions_min: int | None = None
    unfinished: tuple[UnfinishedJob, ...] = ()


@dataclass(frozen=True, slots=True)
class UpkeepResult:
    """What one operation did, or would do.

    Attributes:
        operation: its name.
        files: how many files were removed, or written.
        bytes: their size together, as far as it is known.
        note: what else there is to tell; empty for nothing.
        examples: some of the files.
    """

    operation: str
    files: int
    bytes: int
    note: str = ""
    examples: tuple[str, ...] = ()


class UpkeepOperation(Protocol):
    """One kind of upkeep of one table."""

    @property
    def name(self) -> str:
        """A word to choose it by."""
        ...

    @property
    def is_usual(self) -> bool:
        """Whether it is done when nothing is chosen."""
        ...

    def check(self, order: UpkeepOrder) -> None:
        """Refuse what cannot be done as it is ordered, before anything is done.

        Raises:
            UnsupportedTableError: the table does not allow it.
            CatalogError: the table cannot be read.
        """
        ...

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Do it.

        Raises:
            UnsupportedTableError: the table does not allow it, or not as it is ordered.
            CatalogError: the table or its storage cannot be read or written.
        """
        ...


def refuse_counting(order: UpkeepOrder) -> None:
    """Refuse an order that says how many versions to keep, for what goes by age alone.

    Raises:
        UnsupportedTableError: it does.
    """
    if order.versions_min is not None:
        raise UnsupportedTableError(
            "versions of this table are kept by age, their number cannot be chosen",
            hint="leave --keep-last out, and give --retention",
        )
