"""Which stored rows the changes of a merge act on, told batch by batch from their keys alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from compactor.merge.changes import ORDER_BY, ChangeSet
from compactor.merge.deletes import KeyedDeletes
from compactor.merge.index import KeyIndex, last_of_each
from compactor.merge.keys import (
    Flags,
    Keys,
    Rows,
    comparable_key,
    equal_values,
    keys_of,
    whole,
)
from compactor.merge.rules import MergeRules, Mode
from compactor.rewrite.cluster.permutation import Key, sort_permutation


@dataclass(frozen=True, slots=True)
class Matched:
    """What happens to some stored rows.

    Attributes:
        change: per row, the change of its key; -1 for none.
        is_deleted: which rows a delete hits that is keyed on other columns.
        is_newer: which rows are newer than the change of their key, by event time.
    """

    change: Rows
    is_deleted: Flags
    is_newer: Flags

    @property
    def is_hit(self) -> Flags:
        """Which rows are of any concern."""
        found: Flags = (self.change >= 0) | self.is_deleted
        return found

    def take(self, rows: Rows | Flags) -> Matched:
        """Return some of the rows."""
        return Matched(self.change[rows], self.is_deleted[rows], self.is_newer[rows])


class Matcher:
    """Matches stored rows; holds the keys of the changes, and no more of them.

    Attributes:
        rules: of the merge.
        probes: sets of keys that are looked for, each with the names of their columns.
    """

    def __init__(
        self, changes: ChangeSet, deletes: Sequence[KeyedDeletes], rules: MergeRules
    ) -> None:
        """Prepare to match.

        Args:
            changes: one per key, as `latest` returns them.
            deletes: keyed on any columns; those by the key are among the changes already.
            rules: of the merge.
        """
        self.rules = rules
        keys = None if rules.mode is Mode.APPEND else changes.keys(rules.key)
        others = [(one.columns, _once(one.keys())) for one in deletes if not _is_key(one, rules)]
        self.probes = (*([] if keys is None else [(rules.key, keys)]), *others)
        self._index = None if keys is None else KeyIndex(keys)
        self._deletes = tuple((columns, KeyIndex(found)) for columns, found in others)
        self._times = whole(changes.table[f"{ORDER_BY}0"]) if rules.is_event_time else None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that are looked at."""
        keys = [name for columns, _ in self.probes for name in columns]
        times = self.rules.order_by if self.rules.is_event_time else ()
        return tuple(dict.fromkeys([*keys, *times]))

    def match(self, batch: pa.RecordBatch) -> Matched:
        """Match stored rows, of which `columns` are given at least."""
        change = np.full(batch.num_rows, -1, np.int64)
        if self._index is not None:
            change = self._index.find(keys_of(batch, self.rules.key))
        is_deleted = np.zeros(batch.num_rows, np.bool_)
        for columns, index in self._deletes:
            is_deleted |= index.find(keys_of(batch, columns)) >= 0
        return Matched(change, is_deleted, self._newer(batch, change))

    def _newer(self, batch: pa.RecordBatch, change: Rows) -> Flags:
        """Tell which rows are newer than their change."""
        found = np.zeros(batch.num_rows, np.bool_)
        rows = np.flatnonzero(change >= 0)
        if self._times is not None and len(rows):
            stored = whole(batch.column(self.rules.order_by[0])).take(pa.array(rows))
            changed = self._times.take(pa.array(change[rows]))
            found[rows] = _is_greater(stored.cast(changed.type), changed)
        return found


def _is_key(deletes: KeyedDeletes, rules: MergeRules) -> bool:
    return rules.mode is Mode.UPSERT and set(deletes.columns) == set(rules.key)


def _once(keys: Keys) -> Keys:
    return keys.take(last_of_each(keys))


def _is_greater(left: pa.Array, right: pa.Array) -> Flags:
    """Compare pairs of values; nulls are less than all others, and equal to each other."""
    both = comparable_key(pa.concat_arrays([left, right]))
    order = sort_permutation([Key(both)])
    # Equal values share a rank: the first of each run gives it.
    is_new = ~equal_values(both.take(order[1:]), both.take(order[:-1]))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.concatenate([[0], np.cumsum(is_new)])
    found: Flags = ranks[: len(left)] > ranks[len(left) :]
    return found
