"""Rows of the data blocks of logs, as batches in the columns that a table has by now."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.avro_columns import Records, promoted
from catalog.hudi.log_blocks import BlockKind, HeaderKey, LogBlock
from catalog.hudi.schema import parse_avro

# Version of the content of a block, and the number of its records.
_FRONT = struct.Struct(">ii")
_CONTENT_VERSION = 3
_LENGTH = struct.Struct(">i")
# Rows decoded at a time: few enough for the caches of a processor.
_BATCH_ROWS = 1 << 14
# Bytes of a block held at a time, unless a record is longer.
_WINDOW_BYTES = 8 << 20
# What damaged bytes, and schemas that make no sense, have decoders raise; Arrow's says `OSError`.
_FAULTS = (
    LookupError,
    OSError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    pa.ArrowException,
)

_Numbers = npt.NDArray[np.int64]


def avro_content(bodies: Iterable[bytes]) -> bytes:
    """Return the content of an Avro data block with these encoded records."""
    parts = list(bodies)
    framed = (_LENGTH.pack(len(body)) + body for body in parts)
    return _FRONT.pack(_CONTENT_VERSION, len(parts)) + b"".join(framed)


def block_columns(block: LogBlock) -> frozenset[str]:
    """Return the names of the columns that a block has values for.

    Raises:
        CorruptTableError: it does not say.
    """
    return frozenset(field["name"] for field in _schema(block)["fields"])


def record_frames(file: pa.NativeFile, block: LogBlock) -> Iterator[bytes]:
    """Yield the encoded records of an Avro data block.

    Raises:
        ValueError: the block does not decode.
    """
    for window, starts, ends in _windows(file, block):
        data = window.to_pybytes()
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            yield data[start:end]


def read_rows(file: pa.NativeFile, block: LogBlock, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a data block.

    Args:
        file: that the block was found in.
        block: with rows as Avro or Parquet.
        schema: the columns wanted, in their types; those that the block lacks are null.

    Raises:
        CorruptTableError: the block does not decode.
        UnsupportedTableError: it holds rows in another form, or a column has changed its type in
            a way that is not known.
    """
    if block.kind is BlockKind.AVRO_DATA:
        batches = _avro_rows(file, block, schema)
    elif block.kind is BlockKind.PARQUET_DATA:
        batches = _parquet_rows(file, block, schema)
    else:
        name = block.kind.name.replace("_", " ").lower()
        raise UnsupportedTableError(f"a log file has a block of {name}")
    try:
        yield from batches
    except _FAULTS as fault:
        raise CorruptTableError(
            f"a log block of instant {block.instant_time} does not decode: {fault}"
        ) from fault


def _schema(block: LogBlock) -> Any:
    text = block.header.get(HeaderKey.SCHEMA)
    if text is None:
        raise CorruptTableError("a data block of a log has no schema")
    return parse_avro(text)


def _avro_rows(file: pa.NativeFile, block: LogBlock, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    avro = _schema(block)
    for window, starts, ends in _windows(file, block):
        for first in range(0, len(starts), _BATCH_ROWS):
            rows = slice(first, first + _BATCH_ROWS)
            records = Records(window, starts[rows].copy(), ends[rows])
            found = {}
            for field in avro["fields"]:
                if field["name"] in schema.names:
                    found[field["name"]] = records.column(field["type"])
                else:
                    records.skip(field["type"])
            records.finish()
            yield _projected(found, schema, len(starts[rows]), is_partial=block.is_partial)


def _windows(
    file: pa.NativeFile, block: LogBlock
) -> Iterator[tuple[pa.Buffer, _Numbers, _Numbers]]:
    """Yield the encoded records piece by piece: bytes, and where in them records begin and end."""
    file.seek(block.content_offset)
    version, left = _FRONT.unpack(file.read(_FRONT.size))
    if not 1 <= version <= _CONTENT_VERSION:
        raise UnsupportedTableError(f"a data block of a log has version {version}")
    offset, end = block.content_offset + _FRONT.size, block.content_offset + block.content_bytes
    window_bytes = _WINDOW_BYTES
    while left:
        file.seek(offset)
        window = file.read_buffer(min(window_bytes, end - offset))
        starts, ends = _frames(memoryview(window), left)
        if starts.size:
            yield window, starts, ends
            left -= starts.size
            offset += int(ends[-1])
        elif offset + window.size >= end:
            raise ValueError("it ends within a record")
        else:
            window_bytes *= 2
    if offset != end:
        raise ValueError("it does not end with its last record")


def _frames(data: memoryview, count: int) -> tuple[_Numbers, _Numbers]:
    """Return where the records begin and end that are whole, at most `count`."""
    starts, at, size, unpack = [], 0, len(data), _LENGTH.unpack_from
    for _ in range(count):
        if at + 4 > size:
            break
        (length,) = unpack(data, at)
        if length < 0:
            raise ValueError("a record has a negative length")
        if at + 4 + length > size:
            break
        starts.append(at + 4)
        at += 4 + length
    found = np.array(starts, np.int64)
    # Each ends where the length of the next one stands.
    return found, np.append(found[1:] - 4, [at] * bool(starts))


def _parquet_rows(
    file: pa.NativeFile, block: LogBlock, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    rows = pq.ParquetFile(pa.BufferReader(block.read_content(file)))
    names = [name for name in rows.schema_arrow.names if name in schema.names]
    for batch in rows.iter_batches(_BATCH_ROWS, columns=names, use_threads=False):
        found = {name: batch.column(name) for name in names}
        yield _projected(found, schema, batch.num_rows, is_partial=block.is_partial)


def _projected(
    found: dict[str, pa.Array], schema: pa.Schema, count: int, *, is_partial: bool
) -> pa.RecordBatch:
    """Return rows with the columns of the table; what partial ones lack is filled in later."""
    missing = [one.name for one in schema if not one.nullable and one.name not in found]
    if missing and not is_partial:
        raise UnsupportedTableError(f"a log lacks the column {missing[0]}, which cannot be null")
    columns = [
        promoted(found[field.name], field.type, field.name)
        if field.name in found
        else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
