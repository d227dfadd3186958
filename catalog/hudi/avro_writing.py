"""Records as Avro: bodies, and object container files as Hudi's instants are.  Pure.

A schema is compiled once into a tree of functions. In unions, the first branch that is not null
takes every value but None; where there are more than two, a `Branch` says which one is meant.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from catalog.hudi.avro_container import MAGIC
from catalog.hudi.avro_schemas import Kind, schema, schema_text

Write = Callable[[Any, bytearray], None]
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Branch:
    """A value of a union with several kinds of value.

    Attributes:
        number: which branch, counted from 0.
        value: what it holds.
    """

    number: int
    value: Any


def record_body(kind: Kind, record: Mapping[str, Any]) -> bytes:
    """Return a record as bare Avro; fields that it lacks have their defaults.

    Raises:
        ValueError, TypeError: it does not fit the schema.
    """
    out = bytearray()
    _writer_of(kind)(record, out)
    return bytes(out)


def container(
    kind: Kind, records: Sequence[Mapping[str, Any]], *, metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return an object container file with one block, not compressed.

    Raises:
        ValueError, TypeError: a record does not fit the schema.
    """
    text = schema_text(kind)
    header = {"avro.schema": text, "avro.codec": "null", **(metadata or {})}
    body = b"".join(record_body(kind, one) for one in records)
    # Equal content makes equal bytes: a write that is tried again is the same write.
    sync = hashlib.md5(text.encode() + body, usedforsecurity=False).digest()
    out = bytearray(MAGIC)
    _map(_bytes)({key: value.encode() for key, value in header.items()}, out)
    out += sync
    if records:
        _long(len(records), out)
        _bytes(body, out)
        out += sync
    return bytes(out)


def writer(kind: Any) -> Write:
    """Compile the writer of a type, named types spelled out or defined before they are used.

    Raises:
        ValueError: it is not an Avro schema.
    """
    return _Compiler({}).compile(kind)


@lru_cache(maxsize=len(Kind))
def _writer_of(kind: Kind) -> Write:
    return writer(schema(kind))


class _Compiler:
    """Compiles a schema; types that are named in it are found again by their full names."""

    def __init__(self, named: dict[str, Write]) -> None:
        self._named = named

    def compile(self, kind: Any, space: str = "") -> Write:
        if isinstance(kind, str):
            return self._by_name(kind, space)
        if isinstance(kind, list):
            return _union([self.compile(one, space) for one in kind], kind)
        name = kind["type"]
        if isinstance(name, dict | list):
            return self.compile(name, space)
        if name == "array":
            return _array(self.compile(kind["items"], space))
        if name == "map":
            return _map(self.compile(kind["values"], space))
        if name in ("record", "enum", "fixed"):
            return self._define(kind, space)
        return self._by_name(name, space)

    def _by_name(self, name: str, space: str) -> Write:
        found = _PRIMITIVES.get(name)
        if found is None:
            full = name if "." in name or not space else f"{space}.{name}"
            if full not in self._named:
                raise ValueError(f"{name!r} is no Avro type")
            # Looked up when it is used: a record may hold records of its own kind.
            return self._later(full)
        return found

    def _later(self, full: str) -> Write:
        def write(value: Any, out: bytearray) -> None:
            self._named[full](value, out)

        return write

    def _define(self, kind: Mapping[str, Any], space: str) -> Write:
        space = kind.get("namespace", space)
        name = kind["name"]
        full = name if "." in name or not space else f"{space}.{name}"
        self._named[full] = _unfinished
        if kind["type"] == "enum":
            made = _enum(kind["symbols"])
        elif kind["type"] == "fixed":
            made = _raw
        else:
            fields = [
                (one["name"], self.compile(one["type"], space), one.get("default", _MISSING))
                for one in kind["fields"]
            ]
            made = _record(name, fields)
        self._named[full] = made
        return made


def _unfinished(value: Any, out: bytearray) -> None:
    raise ValueError("the schema is not compiled yet")


def _record(name: str, fields: Sequence[tuple[str, Write, Any]]) -> Write:
    def write(value: Mapping[str, Any], out: bytearray) -> None:
        for field, step, default in fields:
            found = value.get(field, default)
            if found is _MISSING:
                raise ValueError(f"the record {name} lacks {field}")
            step(found, out)

    return write


def _union(steps: Sequence[Write], kinds: Sequence[Any]) -> Write:
    null = kinds.index("null") if "null" in kinds else -1
    usual = next((at for at in range(len(steps)) if at != null), null)

    def write(value: Any, out: bytearray) -> None:
        at = null if value is None else usual
        if isinstance(value, Branch):
            at, value = value.number, value.value
        if at < 0:
            raise ValueError("a value is missing that may not be null")
        _long(at, out)
        steps[at](value, out)

    return write


def _array(item: Write) -> Write:
    def write(value: Sequence[Any], out: bytearray) -> None:
        if value:
            _long(len(value), out)
            for one in value:
                item(one, out)
        out.append(0)

    return write


def _map(item: Write) -> Write:
    def write(value: Mapping[str, Any], out: bytearray) -> None:
        if value:
            _long(len(value), out)
            for key, one in value.items():
                _string(key, out)
                item(one, out)
        out.append(0)

    return write


def _enum(symbols: Sequence[str]) -> Write:
    return lambda value, out: _long(symbols.index(value), out)


def _long(value: int, out: bytearray) -> None:
    number = (value << 1) ^ (value >> 63)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{value} exceeds 64 bits")
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)


def _bytes(value: bytes, out: bytearray) -> None:
    _long(len(value), out)
    out += value


def _string(value: str, out: bytearray) -> None:
    _bytes(value.encode(), out)


def _raw(value: bytes, out: bytearray) -> None:
    out += value


def _boolean(value: bool, out: bytearray) -> None:
    out.append(1 if value else 0)


def _float(value: float, out: bytearray) -> None:
    out += struct.pack("<f", value)


def _double(value: float, out: bytearray) -> None:
    out += struct.pack("<d", value)


def _null(value: None, out: bytearray) -> None:
    if value is not None:
        raise ValueError(f"{value!r} stands where only null may")


_PRIMITIVES: Mapping[str, Write] = {
    "null": _null,
    "boolean": _boolean,
    "int": _long,
    "long": _long,
    "float": _float,
    "double": _double,
    "bytes": _bytes,
    "string": _string,
}
