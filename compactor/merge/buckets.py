"""Changes divided by their keys, so that each part can be worked on by itself.

All changes of one key are in one bucket, whatever batch or file they came with: what is made of
the buckets, together, is what is made of the whole. Within a bucket changes keep their turn.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from compactor.merge.changes import ChangeSet
from compactor.merge.keys import Rows
from compactor.merge.latest import latest
from compactor.merge.rules import MergeRules
from compactor.rewrite.fingerprint import Hashes


def buckets(changes: ChangeSet, rules: MergeRules, *, count: int) -> list[ChangeSet]:
    """Return the changes of each bucket; some may be empty.

    Args:
        changes: the changes.
        rules: what the key is.
        count: number of buckets, below 2**32.
    """
    numbers = _bucket_of(changes.keys(rules.key).hashes, count)
    if count <= 1 << 16:
        # Numbers of 16 bits are sorted without comparing them.
        numbers = numbers.astype(np.uint16)
    order = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers[order], np.arange(1, count))
    return [changes.take(rows) for rows in np.split(order, bounds)]


def _bucket_of(hashes: Hashes, count: int) -> Rows:
    """Return a bucket for each hash, from bits that do not decide its place in an index."""
    low = hashes & np.uint64(0xFFFFFFFF)
    return ((low * np.uint64(count)) >> np.uint64(32)).astype(np.int64)


def thinned(changes: ChangeSet, rules: MergeRules, schema: pa.Schema) -> ChangeSet:
    """Return the changes of a batch that may still matter once others are known.

    That is one of each key. But of changes that lack columns all may matter: what comes between
    two of them may be in another batch.

    Args:
        changes: a batch of them.
        rules: what the key is, and the order.
        schema: the table's columns.
    """
    return changes if changes.is_partial else latest(changes, rules, schema)
