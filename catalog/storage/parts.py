"""An object composed of pieces of others and of new bytes: which parts it is uploaded in.

A store copies a part for us when it is a range of one object and long enough; everything else we
upload. What is too short is joined with its neighbours, and takes of a long one only what it lacks:

    3 MiB of a | 90 MiB of b | 1 MiB of c | new bytes
    -> upload 3 MiB of a and 2 of b | copy 44 MiB of b | copy 44 of b | upload the rest

So each end of a copied range costs less than `PART_BYTES_MIN` of upload. Pure; sending is up to
`composition`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from catalog.location import Location

# Limits of S3. The last part may be shorter than the least.
PART_BYTES_MIN = 5 << 20
PART_BYTES_MAX = 5 << 30
PARTS_MAX = 10_000
# A part is copied by one server at about 64 MiB/s: parts are what runs in parallel.
COPIED_PART_BYTES = 64 << 20
# What is uploaded is held in memory, part by part.
UPLOADED_PART_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """One version of an object that pieces are taken from.

    Attributes:
        location: where it is.
        size_bytes: its length.
        etag: of this version; any other is refused.
    """

    location: Location
    size_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """A range of an object.

    Attributes:
        source: the object.
        offset: where the range begins in it, in bytes.
        length: its length.
    """

    source: Source
    offset: int
    length: int

    @property
    def is_copied(self) -> bool:
        """Whether the store can copy it: one storage has one S3 endpoint for all buckets."""
        return self.source.location.scheme == "s3"

    def split(self, length: int) -> tuple[StoredPiece, StoredPiece]:
        """Return the first bytes and the others."""
        rest = replace(self, offset=self.offset + length, length=self.length - length)
        return replace(self, length=length), rest


@dataclass(frozen=True, slots=True)
class NewPiece:
    """Bytes that are in no object yet."""

    data: bytes

    @property
    def length(self) -> int:
        """Number of bytes."""
        return len(self.data)

    def split(self, length: int) -> tuple[NewPiece, NewPiece]:
        """Return the first bytes and the others."""
        return NewPiece(self.data[:length]), NewPiece(self.data[length:])


Piece = StoredPiece | NewPiece


@dataclass(frozen=True, slots=True)
class CopiedPart:
    """A part that the store copies."""

    piece: StoredPiece

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.piece.length


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """A part that passes through this process."""

    pieces: tuple[Piece, ...]

    @property
    def length(self) -> int:
        """Number of bytes."""
        return sum(piece.length for piece in self.pieces)


Part = CopiedPart | UploadedPart


def plan_parts(pieces: Sequence[Piece]) -> list[Part]:
    """Cut an object into parts, every one but the last of `PART_BYTES_MIN` at least.

    Parts of many short pieces may be more than `PARTS_MAX`: then the object cannot be composed.
    """
    size_bytes = sum(piece.length for piece in pieces)
    # Half of the parts are left to the ends of ranges.
    copied_bytes = max(COPIED_PART_BYTES, -(-size_bytes // (PARTS_MAX // 2)))
    copied_bytes = min(copied_bytes, PART_BYTES_MAX)
    parts: list[Part] = []
    waiting = _Waiting()
    for piece in pieces:
        lacking = waiting.lacking_bytes
        is_long = piece.length >= lacking + PART_BYTES_MIN
        if isinstance(piece, StoredPiece) and piece.is_copied and is_long:
            head, rest = piece.split(lacking)
            parts += waiting.with_last(head)
            parts += map(CopiedPart, _cut(rest, copied_bytes))
            waiting = _Waiting()
        else:
            parts += waiting.add(piece)
    return parts + waiting.end()


def _cut(piece: StoredPiece, most_bytes: int) -> Iterator[StoredPiece]:
    """Yield equal pieces near the size of a copied part: none is shorter than half of it."""
    count = -(-piece.length // most_bytes)
    for left in range(count, 0, -1):
        one, piece = piece.split(-(-piece.length // left))
        yield one


class _Waiting:
    """What is to be uploaded but is no whole part yet."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._bytes = 0

    @property
    def lacking_bytes(self) -> int:
        """How much it takes to make it a part; nothing is needed for nothing."""
        return max(0, PART_BYTES_MIN - self._bytes) if self._bytes else 0

    def add(self, piece: Piece) -> Iterator[UploadedPart]:
        """Append a piece and yield the parts that are complete by it."""
        while self._bytes + piece.length >= UPLOADED_PART_BYTES:
            head, piece = piece.split(UPLOADED_PART_BYTES - self._bytes)
            yield from self.with_last(head)
            self._pieces, self._bytes = [], 0
        self._append(piece)

    def with_last(self, piece: Piece) -> list[UploadedPart]:
        """Append a piece and return all of it."""
        self._append(piece)
        return self.end()

    def end(self) -> list[UploadedPart]:
        """Return all of it as one part; none when there is nothing."""
        return [UploadedPart(tuple(self._pieces))] if self._bytes else []

    def _append(self, piece: Piece) -> None:
        if piece.length:
            self._pieces.append(piece)
            self._bytes += piece.length
