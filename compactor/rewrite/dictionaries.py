"""Columns whose values hardly repeat: a dictionary would be built, grow too large, and be left.

What was encoded by then stays beside a dictionary that nearly equals the values: larger than the
plain values, and slower to write. The table by which values are found again takes three times
their size, and grows by four: 25 MiB for 131,073 values.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from compactor.rewrite.nested import is_list, list_parts

# Enough to tell columns with few values from those with nearly as many values as rows.
SAMPLE_ROWS = 8192
DISTINCT_SHARE_MAX = 0.75
_KINDS = (types.is_floating, types.is_integer, types.is_decimal, types.is_timestamp, types.is_time)


def unrepeating_paths(batch: pa.RecordBatch) -> frozenset[str]:
    """Return the paths of number and time columns, also nested ones, that get no dictionary.

    Args:
        batch: the first rows of a file.
    """
    sample = batch.slice(0, SAMPLE_ROWS)
    return frozenset(
        path
        for field, column in zip(sample.schema, sample.columns, strict=True)
        for path, leaf in _numbers(column, field.name)
        if pc.count_distinct(leaf).as_py() > DISTINCT_SHARE_MAX * max(1, len(sample), len(leaf))
    )


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
