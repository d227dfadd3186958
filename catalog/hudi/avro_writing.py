"""Records of Hudi as Avro: bodies, and object container files as its instants are.  Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from catalog.avro.container_writing import Container
from catalog.avro.records import record_writer
from catalog.avro.schema import spelled_out
from catalog.avro.write import Write
from catalog.hudi.avro_schemas import Kind, schema, schema_text


def record_body(kind: Kind, record: Mapping[str, Any]) -> bytes:
    """Return a record as bare Avro; fields that it lacks have their defaults.

    Raises:
        ValueError, TypeError: it does not fit the schema.
    """
    out = bytearray()
    _writer_of(kind)(out, record)
    return bytes(out)


def container(kind: Kind, records: Sequence[Mapping[str, Any]]) -> bytes:
    """Return an object container file, not compressed.

    Raises:
        ValueError, TypeError: a record does not fit the schema.
    """
    bodies = [record_body(kind, one) for one in records]
    # Equal content makes equal bytes: a write that is tried again is the same write.
    content = schema_text(kind).encode() + b"".join(bodies)
    sync = hashlib.md5(content, usedforsecurity=False).digest()
    file = Container(schema(kind), {}, codec="null", sync=sync)
    for body in bodies:
        file.append(body)
    return file.finish()


@lru_cache(maxsize=len(Kind))
def _writer_of(kind: Kind) -> Write:
    return record_writer(spelled_out(schema(kind)))
