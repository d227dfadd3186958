"""Parts of a composed object: within the limits of S3, in order, and little of them uploaded."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.location import Location
from catalog.storage.parts import (
    COPIED_PART_BYTES,
    PART_BYTES_MAX,
    PART_BYTES_MIN,
    PARTS_MAX,
    UPLOADED_PART_BYTES,
    CopiedPart,
    NewPiece,
    Part,
    Piece,
    Source,
    StoredPiece,
    UploadedPart,
    plan_parts,
)

MIB = 1 << 20
REMOTE = Source(Location.parse("s3://bucket/a"), 1 << 50, "etag")
LOCAL = Source(Location.parse("/tmp/a"), 1 << 50, "")


def stored(length: int, source: Source = REMOTE) -> StoredPiece:
    return StoredPiece(source, 7, length)


def ranges(parts: list[Part]) -> list[Piece]:
    """Return the pieces of all parts, those that were cut put together again."""
    joined: list[Piece] = []
    for part in parts:
        for piece in [part.piece] if isinstance(part, CopiedPart) else part.pieces:
            last = joined[-1] if joined else None
            if isinstance(piece, NewPiece) and isinstance(last, NewPiece):
                joined[-1] = NewPiece(last.data + piece.data)
            elif (
                isinstance(piece, StoredPiece)
                and isinstance(last, StoredPiece)
                and last.source is piece.source
                and last.offset + last.length == piece.offset
            ):
                joined[-1] = StoredPiece(piece.source, last.offset, last.length + piece.length)
            else:
                joined.append(piece)
    return joined


LENGTHS = st.one_of(
    st.integers(1, 20 * MIB),
    st.sampled_from(
        [1, PART_BYTES_MIN - 1, PART_BYTES_MIN, PART_BYTES_MIN + 1, 2 * PART_BYTES_MIN - 1]
    ),
    st.sampled_from([COPIED_PART_BYTES, COPIED_PART_BYTES + 1, PART_BYTES_MAX + 1, 1 << 36]),
)


@st.composite
def some_pieces(draw: st.DrawFn) -> list[Piece]:
    pieces: list[Piece] = []
    for length in draw(st.lists(LENGTHS, min_size=1, max_size=12)):
        kind = draw(st.sampled_from(["remote", "local", "new"]))
        # Each range is of another place, so that no two can be taken for one.
        offset = len(pieces) << 45
        if kind == "new":
            pieces.append(NewPiece(bytes(min(length, MIB))))
        else:
            source, most = (REMOTE, 1 << 36) if kind == "remote" else (LOCAL, 64 * MIB)
            pieces.append(StoredPiece(source, offset, min(length, most)))
    return pieces


@given(some_pieces())
def test_parts_are_the_pieces_within_the_limits(pieces: list[Piece]) -> None:
    parts = plan_parts(pieces)
    assert all(part.length >= PART_BYTES_MIN for part in parts[:-1])
    assert all(0 < part.length <= PART_BYTES_MAX for part in parts)
    uploaded = [part for part in parts if isinstance(part, UploadedPart)]
    assert all(part.length < UPLOADED_PART_BYTES + PART_BYTES_MIN for part in uploaded)
    assert all(part.piece.source is REMOTE for part in parts if isinstance(part, CopiedPart))
    joined: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, NewPiece) and joined and isinstance(joined[-1], NewPiece):
            joined[-1] = NewPiece(joined[-1].data + piece.data)
        else:
            joined.append(piece)
    assert ranges(parts) == joined


@given(some_pieces())
def test_a_long_range_loses_less_than_a_part_at_its_ends(pieces: list[Piece]) -> None:
    parts = plan_parts(pieces)
    copied = sum(part.length for part in parts if isinstance(part, CopiedPart))
    long = [one.length for one in pieces if isinstance(one, StoredPiece) and one.is_copied]
    assert copied >= sum(length - PART_BYTES_MIN for length in long if length >= 2 * PART_BYTES_MIN)


@given(st.integers(PART_BYTES_MIN, 1 << 40))
@settings(deadline=None)
def test_a_single_range_is_copied_in_parts_of_like_size(length: int) -> None:
    parts = plan_parts([stored(length)])
    assert {type(part) for part in parts} == {CopiedPart}
    assert len(parts) <= PARTS_MAX
    assert max(part.length for part in parts) - min(part.length for part in parts) <= 1
    assert all(b.piece.offset == a.piece.offset + a.length for a, b in pairwise(parts))


def test_a_short_range_takes_of_its_neighbour_what_it_lacks() -> None:
    parts = plan_parts([stored(3 * MIB), stored(90 * MIB), stored(MIB), NewPiece(b"footer")])
    lengths = [(type(part), part.length) for part in parts]
    assert lengths == [
        (UploadedPart, 5 * MIB),
        (CopiedPart, 44 * MIB),
        (CopiedPart, 44 * MIB),
        (UploadedPart, MIB + 6),
    ]


def test_what_is_local_is_uploaded_whole() -> None:
    parts = plan_parts([stored(20 * MIB, LOCAL), stored(20 * MIB)])
    assert sum(part.length for part in parts if isinstance(part, UploadedPart)) == 21 * MIB


@pytest.mark.parametrize("pieces", [[], [NewPiece(b"")]])
def test_nothing_has_no_parts(pieces: list[Piece]) -> None:
    assert plan_parts(pieces) == []
