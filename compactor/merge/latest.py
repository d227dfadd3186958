"""Per key the one change that says what becomes of the row: the last, made whole from older ones.

A change that lacks columns leaves them as they are. So each column comes from the last change that
has it, unless a delete came after that: then there is nothing left, and it is null. What no change
has is left to the stored row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from compactor.errors import ChangesRefusedError
from compactor.merge.changes import SHAPE, ChangeSet, in_order
from compactor.merge.index import Groups, grouped, last_of_each
from compactor.merge.keys import Flags, Rows
from compactor.merge.kinds import DELETE
from compactor.merge.rules import MergeRules, Mode


def latest(changes: ChangeSet, rules: MergeRules, schema: pa.Schema) -> ChangeSet:
    """Return one change per key, from the oldest to the newest; all of them in append mode.

    Args:
        changes: the changes, in any order.
        rules: what the key is, and the order.
        schema: the table's columns.

    Raises:
        ChangesRefusedError: a required column is left without a value, or event time is asked
            for where changes lack columns: what counts is then not known before the stored rows.
    """
    if rules.is_event_time and changes.is_partial:
        raise ChangesRefusedError(
            "changes that lack columns of the table cannot be merged by event time",
            hint="Give whole rows, or order by the stream.",
        )
    changes = put_in_order(changes, rules)
    if rules.mode is Mode.APPEND or not len(changes):
        return changes
    keys = changes.keys(rules.key)
    last = last_of_each(keys)
    if len(last) == len(changes):
        return changes
    found = changes.take(last)
    if not changes.is_partial:
        return found
    groups = grouped(keys)
    newest = np.argsort(groups.rows[groups.ends])
    return _completed(changes, groups, found, newest=newest, schema=schema)


def put_in_order(changes: ChangeSet, rules: MergeRules) -> ChangeSet:
    """Return changes from the oldest to the newest."""
    order = in_order(changes.table, is_event_time=rules.is_event_time)
    return changes if np.array_equal(order, np.arange(len(order))) else changes.take(order)


@dataclass(frozen=True, slots=True)
class _History:
    """The changes of each key, oldest first.

    Attributes:
        groups: them.
        is_delete: which of them are deletes, in the order of `groups.rows`.
        deleted: per key, the place of its last delete; before its start when there is none.
    """

    groups: Groups
    is_delete: Flags
    deleted: Rows

    def last(self, flags: Flags) -> Rows:
        """Return, per key, the last place that has a flag; before its start when none has."""
        places = np.where(flags, np.arange(len(flags)), -1)
        found: Rows = np.maximum.accumulate(places)[self.groups.ends]
        return np.where(found >= self.groups.starts, found, -1)


def _history(changes: ChangeSet, groups: Groups) -> _History:
    is_delete = changes.kinds[groups.rows] == DELETE
    plain = _History(groups, is_delete, groups.starts)
    return _History(groups, is_delete, plain.last(is_delete))


def _completed(
    changes: ChangeSet, groups: Groups, found: ChangeSet, *, newest: Rows, schema: pa.Schema
) -> ChangeSet:
    """Return the last changes with the columns that they lack taken from older ones."""
    history = _history(changes, groups)
    table = found.table
    is_upsert = found.kinds != DELETE
    lacking: dict[str, Flags] = {}
    for name in sorted(frozenset().union(*changes.shapes)):
        is_there = ~changes.lacks(name)[groups.rows] & ~history.is_delete
        place = history.last(is_there)[newest]
        deleted = history.deleted[newest]
        has_value = place > deleted
        rows = pa.array(groups.rows[np.maximum(place, 0)], mask=~has_value)
        column = table.schema.get_field_index(name)
        table = table.set_column(column, table.schema.field(column), changes.table[name].take(rows))
        if not schema.field(name).nullable and (is_upsert & ~has_value & (deleted >= 0)).any():
            raise ChangesRefusedError(
                f"the required column {name!r} has no value in a change that follows a delete"
            )
        lacking[name] = is_upsert & ~has_value & (deleted < 0)
    return _shaped(table, lacking)


def _shaped(table: pa.Table, lacking: dict[str, Flags]) -> ChangeSet:
    """Return changes with the columns that each lacks."""
    flags = np.column_stack([*lacking.values()])
    patterns, numbers = np.unique(flags, axis=0, return_inverse=True)
    names = list(lacking)
    shapes = tuple(
        frozenset(name for name, is_missing in zip(names, pattern, strict=True) if is_missing)
        for pattern in patterns.tolist()
    )
    place = table.schema.get_field_index(SHAPE)
    numbers = pa.array(numbers.reshape(-1).astype(np.int16))
    return ChangeSet(table.set_column(place, table.schema.field(place), numbers), shapes)
