"""Schemas: the Avro text that commits carry, and the Arrow columns that readers see.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import pyarrow as pa

from catalog.avro.schema import Schema, spelled_out
from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.schema import FIELD_ID_KEY, TableSchema, named_ids

RECORD_KEY = "_hoodie_record_key"
PARTITION_PATH = "_hoodie_partition_path"
FILE_NAME = "_hoodie_file_name"
COMMIT_TIME, COMMIT_SEQNO = "_hoodie_commit_time", "_hoodie_commit_seqno"
META_COLUMNS = (
    COMMIT_TIME,
    COMMIT_SEQNO,
    RECORD_KEY,
    PARTITION_PATH,
    FILE_NAME,
)
# Where writers of change streams keep what happened to a row.
OPERATION = "_hoodie_operation"
# Where a row says of itself that it is gone.
IS_DELETED = "_hoodie_is_deleted"
_PLAIN = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
}
_LOGICAL = {
    ("int", "date"): pa.date32(),
    ("int", "time-millis"): pa.time32("ms"),
    ("long", "time-micros"): pa.time64("us"),
    ("long", "timestamp-millis"): pa.timestamp("ms", "UTC"),
    ("long", "timestamp-micros"): pa.timestamp("us", "UTC"),
    ("long", "local-timestamp-millis"): pa.timestamp("ms"),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
}


# More than tables have, and than any reader copes with.
_TYPES_MAX = 200_000
_DEPTH_MAX = 100


@lru_cache(maxsize=64)
def parse_avro(text: str) -> Schema:
    """Parse the schema of a record, named types spelled out; do not change the result.

    Raises:
        CorruptTableError: it is not the schema of a record.
    """
    try:
        schema = spelled_out(json.loads(text))
        if schema["type"] != "record" or not all(one["name"] for one in schema["fields"]):
            raise ValueError("it is no record")
        types, depth = _extent(schema, {})
        if types > _TYPES_MAX or depth > _DEPTH_MAX:
            raise ValueError(f"it has {types} types, {depth} deep")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptTableError(f"a schema does not parse: {error}") from error
    return schema


def _extent(kind: Schema, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return of how many types a type is made, named ones spelled out, and how deep they are.

    A short text may name types within each other again and again, which nobody could hold.
    """
    if id(kind) not in known:
        inner = [_extent(one, known) for one in _inner(kind)]
        depth = 1 + max((depth for _, depth in inner), default=0)
        known[id(kind)] = 1 + sum(types for types, _ in inner), depth
    return known[id(kind)]


def _inner(kind: Schema) -> list[Schema]:
    if isinstance(kind, list):
        return kind
    if not isinstance(kind, dict):
        return []
    fields = [one["type"] for one in kind.get("fields", ())]
    return fields + [kind[name] for name in ("items", "values", "type") if name in kind]


def arrow_schema(avro: Schema) -> pa.Schema:
    """Return the columns that a record has.

    Raises:
        UnsupportedTableError: a type has no counterpart.
    """
    return pa.schema([_field(one) for one in avro["fields"]])


def table_schema(avro_text: str, *, has_meta_columns: bool = True) -> TableSchema:
    """Return the columns of a table whose commits carry this schema.

    Columns are found by their names; ids are given by position, nested ones after all top-level
    ones, for the sake of those who go by ids.

    Args:
        avro_text: with or without meta columns.
        has_meta_columns: whether rows carry meta columns.

    Raises:
        CorruptTableError: the schema does not parse.
        UnsupportedTableError: a type has no counterpart.
    """
    fields = list(arrow_schema(parse_avro(avro_text)))
    if has_meta_columns:
        named = {field.name for field in fields}
        missing = [name for name in META_COLUMNS if name not in named]
        fields = [pa.field(name, pa.string()) for name in missing] + fields
    numbers = iter(range(len(fields) + 1, 1 << 31))
    numbered = [
        _numbered(field.with_metadata({FIELD_ID_KEY: str(at)}), numbers)
        for at, field in enumerate(fields, 1)
    ]
    own = [at for at, field in enumerate(fields, 1) if field.name in META_COLUMNS]
    return TableSchema(
        arrow=pa.schema(numbered),
        name_mapping=tuple(named_ids(numbered)),
        has_field_ids=False,
        own=frozenset(own),
    )


def arrow_type(kind: Schema) -> pa.DataType:
    """Return the type of a column; that of a union is the one type besides null in it.

    Raises:
        UnsupportedTableError: there is no counterpart.
    """
    if isinstance(kind, list):
        return arrow_type(_besides_null(kind))
    if isinstance(kind, str):
        kind = {"type": kind}
    name = kind["type"]
    if isinstance(name, dict | list):
        return arrow_type(name)
    logical = kind.get("logicalType")
    if name in ("bytes", "fixed") and logical == "decimal":
        return _decimal(kind)
    if found := _LOGICAL.get((name, logical)):
        return found
    return _nested(name, kind)


def _nested(name: str, kind: dict[str, Any]) -> pa.DataType:
    if name == "record":
        return pa.struct([_field(one) for one in kind["fields"]])
    if name == "array":
        items = kind["items"]
        return pa.list_(pa.field("element", arrow_type(items), is_nullable(items)))
    if name == "map":
        values = kind["values"]
        return pa.map_(pa.string(), pa.field("value", arrow_type(values), is_nullable(values)))
    if name == "fixed":
        return pa.binary(int(kind["size"]))
    if name not in _PLAIN:
        raise UnsupportedTableError(f"the Avro type {name} has no counterpart in Parquet")
    return _PLAIN[name]


def is_nullable(kind: Schema) -> bool:
    """Whether a value may be null."""
    return (isinstance(kind, list) and "null" in kind) or kind == "null"


def _besides_null(union: list[Schema]) -> Schema:
    others = [one for one in union if one != "null"]
    if len(others) != 1:
        raise UnsupportedTableError("a column is a union of several types")
    return others[0]


def _decimal(kind: dict[str, Any]) -> pa.DataType:
    precision, scale = int(kind["precision"]), int(kind.get("scale", 0))
    if not 1 <= precision <= 38:
        raise UnsupportedTableError(f"a decimal has {precision} digits, 38 are supported")
    return pa.decimal128(precision, scale)


def _field(one: dict[str, Any]) -> pa.Field:
    return pa.field(one["name"], arrow_type(one["type"]), is_nullable(one["type"]))


def _numbered(field: pa.Field, numbers: Iterator[int]) -> pa.Field:
    """Give ids to what is nested in a field."""
    kind = field.type
    if isinstance(kind, pa.StructType):
        kind = pa.struct(_all_numbered(kind.fields, numbers))
    elif isinstance(kind, pa.MapType):
        kind = pa.map_(*_all_numbered([kind.key_field, kind.item_field], numbers))
    elif isinstance(kind, pa.ListType):
        kind = pa.list_(*_all_numbered([kind.value_field], numbers))
    return field.with_type(kind)


def _all_numbered(fields: Iterable[pa.Field], numbers: Iterator[int]) -> list[pa.Field]:
    return [
        _numbered(one.with_metadata({FIELD_ID_KEY: str(next(numbers))}), numbers) for one in fields
    ]
