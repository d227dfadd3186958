"""Deletes that are keyed on any columns: rows of which these columns have the same values go.

They act on stored rows and on earlier changes, never on later ones, and match whole rows of values:
(1, null) is one key, and deletes neither (1, 2) nor (null, null).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from compactor.errors import ChangesRefusedError
from compactor.merge.changes import (
    ORDER_BY,
    PLACES,
    ChangeSet,
    Source,
    beside_each_other,
    in_order,
    joined,
    placed,
    together,
)
from compactor.merge.conforming import conformed
from compactor.merge.index import KeyIndex, last_of_each
from compactor.merge.keys import Flags, Keys, keys_of
from compactor.merge.kinds import DELETE
from compactor.merge.rules import MergeRules, Mode, check_columns


@dataclass(frozen=True, slots=True)
class KeyedDeletes:
    """Deletes by the values of some columns.

    Attributes:
        columns: names of these columns.
        table: their values, and what stands beside changes.
    """

    columns: tuple[str, ...]
    table: pa.Table

    def keys(self) -> Keys:
        """Return the keys of the deletes."""
        return keys_of(self.table, self.columns)


def keyed_deletes(
    source: Source, schema: pa.Schema, columns: tuple[str, ...], rules: MergeRules
) -> KeyedDeletes:
    """Read deletes; columns that are not asked for are ignored.

    Args:
        source: the deletes. Where they lack the columns that changes are ordered by, these count
            as null: older than every value.
        schema: the table's columns, with field ids.
        columns: what they are keyed on.
        rules: how they are ordered.

    Raises:
        ChangesRefusedError: a key column is missing or a value does not fit the table, or event
            time is asked for, in which such deletes have no place.
    """
    check_columns(columns, schema)
    if not columns:
        raise ChangesRefusedError(f"{source.name}: deletes need columns to be keyed on")
    if rules.is_event_time:
        raise ChangesRefusedError(
            f"{source.name}: deletes by event time must be changes themselves, with an op column"
        )
    missing = [name for name in columns if name not in source.rows.schema.names]
    if missing:
        raise ChangesRefusedError(
            f"{source.name} has no column {', '.join(map(repr, missing))} to delete by"
        )
    ordering = [name for name in rules.order_by if name in source.rows.schema.names]
    if 0 < len(ordering) < len(rules.order_by):
        raise ChangesRefusedError(
            f"{source.name} has only {', '.join(ordering)} of the columns to order by"
        )
    wanted = pa.schema([schema.field(name) for name in columns])
    rows = conformed(source.rows.select(columns), wanted, name=source.name)
    kinds = np.full(rows.num_rows, DELETE, np.int8)
    beside = placed(source, kinds=kinds, order_by=ordering, schema=schema)
    return KeyedDeletes(columns, beside_each_other(rows, beside))


def as_changes(deletes: KeyedDeletes, changes: ChangeSet) -> ChangeSet:
    """Return deletes that are keyed on the key of the table as changes like the given ones."""
    table, schema = deletes.table, changes.table.schema
    columns = [
        table[field.name] if field.name in table.schema.names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return ChangeSet(pa.table(columns, schema=schema), (frozenset(),))


def buried(changes: ChangeSet, deletes: Sequence[KeyedDeletes], rules: MergeRules) -> ChangeSet:
    """Apply deletes to earlier changes.

    An upsert that a later delete hits becomes a delete of its key: it took the place of the stored
    row before it went. An appended row is gone.

    Raises:
        ChangesRefusedError: changes lack columns, and deletes are keyed on others than the key:
            which rows they hit is then not known before the stored rows.
    """
    for one in deletes:
        if set(one.columns) == set(rules.key) and rules.mode is Mode.UPSERT:
            changes = joined([changes, as_changes(one, changes)])
            continue
        if changes.is_partial:
            raise ChangesRefusedError(
                f"changes that lack columns cannot be merged with deletes by {one.columns}",
                hint="Key the deletes on the key of the table, or give whole rows.",
            )
        is_hit = _hits(changes, one)
        if rules.mode is Mode.APPEND:
            changes = changes.take(np.flatnonzero(~is_hit))
        else:
            changes = changes.with_kinds(np.where(is_hit, DELETE, changes.kinds).astype(np.int8))
    return changes


def _hits(changes: ChangeSet, deletes: KeyedDeletes) -> Flags:
    """Tell which changes are hit by a later delete."""
    beside = [_beside(one) for one in (changes.table, deletes.table)]
    order = in_order(together(beside), is_event_time=False)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    ranks_of_changes, ranks_of_deletes = ranks[: len(changes)], ranks[len(changes) :]
    in_turn = np.argsort(ranks_of_deletes)
    keys = deletes.keys().take(in_turn)
    last = last_of_each(keys)
    found = KeyIndex(keys.take(last)).find(changes.keys(deletes.columns))
    is_hit: Flags = found >= 0
    is_hit[is_hit] = ranks_of_changes[is_hit] < ranks_of_deletes[in_turn][last][found[is_hit]]
    return is_hit


def _beside(table: pa.Table) -> pa.Table:
    names = [name for name in table.schema.names if name in PLACES or name.startswith(ORDER_BY)]
    return table.select(names)
