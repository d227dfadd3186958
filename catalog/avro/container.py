"""Avro object container files read, into columns or records: what is not wanted is stepped over.

A manifest spends most of its bytes on statistics of columns that planning never looks at. The
schema in the file's header is compiled once into a row of steps, `step(block, at) -> at`; a wanted
leaf appends to its column, everything else moves the offset only. In columns, fields are known by
their Iceberg `field-id`, never by name; in records, which Hudi has, by their names. Input is
untrusted: whatever does not decode within the bytes that are there raises `CorruptTableError`.

Specification: https://avro.apache.org/docs/1.12.0/specification/
"""

from __future__ import annotations

import bz2
import json
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from catalog.avro.pick import picker
from catalog.avro.read import (
    Read,
    Schema,
    read_bytes,
    read_long,
    read_map,
    read_string,
    read_unsigned,
    reader,
)
from catalog.avro.records import record_reader
from catalog.avro.schema import spelled_out
from catalog.avro.skip import Step, skipper
from catalog.errors import CorruptTableError

MAGIC = b"Obj\x01"
SYNC_BYTES = 16
# Writers close a block after some 64 KB; a block that inflates beyond this is an attack.
_BLOCK_BYTES_MAX = 1 << 28
_NOTHING: Mapping[int, Sequence[int]] = {}


