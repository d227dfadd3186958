"""The columns of a Delta table as Arrow: physical names, ids, partition columns, row tracking.

Files are written and found by physical names.  Every column is nullable whatever the table says:
the reference writer stores all columns as optional, and outputs must look like its files.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#schema-serialization-format
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from catalog.delta.actions import Metadata
from catalog.delta.partition import PartitionColumn
from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.schema import FIELD_ID_KEY, ROW_ID_FIELD, TableSchema, field_id, named_ids

_PLAIN = {
    "string": pa.string(),
    "long": pa.int64(),
    "integer": pa.int32(),
    "short": pa.int16(),
    "byte": pa.int8(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "timestamp_ntz": pa.timestamp("us"),
}
_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(-?\d+)\s*\)")
# Written as strings; the length is kept beside the type.
_TEXT = re.compile(r"(?:var)?char\(\s*\d+\s*\)")
# A column that holds nothing, and that no file has.
_NOTHING = "void"

_NESTED_IDS = "delta.columnMapping.nested.ids"

# Beyond every id that a table gives to its columns; Iceberg reserves the same two for the same.
ROW_ID, ROW_VERSION = ROW_ID_FIELD, 2147483539
_TRACKING = frozenset((ROW_ID, ROW_VERSION))
_ROW_ID_NAME = "delta.rowTracking.materializedRowIdColumnName"
_ROW_VERSION_NAME = "delta.rowTracking.materializedRowCommitVersionColumnName"
_DEPTH_MAX = 100


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one version.

    Attributes:
        schema: as readers of the files see them.
        partitions: those that the table is partitioned by, in order.
    """

    schema: TableSchema
    partitions: tuple[PartitionColumn, ...]


