"""Changes on their way to buckets: plain tables that can be cut, moved, spilled and joined.

All changes of one key go to one bucket, whatever batch or file they came with: what is made of the
buckets, together, is what is made of the whole. What cannot matter any more is left behind before.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from compactor.merge.changes import FILE, KIND, ROW, SHAPE, STREAM, ChangeSet
from compactor.merge.index import last_of_each
from compactor.merge.latest import latest, put_in_order
from compactor.merge.rules import MergeRules, Mode

# Stands between the names of columns that a change lacks; no format allows it in a name.
_BETWEEN = "\x00"


def thinned(changes: ChangeSet, rules: MergeRules, schema: pa.Schema) -> ChangeSet:
    """Return the changes of a batch that may still matter once others are known.

    That is the last of each key. Of changes that lack columns it is the last of each key that does
    the same to the same columns: what comes between two others may be in another batch.

    Args:
        changes: a batch of them.
        rules: what the key is, and the order.
        schema: the table's columns.
    """
    if not changes.is_partial or rules.mode is Mode.APPEND:
        return latest(changes, rules, schema)
    changes = put_in_order(changes, rules)
    last = last_of_each(changes.keys((*rules.key, KIND, SHAPE)))
    return changes if len(last) == len(changes) else changes.take(last)


def packed(changes: ChangeSet) -> pa.Table:
    """Return changes as a table that needs nothing else: what they lack is named in it."""
    names = [_BETWEEN.join(sorted(shape)) for shape in changes.shapes] or [""]
    shapes = pa.DictionaryArray.from_arrays(changes.shape_numbers, pa.array(names))
    place = changes.table.schema.get_field_index(SHAPE)
    return changes.table.set_column(place, SHAPE, shapes)


def unpacked(table: pa.Table) -> ChangeSet:
    """Return the changes of tables that were packed and put together."""
    place = table.schema.get_field_index(SHAPE)
    plain = pa.chunked_array(
        [chunk.dictionary_decode() for chunk in table.column(place).chunks], pa.string()
    )
    found = plain.combine_chunks().dictionary_encode()
    shapes = tuple(
        frozenset(text.split(_BETWEEN) if text else ()) for text in found.dictionary.to_pylist()
    )
    numbers = pc.cast(found.indices, pa.int16())
    field = pa.field(SHAPE, pa.int16(), nullable=False)
    return ChangeSet(table.set_column(place, field, numbers), shapes)


def bucket_columns(rules: MergeRules) -> tuple[str, ...]:
    """Return the columns by whose values changes are divided."""
    return rules.key if rules.mode is Mode.UPSERT else (STREAM, FILE, ROW)
