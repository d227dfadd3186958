"""The leaf columns of a Parquet file, and whether they are those of a table schema.  Pure.

Columns are told apart by the field ids on the way from the root to the leaf, never by name: an
output that was written before a rename is as good as one that was written after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    PrimitiveType,
    StringType,
    StructType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    TimeType,
    UnknownType,
    UUIDType,
)

from catalog.errors import CorruptTableError
from catalog.iceberg.metrics import Column

_FIELD_ID = b"PARQUET:field_id"
# The way from the root to a leaf, by field ids.
Path = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Leaf:
    path: Path
    kind: pa.DataType
    is_repeated: bool


def columns_of(arrow: pa.Schema, schema: Schema) -> list[Column] | None:
    """Return the leaf columns of a file in file order; None when they are not those of `schema`.

    Raises:
        CorruptTableError: a column has no field id.
    """
    expected = dict(_leaves_of_type(schema.as_struct(), ()))
    found = [leaf for field in arrow for leaf in _leaves_of_field(field, (), is_repeated=False)]
    if len(found) != len(expected) or {leaf.path for leaf in found} != expected.keys():
        return None
    if not all(_stores(leaf.kind, expected[leaf.path]) for leaf in found):
        return None
    return [
        Column(
            field_id=leaf.path[-1],
            name=schema.find_column_name(leaf.path[-1]) or "",
            kind=expected[leaf.path],
            is_repeated=leaf.is_repeated,
        )
        for leaf in found
    ]


def _leaves_of_type(kind: IcebergType, path: Path) -> Iterator[tuple[Path, PrimitiveType]]:
    if isinstance(kind, StructType):
        for field in kind.fields:
            yield from _leaves_of_type(field.field_type, (*path, field.field_id))
    elif isinstance(kind, ListType):
        yield from _leaves_of_type(kind.element_type, (*path, kind.element_id))
    elif isinstance(kind, MapType):
        yield from _leaves_of_type(kind.key_type, (*path, kind.key_id))
        yield from _leaves_of_type(kind.value_type, (*path, kind.value_id))
    elif isinstance(kind, PrimitiveType) and not isinstance(kind, UnknownType):
        yield path, kind


def _leaves_of_field(field: pa.Field, path: Path, *, is_repeated: bool) -> Iterator[_Leaf]:
    here = (*path, _field_id(field))
    kind = field.type
    if pa.types.is_struct(kind):
        for index in range(kind.num_fields):
            yield from _leaves_of_field(kind.field(index), here, is_repeated=is_repeated)
    elif pa.types.is_map(kind):
        for inner in (kind.key_field, kind.item_field):
            yield from _leaves_of_field(inner, here, is_repeated=True)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves_of_field(kind.value_field, here, is_repeated=True)
    else:
        yield _Leaf(here, kind, is_repeated)


def _field_id(field: pa.Field) -> int:
    text = (field.metadata or {}).get(_FIELD_ID)
    if text is None:
        raise CorruptTableError(f"column {field.name!r} has no field id")
    return int(text)


def _stores(arrow: pa.DataType, kind: PrimitiveType) -> bool:
    """Whether an Arrow type is how a type of the table is stored."""
    storage = arrow.storage_type if isinstance(arrow, pa.BaseExtensionType) else arrow
    if isinstance(kind, StringType):
        return bool(pa.types.is_string(storage) or pa.types.is_large_string(storage))
    if isinstance(kind, BinaryType):
        return bool(pa.types.is_binary(storage) or pa.types.is_large_binary(storage))
    if isinstance(kind, DecimalType):
        return pa.types.is_decimal(storage) and (storage.precision, storage.scale) == (
            kind.precision,
            kind.scale,
        )
    if isinstance(kind, FixedType):
        return bool(storage == pa.binary(len(kind)))
    if isinstance(kind, TimestamptzType | TimestamptzNanoType):
        unit = "us" if isinstance(kind, TimestamptzType) else "ns"
        return pa.types.is_timestamp(storage) and storage.unit == unit and storage.tz is not None
    return bool(storage == _STORED.get(type(kind)))


_STORED: Mapping[type[PrimitiveType], pa.DataType] = {
    BooleanType: pa.bool_(),
    IntegerType: pa.int32(),
    LongType: pa.int64(),
    FloatType: pa.float32(),
    DoubleType: pa.float64(),
    DateType: pa.date32(),
    TimeType: pa.time64("us"),
    TimestampType: pa.timestamp("us"),
    TimestampNanoType: pa.timestamp("ns"),
    UUIDType: pa.binary(16),
}
