"""Records of Avro as dictionaries, by the names of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.avro.read import Read, Schema, reader
from catalog.avro.skip import skipper
from catalog.avro.write import Write, writer

Record = Mapping[str, Any]
_MISSING = object()


def record_reader(schema: Schema, *, unwanted: frozenset[str] = frozenset()) -> Read:
    """Compile the reader of values of a type whose named types are spelled out.

    Args:
        schema: of the values.
        unwanted: names of fields, at any depth, that are stepped over: None stands for them.
    """

    def compiled(record: Schema) -> Read:
        steps = tuple(
            (field["name"], _stepping_over(field["type"]))
            if field["name"] in unwanted
            else (field["name"], reader(field["type"], compiled))
            for field in record["fields"]
        )

        def read(block: bytes, at: int) -> tuple[dict[str, Any], int]:
            found = {}
            for name, step in steps:
                found[name], at = step(block, at)
            return found, at

        return read

    return reader(schema, compiled)


def _stepping_over(kind: Schema) -> Read:
    skip = skipper(kind)
    return lambda block, at: (None, skip(block, at))


def record_writer(schema: Schema) -> Write:
    """Compile the writer of values of such a type; fields that a record lacks have their defaults.

    Raises:
        LookupError: it is not an Avro schema.
    """

    def compiled(record: Schema) -> Write:
        name = record["name"]
        steps = tuple(
            (field["name"], writer(field["type"], compiled), field.get("default", _MISSING))
            for field in record["fields"]
        )

        def write(out: bytearray, value: Record) -> None:
            for field, step, default in steps:
                found = value.get(field, default)
                if found is _MISSING:
                    raise ValueError(f"the record {name} lacks {field}")
                step(out, found)

        return write

    return writer(schema, compiled)
