"""Partition values of new rows: the transforms of PyIceberg, in the plain values of manifests."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
from pyarrow import types

from catalog.errors import UnsupportedTableError
from catalog.iceberg.partition import Spec, SpecField, Value, encode_key
from catalog.partitioning import keys_of_rows
from catalog.schema import field_id


def partition_keys(spec: Spec, rows: pa.Table) -> pa.Array:
    """Return the partition that each row belongs to by a spec.

    Raises:
        UnsupportedTableError: a field is computed from a column that is no top-level one.
    """
    is_uuid = [
        field.transform == "identity" and field.source_type == "uuid" for field in spec.fields
    ]

    def encode(values: tuple[Any, ...]) -> str:
        plain: list[Value] = [
            UUID(bytes=value) if wanted and value is not None else value
            for value, wanted in zip(values, is_uuid, strict=True)
        ]
        return encode_key(spec.spec_id, plain)

    columns = [source_values(field, rows) for field in spec.fields]
    return keys_of_rows(columns, encode, rows=rows.num_rows)


def source_values(field: SpecField, rows: pa.Table) -> pa.Array:
    """Return the values that a partition field has for some rows.

    Raises:
        UnsupportedTableError: it is computed from a column that is no top-level one.
    """
    if field.transform == "void":
        return pa.nulls(rows.num_rows, pa.int32())
    found = [one for one in rows.schema if field_id(one) == field.source_id]
    if not found:
        raise UnsupportedTableError(
            f"the partition field {field.name} is not computed from a top-level column"
        )
    values = rows[found[0].name].combine_chunks()
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if field.transform != "identity":
        values = _transformed(field, values)
    if types.is_temporal(values.type):
        values = values.view(pa.int32() if values.type.bit_width == 32 else pa.int64())
    return values


def _in_microseconds(values: pa.Array) -> pa.Array:
    """Return times in nanoseconds as microseconds, rounded down, as they are parted by.

    The library rounds towards 1970 instead, and knows no hours of nanoseconds.

    Specification: https://iceberg.apache.org/spec/#appendix-b-32-bit-hash-requirements
    """
    counts = np.asarray(values.view(pa.int64()).fill_null(0)) // 1000
    found = pa.array(counts, mask=np.asarray(values.is_null()))
    return found.view(pa.timestamp("us", values.type.tz))


def _transformed(field: SpecField, values: pa.Array) -> pa.Array:
    from pyiceberg.schema import Schema  # lazy: workers read tables without it
    from pyiceberg.transforms import parse_transform

    source_type = field.source_type.removesuffix("_ns")
    if source_type != field.source_type:
        values = _in_microseconds(values)
    source = {"id": 1, "name": "source", "required": False, "type": source_type}
    document = {"type": "struct", "schema-id": 0, "fields": [source]}
    kind = Schema.model_validate(document).fields[0].field_type
    return parse_transform(field.transform).pyarrow_transform(kind)(values)