@dataclass(frozen=True, slots=True)
class AvroFile:
    """An object container file whose header has been read.

    Attributes:
        name: what it is called in errors.
        schema: the schema that it was written with.
        data: the whole file.
        codec: how its blocks are compressed.
        body: where its blocks begin.
    """

    name: str
    schema: Schema
    data: bytes
    codec: str
    body: int

    @classmethod
    def parse(cls, name: str, data: bytes) -> AvroFile:
        """Read the header.

        Raises:
            CorruptTableError: it is not an Avro file.
        """
        if not data.startswith(MAGIC):
            raise CorruptTableError(f"{name} is not an Avro file")
        with _Decoding(name):
            header, at = read_map(read_string, read_bytes)(data, len(MAGIC))
            schema = spelled_out(json.loads(header["avro.schema"]))
            codec = header.get("avro.codec", b"null").decode()
            return cls(name, schema, data, codec, at + SYNC_BYTES)

    def columns(
        self,
        wanted: Collection[int],
        *,
        raw: int = -1,
        picked: Mapping[int, Sequence[int]] = _NOTHING,
    ) -> dict[int, list[Any]]:
        """Decode the wanted leaf fields of every record, by field id; absent ones have no entry.

        Args:
            wanted: ids of fields, also of records inside records.
            raw: id of a field to be returned as its encoded bytes, for `decode_record`.
            picked: by the id of a map, the keys whose values are wanted: a tuple of them.

        Raises:
            CorruptTableError: the file does not decode.
        """
        found: dict[int, list[Any]] = {}
        with _Decoding(self.name):
            readers: dict[int, Callable[[Schema], Read]] = dict.fromkeys(wanted, reader)
            readers |= {one: partial(picker, keys=keys) for one, keys in picked.items()}
            steps = tuple(_record_steps(self.schema, readers, raw, found))
            for count, block in self._blocks():
                at = 0
                for _ in range(count):
                    for step in steps:
                        at = step(block, at)
                if at != len(block):
                    raise ValueError("a block does not end with its last record")
        return found

    def encoded(self, fields: Sequence[Schema]) -> Iterator[tuple[bytes, ...]]:
        """Yield every record as the bytes of its fields.

        Args:
            fields: the leaves of the schema in the order of the file, records spelled out or not.

        Raises:
            CorruptTableError: the file does not decode.
        """
        steps = tuple(skipper(field["type"]) for field in fields)
        with _Decoding(self.name):
            for count, block in self._blocks():
                at = 0
                for _ in range(count):
                    found = []
                    for step in steps:
                        end = step(block, at)
                        found.append(block[at:end])
                        at = end
                    yield tuple(found)
                if at != len(block):
                    raise ValueError("a block does not end with its last record")

    def records(self, *, unwanted: frozenset[str] = frozenset()) -> Iterator[dict[str, Any]]:
        """Yield every record by the names of its fields.

        Args:
            unwanted: names of fields, at any depth, that are stepped over: None stands for them.

        Raises:
            CorruptTableError: the file does not decode.
        """
        with _Decoding(self.name):
            read = record_reader(self.schema, unwanted=unwanted)
            for count, block in self._blocks():
                at = 0
                for _ in range(count):
                    record, at = read(block, at)
                    yield record
                if at != len(block):
                    raise ValueError("a block does not end with its last record")

    def the_record(self, *, unwanted: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return the only record, as `records` does.

        Raises:
            CorruptTableError: the file does not decode, or holds none or several.
        """
        found = list(self.records(unwanted=unwanted))
        if len(found) != 1:
            raise CorruptTableError(f"{self.name} has {len(found)} records, one is expected")
        return found[0]

    def record_type(self, field_id: int) -> Schema:
        """Return the schema of the record field with this id.

        Raises:
            CorruptTableError: there is none.
        """
        found = _find_field(self.schema, field_id)
        if found is None:
            raise CorruptTableError(f"{self.name} has no field {field_id}")
        return found

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        at, data = self.body, self.data
        sync = data[at - SYNC_BYTES : at]
        while at < len(data):
            count, at = read_long(data, at)
            packed, at = read_bytes(data, at)
            if count < 0 or data[at : at + SYNC_BYTES] != sync:
                raise ValueError("a block does not end with the file's marker")
            at += SYNC_BYTES
            block = _inflate(self.codec, packed)
            if count > len(block):
                raise ValueError("a block is shorter than its records")
            yield count, block


def decode_record(name: str, schema: Schema, encoded: bytes) -> dict[int, Any]:
    """Decode one record, by field id, from the bytes that `columns` returned as raw.

    Raises:
        CorruptTableError: the bytes do not decode.
    """
    values: dict[int, Any] = {}
    at = 0
    with _Decoding(name):
        for field in schema["fields"]:
            values[field["field-id"]], at = reader(field["type"])(encoded, at)
    return values


class _Decoding:
    """Turns the faults of decoding a file into the one error that they mean."""

    _FAULTS = (
        AttributeError,
        EOFError,
        LookupError,
        OSError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
        struct.error,
        zlib.error,
    )

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, fault: Any, trace: Any) -> None:
        if isinstance(fault, self._FAULTS):
            raise CorruptTableError(f"{self._name} does not decode: {fault}") from fault


def _inflate(codec: str, packed: bytes) -> bytes:
    if codec == "null":
        return packed
    if codec == "deflate":
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        block = inflater.decompress(packed, _BLOCK_BYTES_MAX)
        if not inflater.eof:
            raise ValueError("a block is cut short or too large")
        return block
    if codec == "bzip2":
        return bz2.BZ2Decompressor().decompress(packed, _BLOCK_BYTES_MAX)
    import pyarrow as pa  # lazy: the common codecs need none of it

    if codec == "snappy":  # the last four bytes are a checksum
        size, _ = read_unsigned(packed, 0)
        if size > _BLOCK_BYTES_MAX:
            raise ValueError("a block is too large")
        return bytes(pa.Codec("snappy").decompress(packed[:-4], size, asbytes=True))
    if codec == "zstandard":
        block = pa.CompressedInputStream(pa.BufferReader(packed), "zstd").read(_BLOCK_BYTES_MAX + 1)
        if len(block) > _BLOCK_BYTES_MAX:
            raise ValueError("a block is too large")
        return bytes(block)
    raise ValueError(f"its codec {codec!r} is not known")


def _record_steps(
    record: Schema,
    readers: Mapping[int, Callable[[Schema], Read]],
    raw: int,
    found: dict[int, list[Any]],
) -> Iterator[Step]:
    """Yield one step per field, in the order they are written; nested records are inlined."""
    for field in record["fields"]:
        field_id, kind = field["field-id"], field["type"]
        if field_id == raw:
            yield _keep_raw(skipper(kind), found.setdefault(field_id, []).append)
        elif field_id in readers:
            yield _keep(readers[field_id](kind), found.setdefault(field_id, []).append)
        elif isinstance(kind, dict) and kind["type"] == "record":
            yield from _record_steps(kind, readers, raw, found)
        else:
            yield skipper(kind)


def _find_field(record: Schema, field_id: int) -> Schema | None:
    for field in record["fields"]:
        kind = field["type"]
        if field["field-id"] == field_id:
            return kind
        if isinstance(kind, dict) and kind["type"] == "record":
            found = _find_field(kind, field_id)
            if found is not None:
                return found
    return None


def _keep(read: Read, append: Callable[[Any], None]) -> Step:
    def step(block: bytes, at: int) -> int:
        value, at = read(block, at)
        append(value)
        return at

    return step


def _keep_raw(skip: Step, append: Callable[[Any], None]) -> Step:
    def step(block: bytes, at: int) -> int:
        end = skip(block, at)
        append(block[at:end])
        return end

    return step
