"""Bloom filters of column chunks: which of many values a chunk cannot hold.  Pure.

The filter is the split-block one over XXH64 of the plain encoding of a value. Specifications:
https://parquet.apache.org/docs/file-format/bloomfilter/ and
https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from compactor.parquet.thrift import STRUCT, Field, decoding, fields, read_signed

Hashes = npt.NDArray[np.uint64]
_Rows = npt.NDArray[np.int64]

# What is longer is not hashed here: the steps are taken for all values of a length at once.
VALUE_BYTES_MAX = 1024
_BYTES, _ALGORITHM, _HASH, _COMPRESSION = range(1, 5)
_BLOCK_BYTES = 32
# Values whose bits are set at a time.
_BUILT_MAX = 1 << 18
_SALTS = np.array(
    [
        0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D,
        0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31,
    ],
    np.uint32,
)  # fmt: skip
_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_STRIPE_BYTES = 32


class SplitBlocks:
    """The bits of a filter: a value sets one in each of the eight words of its block."""

    def __init__(self, bits: bytes | npt.NDArray[np.uint32]) -> None:
        """Take bits as they are stored, whole blocks of them."""
        self._blocks = np.frombuffer(bits, "<u4").reshape(-1, 8)

    @staticmethod
    def of(hashes: Hashes, *, bits_per_value: int) -> SplitBlocks:
        """Return the filter of some values, given by their hashes."""
        count = max(1, -(-len(hashes) * bits_per_value // (8 * _BLOCK_BYTES)))
        blocks = np.zeros((count, 8), np.uint32)
        for start in range(0, len(hashes), _BUILT_MAX):
            some = hashes[start : start + _BUILT_MAX]
            places = _places(some, count)
            order = np.argsort(places, kind="stable")
            filled, first = np.unique(places[order], return_index=True)
            blocks[filled] |= np.bitwise_or.reduceat(_bits(some[order]), first, axis=0)
        return SplitBlocks(blocks)

    @property
    def data(self) -> bytes:
        """The bits as they are stored."""
        return self._blocks.tobytes()

    def may_hold(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Tell which values may be among those that the filter was made of."""
        bits = _bits(hashes)
        places = _places(hashes, len(self._blocks))
        found: npt.NDArray[np.bool_] = ((self._blocks[places] & bits) == bits).all(axis=1)
        return found


