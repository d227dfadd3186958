"""The rows of checkpoints as Arrow: actions out of JSON and out of other checkpoints alike.  Pure.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#checkpoint-schema
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catalog.delta.actions import Raw
from catalog.errors import CorruptTableError

_TEXTS = pa.map_(pa.string(), pa.string())
_VECTOR = pa.struct(
    {
        "storageType": pa.string(),
        "pathOrInlineDv": pa.string(),
        "offset": pa.int32(),
        "sizeInBytes": pa.int32(),
        "cardinality": pa.int64(),
    }
)
ADD = pa.struct(
    {
        "path": pa.string(),
        "partitionValues": _TEXTS,
        "size": pa.int64(),
        "modificationTime": pa.int64(),
        "dataChange": pa.bool_(),
        "stats": pa.string(),
        "tags": _TEXTS,
        "deletionVector": _VECTOR,
        "baseRowId": pa.int64(),
        "defaultRowCommitVersion": pa.int64(),
        "clusteringProvider": pa.string(),
    }
)
REMOVE = pa.struct(
    {
        "path": pa.string(),
        "deletionTimestamp": pa.int64(),
        "dataChange": pa.bool_(),
        "extendedFileMetadata": pa.bool_(),
        "partitionValues": _TEXTS,
        "size": pa.int64(),
        "deletionVector": _VECTOR,
        "baseRowId": pa.int64(),
        "defaultRowCommitVersion": pa.int64(),
    }
)
_METADATA = pa.struct(
    {
        "id": pa.string(),
        "name": pa.string(),
        "description": pa.string(),
        "format": pa.struct({"provider": pa.string(), "options": _TEXTS}),
        "schemaString": pa.string(),
        "partitionColumns": pa.list_(pa.string()),
        "createdTime": pa.int64(),
        "configuration": _TEXTS,
    }
)
_PROTOCOL = pa.struct(
    {
        "minReaderVersion": pa.int32(),
        "minWriterVersion": pa.int32(),
        "readerFeatures": pa.list_(pa.string()),
        "writerFeatures": pa.list_(pa.string()),
    }
)
ROWS = pa.schema(
    {
        "protocol": _PROTOCOL,
        "metaData": _METADATA,
        "txn": pa.struct({"appId": pa.string(), "version": pa.int64(), "lastUpdated": pa.int64()}),
        "domainMetadata": pa.struct(
            {"domain": pa.string(), "configuration": pa.string(), "removed": pa.bool_()}
        ),
        "checkpointMetadata": pa.struct({"version": pa.int64(), "tags": _TEXTS}),
        "add": ADD,
        "remove": REMOVE,
    }
)
_NO_CHANGE = "dataChange"


def rows_of(kind: str, raws: Sequence[Raw]) -> pa.Table:
    """Return actions of one kind, as JSON has them, as rows of a checkpoint.

    Raises:
        CorruptTableError: one has a field of another type than it must have.
    """
    type_ = ROWS.field(kind).type
    try:
        return in_column(kind, pa.array([_value(raw, type_) for raw in raws], type_))
    except (pa.ArrowException, TypeError, ValueError) as fault:
        raise CorruptTableError(f"malformed {kind} in the log: {fault}") from fault


def in_column(kind: str, actions: pa.StructArray) -> pa.Table:
    """Return actions of one kind as rows of a checkpoint, which hold nothing else.

    Args:
        kind: the kind.
        actions: without nulls; fields that checkpoints have no room for are left out.
    """
    columns = [
        conform(actions, field.type) if field.name == kind else pa.nulls(len(actions), field.type)
        for field in ROWS
    ]
    return pa.table(columns, schema=ROWS)


def conform(actions: pa.StructArray, kind: pa.StructType) -> pa.StructArray:
    """Return structs with the fields of a type; those that they lack are null.

    Files in a checkpoint are no change of data, whatever the commit that added them was.
    """
    columns = [_column(actions, field) for field in kind]
    return pa.StructArray.from_arrays(columns, fields=list(kind), mask=actions.is_null())


def _column(actions: pa.StructArray, field: pa.Field) -> pa.Array:
    if field.name == _NO_CHANGE:
        return pa.repeat(pa.scalar(False), len(actions))
    if actions.type.get_field_index(field.name) < 0:
        return pa.nulls(len(actions), field.type)
    found = pc.struct_field(actions, field.name)
    return conform(found, field.type) if pa.types.is_struct(field.type) else found.cast(field.type)


def _value(raw: object, kind: pa.DataType) -> Any:
    """Return a value of JSON, or of a row read before, in the form that Arrow takes."""
    if raw is None:
        return None
    if isinstance(kind, pa.MapType):
        return list(raw.items()) if isinstance(raw, Mapping) else list(_iterable(raw))
    if isinstance(kind, pa.StructType) and isinstance(raw, Mapping):
        return {field.name: _value(raw.get(field.name), field.type) for field in kind}
    return raw


def _iterable(raw: object) -> Iterable[Any]:
    if not isinstance(raw, list):
        raise TypeError(f"{raw!r} is no map")
    return raw
