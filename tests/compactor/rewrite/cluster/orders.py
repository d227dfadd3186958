"""Orders of rows by Python's own means: what the columnar code is judged by."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cmp_to_key
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from catalog.layout import SortField
from compactor.clustering import Clustering, Strategy
from compactor.rewrite.cluster.comparable import is_orderable


def sorted_rows(table: pa.Table, fields: Sequence[SortField]) -> list[int]:
    """Return row numbers in order, equal ones in turn."""
    keys = [key_values(table, field) for field in fields]

    def compare(left: int, right: int) -> int:
        for values, field in zip(keys, fields, strict=True):
            a, b = values[left], values[right]
            if a is None or b is None:
                found = (a is not None) - (b is not None)
                found = found if field.is_nulls_first else -found
            else:
                found = (a > b) - (a < b)
                found = -found if field.is_descending else found
            if found:
                return found
        return 0

    return sorted(range(table.num_rows), key=cmp_to_key(compare))


def key_values(table: pa.Table, field: SortField) -> list[Any]:
    """Return the values of a key as Python compares them."""
    values = table[field.path[0]].to_pylist()
    for name in field.path[1:]:
        values = [None if value is None else value[name] for value in values]
    return [_plain(value, table, field) for value in values]


def _plain(value: Any, table: pa.Table, field: SortField) -> Any:
    if isinstance(value, float):
        bits = struct.unpack(">q", struct.pack(">d", value))[0]
        return bits if bits >= 0 else -(bits & (2**63 - 1)) - 1
    if isinstance(value, str):
        return value.encode()
    return getattr(value, "bytes", value)


def clusterings(schema: pa.Schema) -> st.SearchStrategy[Clustering]:
    """Draw an order by columns that have one; there must be some."""
    leaves = [
        (*path, field)
        for column in schema
        for path, field in _leaves(column, (column.name,))
        if is_orderable(field.type)
    ]
    fields = st.builds(
        lambda leaf, desc, nulls: SortField(
            int((leaf[-1].metadata or {})[b"PARQUET:field_id"]), tuple(leaf[:-1]), desc, nulls
        ),
        st.sampled_from(leaves),
        st.booleans(),
        st.booleans(),
    )
    some = st.lists(fields, min_size=1, max_size=3, unique_by=lambda one: one.path)
    return some.map(lambda chosen: Clustering(Strategy.SORT, tuple(chosen)))


def has_order(schema: pa.Schema) -> bool:
    leaves = (leaf for column in schema for leaf in _leaves(column, (column.name,)))
    return any(is_orderable(field.type) for _, field in leaves)


def _leaves(field: pa.Field, path: tuple[str, ...]) -> Any:
    if pa.types.is_struct(field.type):
        for child in field.type.fields:
            yield from _leaves(child, (*path, child.name))
    else:
        yield path, field
