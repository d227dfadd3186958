"""Columns that only the changes have: added to the table before the rows, where that is wanted."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pyarrow as pa

from catalog.evolution import Evolution
from catalog.table import Table
from compactor.jobs.merge_changes import Arrived, MergeRequest, rules_of
from compactor.merge.evolving import evolution_of, evolve, without_new
from compactor.merge.naming import Naming
from compactor.merge.sources import ChangedPart


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
    parts = tuple(ChangedPart(part, partial(without_new, evolution)) for part in found.parts)
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
