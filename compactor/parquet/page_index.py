"""Page indexes on their way to another file: found by position, moved by re-encoding offsets.

A column index holds no offsets and is copied. An offset index holds the position of every page,
so it is re-encoded, and may change its length.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from compactor.parquet.thrift import (
    I64,
    LIST,
    STRUCT,
    corrupt,
    read_list,
    read_signed,
    signed_bytes,
    skip_struct,
)

# Headers of a first field: the page locations of an index, the offset of a location.
_PAGE_LOCATIONS = 1 << 4 | LIST
_OFFSET = 1 << 4 | I64


@dataclass(frozen=True, slots=True)
class Stretches:
    """Parts of one file, by position.

    Attributes:
        offsets: where each part begins in the file, ascending.
        parts: their bytes.
    """

    offsets: tuple[int, ...] = ()
    parts: tuple[bytes, ...] = field(default=(), repr=False)

    def get(self, offset: int, length: int) -> bytes:
        """Return bytes of the file that lie within one part."""
        index = bisect_right(self.offsets, offset) - 1
        at = offset - self.offsets[index]
        return self.parts[index][at : at + length]


def shifted_offset_index(data: bytes, shift: int, *, start: int, end: int) -> bytes:
    """Return an offset index whose pages have moved by `shift` bytes.

    Args:
        data: the serialised index.
        shift: new position less the old one.
        start: where the column chunk began.
        end: where it ended: every page must begin between the two.

    Raises:
        CorruptTableError: it is no offset index, or of another column chunk.
        IndexError: it ends too early.
    """
    if data[0] != _PAGE_LOCATIONS:
        corrupt("an offset index does not begin with its page locations")
    count, kind, at = read_list(data, 1)
    if count and kind != STRUCT:
        corrupt("page locations are no structures")
    out = []
    copied = 0
    for _ in range(count):
        if data[at] != _OFFSET:
            corrupt("a page location does not begin with its offset")
        offset, behind = read_signed(data, at + 1)
        if not start <= offset < end:
            corrupt("an offset index points outside of its column chunk")
        out.append(data[copied : at + 1])
        out.append(signed_bytes(offset + shift))
        copied = behind
        # What follows the offset is a struct without its first field.
        at = skip_struct(data, behind)
    if skip_struct(data, at) != len(data):
        corrupt("an offset index has another length than the footer says")
    out.append(data[copied:])
    return b"".join(out)
