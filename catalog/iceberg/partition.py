"""Partition values as text: a key that identifies them exactly, a label for people, a directory.

A key is a JSON list, the spec id and then the values in the order of the spec's fields. It is
canonical: equal partitions have equal keys, whatever wrote the manifest. JSON has no bytes,
decimals, identifiers or exact floats, so these are single-entry objects named by their kind.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote_plus
from uuid import UUID

import numpy as np

# What a partition value is in Python: dates and times are counts since the epoch, as in Avro.
Value = None | bool | int | float | str | bytes | Decimal | UUID
_TIME_UNITS: dict[str, Literal["Y", "M", "D", "h"]] = {
    "year": "Y",
    "month": "M",
    "day": "D",
    "hour": "h",
}
_DECODERS: dict[str, Callable[[str], Value]] = {
    "float": float.fromhex,
    "bytes": bytes.fromhex,
    "decimal": Decimal,
    "uuid": UUID,
}


@dataclass(frozen=True, slots=True)
class SpecField:
    """One field of a partition spec.

    Attributes:
        field_id: its id in manifests.
        name: its name, which labels and directories carry.
        source_id: field id of the column that it is computed from.
        transform: as in metadata, `identity`, `bucket[16]`, `day`…
        source_type: Iceberg's name of the column's type; empty when the column was dropped.
    """

    field_id: int
    name: str
    source_id: int
    transform: str
    source_type: str


@dataclass(frozen=True, slots=True)
class Spec:
    """A partition spec."""

    spec_id: int
    fields: tuple[SpecField, ...]

    @property
    def is_unpartitioned(self) -> bool:
        """Whether it parts nothing: fields that were removed in format version 1 are void."""
        return all(field.transform == "void" for field in self.fields)

    def order(self, by_field_id: Mapping[int, Any]) -> list[Any]:
        """Return the values in the order of the fields; what is not given is null."""
        return [by_field_id.get(field.field_id) for field in self.fields]


def from_avro(kind: Any, value: Any) -> Value:
    """Give a value that was decoded by its plain Avro type the meaning of its logical type."""
    if value is None:
        return None
    if isinstance(kind, list):
        kind = next(choice for choice in kind if choice != "null")
    logical = kind.get("logicalType") if isinstance(kind, dict) else None
    if logical == "decimal":
        unscaled = int.from_bytes(value, "big", signed=True)
        # By text: arithmetic would round to the digits of Python's decimal context.
        return Decimal(f"{unscaled}E{-int(kind.get('scale', 0))}")
    if logical == "uuid" and isinstance(value, bytes):
        return UUID(bytes=value)
    result: Value = value
    return result


def to_avro(kind: Any, value: Value) -> Any:
    """Give a value the form that its plain Avro type has: the counterpart of `from_avro`."""
    if isinstance(kind, list):
        kind = next(choice for choice in kind if choice != "null")
    match value:
        case Decimal():
            sign, digits, _ = value.as_tuple()
            unscaled = int("".join(map(str, digits))) * (-1 if sign else 1)
            bits = (unscaled if unscaled >= 0 else ~unscaled).bit_length() + 1
            size = int(kind.get("size", (bits + 7) // 8))
            return unscaled.to_bytes(size, "big", signed=True)
        case UUID():
            return value.bytes
    return value


def encode_key(spec_id: int, values: Sequence[Value]) -> str:
    """Return the canonical text of a partition."""
    return json.dumps([spec_id, *map(_to_json, values)], ensure_ascii=False, separators=(",", ":"))


def decode_key(key: str) -> tuple[int, list[Value]]:
    """Return the spec id and the values that a key was made from."""
    spec_id, *values = json.loads(key)
    return spec_id, [_from_json(value) for value in values]


def label(spec: Spec, values: Sequence[Value]) -> str:
    """Return a partition as people read it, `day=2026-11-20/region=eu`."""
    return "/".join(
        f"{field.name}={_show(field, value)}"
        for field, value in zip(spec.fields, values, strict=True)
    )


def directory(spec: Spec, values: Sequence[Value]) -> str:
    """Return a partition as the directories of its files; empty when unpartitioned."""
    return "/".join(
        f"{_quote(field.name)}={_quote(_show(field, value))}"
        for field, value in zip(spec.fields, values, strict=True)
    )


def _quote(text: str) -> str:
    # Two dots beside an encoded slash would climb for whoever decodes the path.
    return quote_plus(text.replace("..", "__"))


def _to_json(value: Value) -> Any:
    match value:
        case bool() | int() | str() | None:
            return value
        case float():
            return {"float": "nan" if math.isnan(value) else value.hex()}
        case bytes():
            return {"bytes": value.hex()}
        case Decimal():
            return {"decimal": format(value, "f")}
        case UUID():
            return {"uuid": str(value)}


def _from_json(value: Any) -> Value:
    if not isinstance(value, dict):
        plain: Value = value
        return plain
    ((kind, text),) = value.items()
    return _DECODERS[kind](text)


def _show(field: SpecField, value: Value) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int():
            return _show_number(field, value)
        case bytes():
            return base64.b64encode(value).decode()
        case Decimal():
            return format(value, "f")
        case _:
            return str(value)


def _show_number(field: SpecField, value: int) -> str:
    if field.transform in _TIME_UNITS:
        return str(np.datetime64(value, _TIME_UNITS[field.transform])).replace("T", "-")
    if field.transform != "identity":
        return str(value)
    if field.source_type == "date":
        return str(np.datetime64(value, "D"))
    if field.source_type.startswith("timestamp"):
        zone = "+00:00" if field.source_type.startswith("timestamptz") else ""
        return str(np.datetime64(value, "ns" if field.source_type.endswith("_ns") else "us")) + zone
    if field.source_type == "time":
        return str(np.datetime64(value, "us")).split("T")[1]
    return str(value)
