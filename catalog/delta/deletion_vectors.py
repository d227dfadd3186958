"""Deletion vectors: the positions of rows that readers skip, and the three places they are kept in.

A vector stands inline in the log (Z85 text), or framed in a `.bin` file of its own or shared with
others; such a file is named by a UUID below the table, or by an absolute URI (Delta protocol,
"Deletion Vectors").

A vector is part of the identity of a file: the same path with another vector is another file.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

import numpy as np

from catalog.deletion_vectors import FRAME_BYTES, Positions, decode, encode, framed, unframed
from catalog.delta import z85
from catalog.errors import CorruptTableError
from catalog.location import Confinement, Location
from catalog.storage import Storage
from catalog.storage.values import ByteRange

StorageType = Literal["i", "u", "p"]

INLINE: StorageType = "i"
RELATIVE: StorageType = "u"
ABSOLUTE: StorageType = "p"

_FILE_VERSION = b"\x01"
_UUID_CHARACTERS = 20


@dataclass(frozen=True, slots=True)
class DeletionVector:
    """Where the deleted rows of one file are kept, as an `add` or a `remove` says it.

    Attributes:
        storage_type: inline, relative to the table, or absolute.
        path_or_inline: the Z85 text of the vector; or an optional prefix and the Z85 text of a
            UUID; or a URI.
        size_bytes: length of the serialized vector, its framing not included.
        cardinality: number of rows that it deletes.
        offset: where its frame begins in its file; None for the beginning, and inline.
    """

    storage_type: str
    path_or_inline: str
    size_bytes: int
    cardinality: int
    offset: int | None = None

    @property
    def unique_id(self) -> str:
        """What tells it from every other vector of the same file."""
        at = "" if self.offset is None else f"@{self.offset}"
        return f"{self.storage_type}{self.path_or_inline}{at}"

    @staticmethod
    def of_id(unique_id: str, *, size_bytes: int = 0, cardinality: int = 0) -> DeletionVector:
        """Return the vector that a `unique_id` tells of; how large it is must be told besides."""
        storage_type, place = unique_id[:1], unique_id[1:]
        offset = None
        if storage_type != INLINE:
            before, at, number = place.rpartition("@")
            place, offset = (before, int(number)) if at else (place, None)
        return DeletionVector(storage_type, place, size_bytes, cardinality, offset)

    def location(self, table: Location, confinement: Confinement) -> Location:
        """Return the file that a vector which is not inline is kept in.

        Raises:
            CorruptTableError: it is of no known kind.
            LocationError: it lies outside of the table's prefixes.
        """
        if self.storage_type == RELATIVE:
            return confinement.check(table.child(self._relative_path()))
        if self.storage_type == ABSOLUTE:
            return confinement.parse(unquote(self.path_or_inline))
        raise CorruptTableError(f"a deletion vector is kept in no file: {self.unique_id[:80]!r}")

    def _relative_path(self) -> str:
        prefix = self.path_or_inline[:-_UUID_CHARACTERS]
        name = z85.decode(self.path_or_inline[-_UUID_CHARACTERS:])
        if len(name) != 16:
            raise CorruptTableError(f"a deletion vector names no UUID: {self.path_or_inline!r}")
        return f"{prefix}/{file_name(name)}" if prefix else file_name(name)


def file_name(identity: bytes) -> str:
    """Return the name of the file of vectors with a UUID, given as its 16 bytes."""
    return f"deletion_vector_{uuid.UUID(bytes=identity)}.bin"


def read_vectors(
    storage: Storage,
    vectors: Iterable[DeletionVector],
    *,
    table: Location,
    confinement: Confinement,
) -> Mapping[DeletionVector, Positions]:
    """Read vectors, those of one file together; positions are ascending.

    Raises:
        CorruptTableError: one is damaged, or deletes another number of rows than announced.
        ObjectNotFoundError: the file of one does not exist.
        LocationError: one lies outside of the table's prefixes.
    """
    found: dict[DeletionVector, Positions] = {}
    by_file: dict[Location, list[DeletionVector]] = {}
    for vector in dict.fromkeys(vectors):
        if vector.storage_type == INLINE:
            found[vector] = _announced(vector, _inline_payload(vector))
        else:
            by_file.setdefault(vector.location(table, confinement), []).append(vector)
    for location, inside in by_file.items():
        frames = storage.read_ranges(location, [_frame_range(vector) for vector in inside])
        for vector, frame in zip(inside, frames, strict=True):
            found[vector] = _announced(vector, unframed(frame, str(location)))
    return found


def inline_vector(positions: Positions) -> DeletionVector:
    """Return a vector that stands in the log itself: for few positions."""
    payload = encode(positions)
    padded = payload + bytes(-len(payload) % 4)
    return DeletionVector(INLINE, z85.encode(padded), len(payload), len(np.unique(positions)))


def file_of_vectors(
    identity: bytes, many: Sequence[Positions]
) -> tuple[bytes, tuple[DeletionVector, ...]]:
    """Serialize vectors into one file right below the table.

    Args:
        identity: the 16 bytes of the UUID that names the file, see `file_name`.
        many: the positions of each.

    Returns:
        The content of the file, and what the log says of each vector.
    """
    content, vectors = bytearray(_FILE_VERSION), []
    for positions in many:
        payload = encode(positions)
        vectors.append(
            DeletionVector(
                RELATIVE,
                z85.encode(identity),
                len(payload),
                cardinality=len(np.unique(positions)),
                offset=len(content),
            )
        )
        content += framed(payload)
    return bytes(content), tuple(vectors)


def _announced(vector: DeletionVector, payload: bytes) -> Positions:
    if len(payload) != vector.size_bytes:
        raise CorruptTableError(
            f"a deletion vector has {len(payload)} bytes, {vector.size_bytes} were announced"
        )
    return decode(payload, cardinality=vector.cardinality)


def _inline_payload(vector: DeletionVector) -> bytes:
    return z85.decode(vector.path_or_inline)[: vector.size_bytes]


def _frame_range(vector: DeletionVector) -> ByteRange:
    offset, size_bytes = vector.offset or 0, vector.size_bytes
    if offset < 0 or size_bytes < 0:
        raise CorruptTableError(f"a deletion vector cannot lie at {offset}, {size_bytes} bytes")
    return ByteRange(offset, size_bytes + FRAME_BYTES)
