"""Deletion vectors in bytes, the same for Delta Lake and Iceberg: positions of rows to be skipped.

A vector is a 64-bit Roaring bitmap behind a magic number. In files it is framed by its length and
a CRC-32 of it.

Specification: https://iceberg.apache.org/puffin-spec/#deletion-vector-v1-blob-type
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap64

from catalog.errors import CorruptTableError

Positions = npt.NDArray[np.int64]

_MAGIC = struct.pack("<I", 1681511377)
_LENGTH, _CHECKSUM = struct.Struct(">i"), struct.Struct(">I")
_POSITION_MAX = (1 << 63) - 1
# What a frame adds to a vector.
FRAME_BYTES = _LENGTH.size + _CHECKSUM.size


def encode(positions: Positions) -> bytes:
    """Serialize positions, given in any order and with repetitions."""
    bitmap = BitMap64(positions.astype(np.uint64))
    bitmap.run_optimize()
    return _MAGIC + bytes(bitmap.serialize())


def decode(payload: bytes, *, cardinality: int) -> Positions:
    """Return the positions of a serialized vector, ascending.

    Args:
        payload: magic number and bitmap.
        cardinality: how many there must be; checked before they are spread out in memory.

    Raises:
        CorruptTableError: the bytes are no vector, or one with another number of positions.
    """
    if payload[:4] != _MAGIC:
        raise CorruptTableError(
            f"a deletion vector begins with {payload[:4].hex()}, no known magic"
        )
    try:
        bitmap = BitMap64.deserialize(payload[4:])
    except (ValueError, IndexError) as error:
        raise CorruptTableError(f"a deletion vector cannot be read: {error}") from error
    if len(bitmap) != cardinality:
        raise CorruptTableError(
            f"a deletion vector has {len(bitmap)} positions, {cardinality} were announced"
        )
    positions = np.asarray(bitmap.to_array(), dtype=np.uint64)
    if len(positions) and (
        positions[-1] > _POSITION_MAX or np.any(positions[1:] <= positions[:-1])
    ):
        raise CorruptTableError("the positions of a deletion vector do not ascend")
    return positions.astype(np.int64)


def framed(payload: bytes) -> bytes:
    """Return a serialized vector as files have it."""
    return _LENGTH.pack(len(payload)) + payload + _CHECKSUM.pack(zlib.crc32(payload))


def unframed(frame: bytes, name: str) -> bytes:
    """Return the serialized vector in a frame.

    Args:
        frame: as files have it.
        name: what errors call the file.

    Raises:
        CorruptTableError: it has another length than it says, or is damaged.
    """
    payload = frame[_LENGTH.size : -_CHECKSUM.size]
    length = _LENGTH.unpack_from(frame)[0] if len(frame) >= FRAME_BYTES else -1
    if length != len(payload):
        raise CorruptTableError(
            f"a deletion vector in {name} has {length} bytes, {len(payload)} were announced"
        )
    (checksum,) = _CHECKSUM.unpack_from(frame, len(frame) - _CHECKSUM.size)
    if checksum != zlib.crc32(payload):
        raise CorruptTableError(f"a deletion vector in {name} is damaged: its checksum differs")
    return payload
