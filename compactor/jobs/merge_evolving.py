"""Columns that only the changes have: added to the table before the rows, where that is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from catalog.evolution import Evolution
from catalog.table import Table
from compactor.jobs.merge_changes import Arrived, MergeRequest, rules_of
from compactor.merge.changes import Source
from compactor.merge.evolving import evolution_of, evolve, without_new
from compactor.merge.naming import Naming
from compactor.merge.sources import Part


def evolved(table: Table, request: MergeRequest, arrived: Arrived) -> Arrived:
    """Give a table the columns that changes need; a second time nothing is left to do.

    Raises:
        ChangesRefusedError: no table can have such columns.
        UnsupportedTableError: this table cannot have them.
        CommitConflictError: other writers kept winning.
    """
    evolution = _evolution(table, request, arrived)
    if evolution is not None:
        evolve(table, evolution)
    return arrived


def narrowed(table: Table, request: MergeRequest, arrived: Arrived) -> Arrived:
    """Return changes without the columns that a table would be given: for a look ahead.

    Raises:
        ChangesRefusedError: no table can have such columns.
    """
    evolution = _evolution(table, request, arrived)
    if evolution is None or arrived.changes is None or not len(evolution.added):
        return arrived
    found = arrived.changes.arrivals
    parts = tuple(_NarrowedPart(part, evolution) for part in found.parts)
    kept = [field for field in found.schema if field.name not in evolution.added.names]
    found = replace(found, parts=parts, schema=pa.schema(kept))
    return replace(arrived, changes=replace(arrived.changes, arrivals=found))


def _evolution(table: Table, request: MergeRequest, arrived: Arrived) -> Evolution | None:
    """Return what must become of the columns of a table; None when all may stay."""
    news = arrived.changes
    if not request.evolves or news is None or news.arrivals.is_empty:
        return None
    columns = Naming.of(table.files(table.snapshot()).schema).shown
    return evolution_of(news.arrivals.schema, columns, rules_of(request, arrived))


@dataclass(frozen=True, slots=True)
class _NarrowedPart:
    part: Part
    evolution: Evolution

    @property
    def row_count(self) -> int | None:
        return self.part.row_count

    @property
    def size_bytes(self) -> int:
        return self.part.size_bytes

    @property
    def watermark(self) -> str | None:
        return self.part.watermark

    def read(self) -> Iterator[Source]:
        for piece in self.part.read():
            yield without_new(piece, self.evolution)
