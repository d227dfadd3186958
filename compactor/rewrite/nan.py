"""Columns with values that are no numbers, whose statistics would hide rows from some readers.

Statistics leave NaN out.  Engines to whom it is the greatest of all values skip a row group whose
greatest number is too small, and with it the rows that they would have found: so such a column has
no statistics, as the files of the reference writers have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types


def nan_paths(batches: Iterable[pa.RecordBatch]) -> frozenset[str]:
    """Return the paths of the floating columns, also in structs, that have a NaN in them.

    Lists and maps are left out: nobody skips rows by what is in them.
    """
    return frozenset(
        path
        for batch in batches
        for field, column in zip(batch.schema, batch.columns, strict=True)
        for path in _paths(column, field.name)
    )


def _paths(array: pa.Array, path: str) -> Iterator[str]:
    if types.is_struct(array.type):
        for index in range(array.type.num_fields):
            name = array.type.field(index).name
            yield from _paths(array.field(index), f"{path}.{name}")
    elif types.is_floating(array.type) and pc.any(pc.is_nan(array)).as_py():
        yield path
