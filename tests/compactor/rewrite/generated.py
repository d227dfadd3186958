"""Hypothesis strategies for table schemas and rows of every type that a table can have."""

from __future__ import annotations

import datetime
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st
from pyarrow import types

from tests.compactor.rewrite.tables import with_ids

LEAVES = [
    pa.bool_(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.decimal128(7, 2),
    pa.decimal128(18, 0),
    pa.decimal128(38, 10),
    pa.date32(),
    pa.time64("us"),
    pa.timestamp("us"),
    pa.timestamp("us", "UTC"),
    pa.string(),
    pa.binary(),
    pa.binary(5),
    pa.binary(16),
]
CONTEXT = Context(prec=40)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def kinds(depth: int = 2) -> st.SearchStrategy[pa.DataType]:
    leaves = st.sampled_from(LEAVES)
    if depth == 0:
        return leaves
    inner = kinds(depth - 1)
    return st.one_of(
        leaves,
        st.builds(
            lambda kind, null: pa.list_(pa.field("element", kind, null)), inner, st.booleans()
        ),
        st.lists(st.tuples(inner, st.booleans()), min_size=1, max_size=3).map(
            lambda some: pa.struct([pa.field(f"f{i}", *one) for i, one in enumerate(some)])
        ),
        st.builds(
            lambda key, kind, null: pa.map_(
                pa.field("key", key, False), pa.field("value", kind, null)
            ),
            st.sampled_from([pa.string(), pa.int32()]),
            inner,
            st.booleans(),
        ),
    )


def schemas() -> st.SearchStrategy[pa.Schema]:
    # Arrow makes no nested extension values from Python objects: UUIDs stay on top.
    kind = kinds() | st.just(pa.uuid())
    columns = st.lists(st.tuples(kind, st.booleans()), min_size=1, max_size=5)
    return columns.map(
        lambda some: with_ids(pa.schema([pa.field(f"c{i}", *one) for i, one in enumerate(some)]))
    )


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if types.is_struct(kind):
        return st.fixed_dictionaries({one.name: nullable(one) for one in kind.fields})
    if types.is_map(kind):
        pairs = st.tuples(values(kind.key_type), nullable(kind.item_field))
        return st.lists(pairs, max_size=3, unique_by=lambda pair: pair[0])
    if types.is_list(kind):
        return st.lists(nullable(kind.value_field), max_size=3)
    return leaf_values(kind)


def leaf_values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if types.is_integer(kind):
        bound = 1 << (kind.bit_width - 1)
        return st.integers(-bound, bound - 1)
    if types.is_floating(kind):
        return st.floats(width=kind.bit_width, allow_nan=False)
    if types.is_decimal(kind):
        bound = 10**kind.precision - 1
        return st.integers(-bound, bound).map(lambda n: Decimal(n).scaleb(-kind.scale, CONTEXT))
    if isinstance(kind, pa.UuidType):
        return st.binary(min_size=16, max_size=16)
    if types.is_fixed_size_binary(kind):
        return st.binary(min_size=kind.byte_width, max_size=kind.byte_width)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        pa.bool_(): st.booleans(),
        pa.date32(): st.dates(),
        pa.time64("us"): st.times(),
        pa.timestamp("us"): st.datetimes(),
        pa.timestamp("us", "UTC"): st.datetimes(timezones=st.just(datetime.UTC)),
        pa.string(): TEXT,
        pa.binary(): st.binary(max_size=20),
    }
    return simple[kind]


def nullable(one: pa.Field) -> st.SearchStrategy[Any]:
    return st.none() | values(one.type) if one.nullable else values(one.type)


def rows(schema: pa.Schema, **size: Any) -> st.SearchStrategy[pa.Table]:
    row = st.fixed_dictionaries({one.name: nullable(one) for one in schema})
    return st.lists(row, **size).map(lambda some: pa.Table.from_pylist(some, schema))


def tables(**size: Any) -> st.SearchStrategy[pa.Table]:
    return schemas().flatmap(lambda schema: rows(schema, **size))
