"""The stamp of a clustered file as text for the key-value metadata of its footer."""

from __future__ import annotations

import base64
import zlib

import msgspec

from compactor.clustering import Stamp

# A frame of eight columns takes less than a megabyte: more was not written by us.
_DECODED_BYTES_MAX = 4 << 20


def encode_stamp(stamp: Stamp) -> str:
    """Return the text of a stamp."""
    return base64.b64encode(zlib.compress(msgspec.msgpack.encode(stamp))).decode()


def decode_stamp(text: bytes) -> Stamp | None:
    """Return the stamp of a text; None when it is none that this version understands."""
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), _DECODED_BYTES_MAX)
        return msgspec.msgpack.decode(data, type=Stamp)
    except (ValueError, zlib.error, msgspec.DecodeError):
        return None