def _places(hashes: Hashes, count: int) -> _Rows:
    """Return the block of each value."""
    found = ((hashes >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)
    return found.astype(np.int64)


def _bits(hashes: Hashes) -> npt.NDArray[np.uint32]:
    """Return the bits that each value sets, a word of its block next to the other."""
    low = hashes.astype(np.uint32)
    found: npt.NDArray[np.uint32] = np.uint32(1) << ((low[:, None] * _SALTS) >> np.uint32(27))
    return found


class BloomFilter:
    """The filter of one column chunk."""

    def __init__(self, data: bytes, *, name: str) -> None:
        """Read a header and the bits that follow it.

        Args:
            data: bytes from the filter's offset on, at least as many as it has.
            name: the file, for messages.

        Raises:
            CorruptTableError: this is no header.
        """
        with decoding(name):
            found = {one.number: one for one in fields(data, 0)}
            end = max((one.end for one in found.values()), default=0) + 1
            count = read_signed(data, found[_BYTES].start)[0] if _BYTES in found else 0
        self.is_known = (
            count > 0
            and count % _BLOCK_BYTES == 0
            and end + count <= len(data)
            and all(_is_first(data, found.get(one)) for one in (_ALGORITHM, _HASH, _COMPRESSION))
        )
        bits = data[end : end + count] if self.is_known else b""
        self._blocks = SplitBlocks(bits)

    def may_hold(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Tell which values may be in the chunk; any may where the filter is of another kind."""
        if not self.is_known:
            return np.ones(len(hashes), np.bool_)
        return self._blocks.may_hold(hashes)


def _is_first(data: bytes, union: Field | None) -> bool:
    """Tell whether a union is the first of its kinds: the only one that there is so far."""
    if union is None or union.kind != STRUCT:
        return False
    with decoding("a Bloom filter"):
        return [one.number for one in fields(data, union.start)] == [1]


def hash_fixed(values: npt.NDArray[np.uint8]) -> Hashes:
    """Return XXH64 of values of one length, a row of bytes each."""
    count, width = values.shape
    data = np.ascontiguousarray(values).reshape(-1)
    return hash_spans(data, np.arange(count + 1, dtype=np.int64) * width)


def hash_spans(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Hashes:
    """Return XXH64 of stretches of bytes, each of which ends where the next begins."""
    lengths = np.diff(offsets)
    # A word begins at every byte.
    padded = np.concatenate([data, np.zeros(8, np.uint8)])
    words = np.ndarray(len(data) + 1, "<u8", padded, strides=(1,))
    hashes = np.full(len(lengths), _P5, np.uint64)
    at = offsets[:-1].copy()
    rows = np.flatnonzero(lengths >= _STRIPE_BYTES)
    if len(rows):
        hashes[rows], at[rows] = _stripes(words, at[rows], lengths[rows])
    hashes += lengths.astype(np.uint64)
    return _finished(_rest(words, at, offsets[1:], hashes))


def _stripes(words: Hashes, at: _Rows, lengths: _Rows) -> tuple[Hashes, _Rows]:
    """Return the hashes of all whole stripes, and where these end."""
    at, ends = at.copy(), at + lengths - lengths % _STRIPE_BYTES
    zero = np.uint64(0)
    seeds = np.array([zero, _P2, zero, zero])
    seeds[0], seeds[3] = _sum(_P1, _P2), ~_P1 + np.uint64(1)
    lanes = np.tile(seeds[:, None], (1, len(at)))
    while len(rows := np.flatnonzero(at < ends)):
        for lane in range(4):
            lanes[lane, rows] = _round(lanes[lane, rows], words[at[rows] + 8 * lane])
        at[rows] += _STRIPE_BYTES
    hashes = sum(
        (_rotated(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)),
        start=np.zeros(len(at), np.uint64),
    )
    for lane in lanes:
        hashes = (hashes ^ _round(np.zeros(len(at), np.uint64), lane)) * _P1 + _P4
    return hashes, at


def _rest(words: Hashes, at: _Rows, ends: _Rows, hashes: Hashes) -> Hashes:
    """Take in what is left of each value: words, half a word, bytes."""
    for rows in _steps(at, ends, 8):
        lane = _round(np.zeros(len(rows), np.uint64), words[at[rows]])
        hashes[rows] = _rotated(hashes[rows] ^ lane, 27) * _P1 + _P4
    for rows in _steps(at, ends, 4):
        half = words[at[rows]] & np.uint64(0xFFFFFFFF)
        hashes[rows] = _rotated(hashes[rows] ^ (half * _P1), 23) * _P2 + _P3
    for rows in _steps(at, ends, 1):
        byte = words[at[rows]] & np.uint64(0xFF)
        hashes[rows] = _rotated(hashes[rows] ^ (byte * _P5), 11) * _P1
    return hashes


def _steps(at: _Rows, ends: _Rows, width: int) -> Iterator[_Rows]:
    """Yield the rows that have so many bytes left, and step over these."""
    while len(rows := np.flatnonzero(ends - at >= width)):
        yield rows
        at[rows] += width


def _sum(left: np.uint64, right: np.uint64) -> np.uint64:
    return np.uint64((int(left) + int(right)) & 0xFFFFFFFFFFFFFFFF)


def _round(lane: Hashes, word: Hashes) -> Hashes:
    return _rotated(lane + word * _P2, 31) * _P1


def _rotated(hashes: Hashes, bits: int) -> Hashes:
    return (hashes << np.uint64(bits)) | (hashes >> np.uint64(64 - bits))


def _finished(hashes: Hashes) -> Hashes:
    hashes = (hashes ^ (hashes >> np.uint64(33))) * _P2
    hashes = (hashes ^ (hashes >> np.uint64(29))) * _P3
    return hashes ^ (hashes >> np.uint64(32))
