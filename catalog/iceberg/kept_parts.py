"""A file of what planning needs of some manifests: one record batch for each, behind a checksum.

The file is mapped, not read: what nobody looks at takes no memory. Its first bytes are the checksum
of all others, then Arrow's stream; the schema names the manifests in the order of the batches.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

SUFFIX, DRAFT_SUFFIX = ".arrows", ".tmp"
# Keeps what follows where Arrow wants it in memory.
_HEADER_BYTES = 64
_BLOCK_BYTES = 1 << 20
_NAMES = b"manifests"


def write_parts(
    directory: Path, names: list[str], parts: Iterable[pa.Table], schema: pa.Schema
) -> Path:
    """Write a file of its own, each part as it comes.

    Raises:
        OSError: the disk is full, or not for us.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft, path = (directory / f"{uuid4().hex}{suffix}" for suffix in (DRAFT_SUFFIX, SUFFIX))
    described = schema.with_metadata({_NAMES: json.dumps(names).encode()})
    try:
        with draft.open("wb") as file:
            file.write(bytes(_HEADER_BYTES))
            with pa.ipc.new_stream(file, described) as writer:
                for part in parts:
                    writer.write_batch(_batch(part, schema))
        checksum = _checksum(draft)
        with draft.open("r+b") as file:
            file.write(checksum)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def names_in(path: Path) -> list[str]:
    """Return the manifests that a file holds; none when it cannot be read."""
    with suppress(OSError, ValueError, pa.ArrowException), pa.memory_map(str(path)) as source:
        source.seek(_HEADER_BYTES)
        return _names(pa.ipc.read_schema(source))
    return []


def read_parts(path: Path, wanted: Collection[str], schema: pa.Schema) -> dict[str, pa.Table]:
    """Return what a file holds of some manifests, by their names; nothing when it is damaged."""
    with suppress(OSError, ValueError, pa.ArrowException), path.open("rb") as file:
        if file.read(_HEADER_BYTES)[:4] != _checksum(path):
            return {}
        with pa.memory_map(str(path)) as source:
            body = source.read_buffer().slice(_HEADER_BYTES)
        reader = pa.ipc.open_stream(body)
        if not reader.schema.equals(schema):
            return {}
        # Of what is mapped: the file itself may be gone by now.
        batches = zip(_names(reader.schema), reader, strict=True)
        return {
            name: pa.Table.from_batches([one], schema) for name, one in batches if name in wanted
        }
    return {}


def _names(schema: pa.Schema) -> list[str]:
    names = json.loads((schema.metadata or {}).get(_NAMES, b"[]"))
    return list(map(str, names)) if isinstance(names, list) else []


def _batch(part: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    whole = part.unify_dictionaries().combine_chunks().to_batches()
    return (
        whole[0]
        if whole
        else pa.RecordBatch.from_arrays(
            [pa.array([], field.type) for field in schema], schema=schema
        )
    )


def _checksum(path: Path) -> bytes:
    """Return the checksum of what follows the header; by blocks, which stay out of memory."""
    found = 0
    for block in _blocks(path):
        found = zlib.crc32(block, found)
    return found.to_bytes(4, "little")


def _blocks(path: Path) -> Iterator[memoryview]:
    block = memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        file.seek(_HEADER_BYTES)
        while count := file.readinto(block):
            yield block[:count]
