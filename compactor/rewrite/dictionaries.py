"""Columns whose values hardly repeat: a dictionary would be built, grow too large, and be left.

What was encoded by then stays beside a dictionary that nearly equals the values: larger than the
plain values, and slower to write. The table by which values are found again takes three times
their size, and grows by four: 25 MiB for 131,073 values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from compactor.rewrite.nested import is_list, list_parts

# Enough to tell columns with few values from those with nearly as many values as rows.
SAMPLE_ROWS = 8192
DISTINCT_SHARE_MAX = 0.75
# Rows are taken in runs, so that values that stand together are seen to.
_RUNS = 8
_KINDS = (types.is_floating, types.is_integer, types.is_decimal, types.is_timestamp, types.is_time)


def unrepeating_paths(batches: Sequence[pa.RecordBatch], dictionary_bytes: int) -> frozenset[str]:
    """Return the paths of number and time columns, also nested ones, that get no dictionary.

    Args:
        batches: the rows of the first row group of a file.
        dictionary_bytes: length at which a dictionary is left.
    """
    if not batches:
        # Columns that are copied in another order: nothing is encoded.
        return frozenset()
    rows = sum(batch.num_rows for batch in batches)
    some, others = (dict(_leaves(half)) for half in _halves(batches, rows))
    scale = max(1.0, rows / SAMPLE_ROWS)
    return frozenset(
        path
        for path in some
        if _are_new(some[path], others[path], min(rows, SAMPLE_ROWS))
        or _distinct_bytes(some[path], others[path], scale) > dictionary_bytes
    )


def _are_new(some: pa.Array, others: pa.Array, rows: int) -> bool:
    """Tell whether hardly a value of a sample is there twice."""
    both = pa.chunked_array([some, others])
    return bool(pc.count_distinct(both).as_py() > DISTINCT_SHARE_MAX * max(rows, len(both)))


def _distinct_bytes(some: pa.Array, others: pa.Array, scale: float) -> float:
    """Return about how large the distinct values are that a sample stands for.

    What its halves have in common tells how many there are to be found. If it is nothing, they are
    ever new ones, as in rows that are in order.

    Args:
        some: one half of the sample.
        others: the other half.
        scale: how many times as many values there are in all.
    """
    both = pa.chunked_array([some, others])
    left, right, union = (pc.count_distinct(one).as_py() for one in (some, others, both))
    found = left * right / max(1, left + right - union)
    return float(min(found, scale * union) * some.type.bit_width / 8)


def _halves(batches: Sequence[pa.RecordBatch], rows: int) -> tuple[pa.Table, pa.Table]:
    """Return two halves of a sample: runs of rows from the whole length of them in turn."""
    plain = [
        {field.name for field in batch.schema if not types.is_dictionary(field.type)}
        for batch in batches
    ]
    # Texts may come as dictionaries, which differ.
    names = [name for name in batches[0].schema.names if all(name in some for some in plain)]
    table = pa.Table.from_batches([batch.select(names) for batch in batches])
    if rows <= SAMPLE_ROWS:
        return table.slice(0, rows // 2), table.slice(rows // 2)
    length = SAMPLE_ROWS // _RUNS
    starts = [(rows - length) * run // (_RUNS - 1) for run in range(_RUNS)]
    runs = [table.slice(start, length) for start in starts]
    return pa.concat_tables(runs[::2]), pa.concat_tables(runs[1::2])


def _leaves(half: pa.Table) -> Iterator[tuple[str, pa.Array]]:
    for field, column in zip(half.schema, half.columns, strict=True):
        yield from _numbers(column.combine_chunks(), field.name)


def _numbers(array: pa.Array, path: str) -> Iterator[tuple[str, pa.Array]]:
    if types.is_struct(array.type):
        for index in range(array.type.num_fields):
            name = array.type.field(index).name
            yield from _numbers(array.field(index), f"{path}.{name}")
    elif types.is_map(array.type):
        for name, values in (("key", array.keys), ("value", array.items)):
            yield from _numbers(list_parts(array, values)[1], f"{path}.key_value.{name}")
    elif is_list(array.type):
        yield from _numbers(array.flatten(), f"{path}.list.element")
    elif any(is_kind(array.type) for is_kind in _KINDS):
        yield path, array
