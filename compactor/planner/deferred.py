"""File slices of groups that come into being when somebody asks for them, some groups at a time.

A plan of a million files has a few thousand groups, which are looked at one after the other: what
they are cut from, or read from, stays where it is, and copies of a few groups exist at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from catalog.model import DELETE_FILES, Inventory
from compactor.planner.columns import Ints

RUN_ROWS = 64 << 10
"""Data files of groups that are made together, unless a group alone has more."""

_NO_DELETE_FILES = DELETE_FILES.empty_table()

MakeGroups = Callable[[range], Sequence[Inventory]]


@dataclass(frozen=True, slots=True)
class GroupSizes:
    """One entry per group.

    Attributes:
        files: data files.
        size_bytes: their bytes.
        deletes: how often a delete file applies to one of them.
    """

    files: Ints
    size_bytes: Ints
    deletes: Ints


@dataclass(slots=True)
class _Source:
    make: MakeGroups
    sizes: GroupSizes
    runs: Ints
    made: tuple[range, Sequence[Inventory]] = field(default=(range(0), ()))

    def inventory(self, number: int) -> Inventory:
        """Return the files of a group; the run of groups that was asked for last is at hand."""
        numbers, groups = self.made
        if number not in numbers:
            first, last = np.searchsorted(self.runs, [self.runs[number], self.runs[number] + 1])
            numbers = range(int(first), int(last))
            self.made = (range(0), ())  # not two runs at a time
            groups = self.make(numbers)
            self.made = (numbers, groups)
        return groups[number - numbers.start]


class DeferredInventory(Inventory):
    """The files of one group; whoever sends them elsewhere sends a plain inventory."""

    __slots__ = ("_number", "_source")

    _source: _Source
    _number: int

    def __init__(self, source: _Source, number: int) -> None:
        object.__setattr__(self, "_source", source)
        object.__setattr__(self, "_number", number)

    @property
    def files(self) -> pa.Table:
        """As for every inventory."""
        return self._whole().files

    @property
    def delete_files(self) -> pa.Table:
        """As for every inventory."""
        if not self._source.sizes.deletes[self._number]:
            return _NO_DELETE_FILES
        return self._whole().delete_files

    @property
    def file_count(self) -> int:
        """Number of data files."""
        return int(self._source.sizes.files[self._number])

    @property
    def size_bytes(self) -> int:
        """Bytes of all data files together, delete files not included."""
        return int(self._source.sizes.size_bytes[self._number])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Inventory):
            return NotImplemented
        mine, others = self._whole(), (other.files, other.delete_files)
        return (mine.files, mine.delete_files) == others

    __hash__ = None  # type: ignore[assignment]  # equal by value, and it holds arrays

    def __repr__(self) -> str:
        return f"<{self.file_count} data files>"

    def __reduce__(self) -> tuple[Any, ...]:
        whole = self._whole()
        return Inventory, (whole.files, whole.delete_files)

    def _whole(self) -> Inventory:
        return self._source.inventory(self._number)


def deferred(make: MakeGroups, sizes: GroupSizes) -> list[Inventory]:
    """Return the files of groups that `make` makes, given the numbers of some that follow.

    Args:
        make: returns one inventory per number; called again when they are needed again.
        sizes: what is known of them beforehand.
    """
    # A group belongs to the run that it begins in.
    begins = np.cumsum(sizes.files) - sizes.files
    source = _Source(make, sizes, begins // RUN_ROWS)
    return [DeferredInventory(source, number) for number in range(len(sizes.files))]
