"""Puffin files: blobs beside a table's data, each with what is said of it.  Pure.

Specification: https://iceberg.apache.org/puffin-spec/
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catalog.errors import CorruptTableError
from catalog.storage import ByteRange

_MAGIC = b"PFA1"
# Length of the payload, flags, magic.
_TAIL = struct.Struct("<i4s4s")
_PLAIN = b"\x00\x00\x00\x00"


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob to be written.

    Attributes:
        kind: its type, as the format calls it.
        fields: ids of the columns that it is about.
        properties: what is said of it.
        data: its bytes.
    """

    kind: str
    fields: tuple[int, ...]
    properties: Mapping[str, str]
    data: bytes


@dataclass(frozen=True, slots=True)
class PlacedBlob:
    """A blob of a file; the fields are those of `Blob`, with its place instead of its bytes."""

    kind: str
    fields: tuple[int, ...]
    properties: Mapping[str, str]
    place: ByteRange


@dataclass(frozen=True, slots=True)
class PuffinFile:
    """A file to be written.

    Attributes:
        content: its bytes.
        footer_bytes: length of its footer, both magic numbers included.
    """

    content: bytes
    footer_bytes: int


def encode(blobs: Sequence[Blob], *, snapshot_id: int, sequence_number: int) -> PuffinFile:
    """Put blobs into a file; they are about one snapshot, given by its two numbers."""
    parts, described, at = [_MAGIC], [], len(_MAGIC)
    for blob in blobs:
        described.append(
            {
                "type": blob.kind,
                "fields": list(blob.fields),
                "snapshot-id": snapshot_id,
                "sequence-number": sequence_number,
                "offset": at,
                "length": len(blob.data),
                "properties": dict(blob.properties),
            }
        )
        parts.append(blob.data)
        at += len(blob.data)
    payload = json.dumps({"blobs": described}, separators=(",", ":")).encode()
    footer = _MAGIC + payload + _TAIL.pack(len(payload), _PLAIN, _MAGIC)
    return PuffinFile(b"".join([*parts, footer]), len(footer))


def footer_bytes(tail: bytes, *, name: str) -> int:
    """Return the length of the footer of the file that ends with some bytes.

    Raises:
        CorruptTableError: it is no Puffin file, or one of a kind that is not known.
    """
    if len(tail) < _TAIL.size:
        raise CorruptTableError(f"{name} is no Puffin file")
    length, flags, magic = _TAIL.unpack(tail[-_TAIL.size :])
    if magic != _MAGIC or flags != _PLAIN or length < 0:
        raise CorruptTableError(f"{name} is no Puffin file with a plain footer")
    return int(length) + len(_MAGIC) + _TAIL.size


def decode_footer(footer: bytes, *, name: str) -> list[PlacedBlob]:
    """Return what a footer says of the blobs.

    Raises:
        CorruptTableError: it cannot be read.
    """
    if not footer.startswith(_MAGIC):
        raise CorruptTableError(f"{name} has no footer where it should be")
    try:
        document = json.loads(footer[len(_MAGIC) : -_TAIL.size])
        return [_placed(one) for one in document["blobs"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise CorruptTableError(f"the footer of {name} is malformed: {fault!r}") from fault


def _placed(document: Mapping[str, Any]) -> PlacedBlob:
    place = ByteRange(int(document["offset"]), int(document["length"]))
    properties = {str(key): str(value) for key, value in (document.get("properties") or {}).items()}
    fields = tuple(int(one) for one in document["fields"])
    if "compression-codec" in document:
        raise ValueError("a blob is compressed")
    return PlacedBlob(str(document["type"]), fields, properties, place)