def read_columns(metadata: Metadata, *, stores_partitions: bool, tracks_rows: bool) -> Columns:
    """Read the columns of a table.

    Args:
        metadata: the table's.
        stores_partitions: whether data files must hold the partition columns.
        tracks_rows: whether rows have ids, and files may store them.

    Raises:
        UnsupportedTableError: a column has a type that is not handled.
        CorruptTableError: the schema cannot be read.
    """
    mode = metadata.configuration.get("delta.columnMapping.mode", "none")
    reader = _SchemaReader(mode)
    try:
        document = json.loads(metadata.schema_text)
        fields = list(reader.fields(document, 0))
        shown = pa.schema(list(_SchemaReader(mode, shows_names=True).fields(document, 0)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise CorruptTableError(f"the schema of the table cannot be read: {fault!r}") from fault
    _refuse_twice([field.name for field in fields])
    by_name = dict(zip(reader.names, fields, strict=True))
    partitions = tuple(_partition(name, by_name) for name in metadata.partition_columns)
    is_plain = shown.equals(pa.schema(fields))
    fields += _row_tracking(metadata.configuration) if tracks_rows else []
    unstored = [] if stores_partitions else [one.field_id for one in partitions]
    return Columns(
        TableSchema(
            pa.schema(fields),
            name_mapping=tuple(named_ids(pa.schema(fields))),
            has_field_ids=mode != "none",
            unstored=frozenset(unstored),
            # Writers give no ids to the columns that rows are tracked by.
            named=_TRACKING if tracks_rows else frozenset(),
            ignores_field_ids=mode == "name",
            shown=None if is_plain else shown,
        ),
        partitions,
    )


class _SchemaReader:
    """Reads one schema; `names` collects the logical names of its top-level columns.

    Columns get their physical names, or with `shows_names` their logical ones, and are null where
    the table says that they may be.
    """

    def __init__(self, mode: str, *, shows_names: bool = False) -> None:
        if mode not in ("none", "name", "id"):
            raise UnsupportedTableError(f"the column mapping mode {mode!r} is not known")
        self._is_mapped = mode != "none"
        self._shows_names = shows_names
        self._numbers = itertools.count(1)
        self.names: list[str] = []

    def fields(self, document: Mapping[str, Any], depth: int) -> Iterator[pa.Field]:
        """Yield the fields of a struct."""
        for one in document["fields"]:
            if one["type"] != _NOTHING:
                self.names += [] if depth else [str(one["name"])]
                yield self._field(one, depth)

    def _field(self, document: Mapping[str, Any], depth: int) -> pa.Field:
        name, number = str(document["name"]), next(self._numbers)
        physical_name, ids = name, {}
        if self._is_mapped:
            metadata = document["metadata"]
            physical_name = str(metadata["delta.columnMapping.physicalName"])
            number = int(metadata["delta.columnMapping.id"])
            ids = dict(metadata.get(_NESTED_IDS) or {})
        place = _Place(name, physical_name, ids, depth)
        shown = name if self._shows_names else physical_name
        is_nullable = not self._shows_names or bool(document.get("nullable", True))
        kind = self._type(document["type"], place)
        return pa.field(shown, kind, is_nullable, metadata=_tag(number))

    def _type(self, kind: Any, place: _Place) -> pa.DataType:
        if place.depth > _DEPTH_MAX:
            raise CorruptTableError(f"the column {place.column!r} is nested too deeply")
        if isinstance(kind, str):
            return _plain(kind, place.column)
        match kind["type"]:
            case "struct":
                fields = list(self.fields(kind, place.depth + 1))
                _refuse_twice([field.name for field in fields])
                return pa.struct(fields)
            case "array":
                element = self._inner("element", kind["elementType"], place)
                return pa.list_(self._declared(element, kind.get("containsNull", True)))
            case "map":
                key = self._inner("key", kind["keyType"], place).with_nullable(False)
                value = self._inner("value", kind["valueType"], place)
                return pa.map_(key, self._declared(value, kind.get("valueContainsNull", True)))
        raise _unknown_type(str(kind["type"]), place.column)

    def _declared(self, field: pa.Field, contains_null: Any) -> pa.Field:
        return field.with_nullable(not self._shows_names or bool(contains_null))

    def _inner(self, part: str, kind: Any, outer: _Place) -> pa.Field:
        """Return what a list or a map holds; it has an id of its own in tables made for Iceberg."""
        path = f"{outer.path}.{part}"
        inner = self._type(kind, replace(outer, path=path, depth=outer.depth + 1))
        return pa.field(part, inner, metadata=_tag(outer.ids.get(path)))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the schema a type stands.

    Attributes:
        column: name of the innermost field around it, for messages.
        path: physical name of that field, and the way from there through lists and maps.
        ids: ids of what that field's lists and maps hold, by path.
        depth: how many types are around it.
    """

    column: str
    path: str
    ids: Mapping[str, int]
    depth: int


def _tag(number: int | None) -> dict[bytes, bytes] | None:
    return None if number is None else {FIELD_ID_KEY: str(int(number)).encode()}


def _plain(kind: str, column: str) -> pa.DataType:
    if kind == "decimal":
        return pa.decimal128(10, 0)
    if found := _DECIMAL.fullmatch(kind):
        return pa.decimal128(int(found[1]), int(found[2]))
    if _TEXT.fullmatch(kind):
        return pa.string()
    if kind not in _PLAIN:
        raise _unknown_type(kind, column)
    return _PLAIN[kind]


def _unknown_type(kind: str, column: str) -> UnsupportedTableError:
    return UnsupportedTableError(
        f"the column {column!r} has the type {kind[:100]}, which is not supported",
        hint="compact it with an engine that knows the type; it was not touched",
    )


def _refuse_twice(names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CorruptTableError(f"the schema of the table has the column {twice!r} twice")


def _partition(name: str, by_name: Mapping[str, pa.Field]) -> PartitionColumn:
    field = by_name.get(name)
    if field is None:
        raise CorruptTableError(f"the table is partitioned by {name!r}, a column it does not have")
    return PartitionColumn(name, field.name, field_id(field) or 0, field.type)


def _row_tracking(configuration: Mapping[str, str]) -> list[pa.Field]:
    """Return the columns that rows keep their ids and versions in once they are rewritten."""
    names = configuration.get(_ROW_ID_NAME), configuration.get(_ROW_VERSION_NAME)
    if not all(names):
        raise CorruptTableError(
            f"the table tracks rows, but lacks the property {_ROW_ID_NAME} or {_ROW_VERSION_NAME}"
        )
    return [
        pa.field(name, pa.int64(), metadata=_tag(number))
        for name, number in zip(names, (ROW_ID, ROW_VERSION), strict=True)
    ]
