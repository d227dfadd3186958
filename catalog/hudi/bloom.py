"""Bloom filters of record keys as Hudi keeps them in footers, byte for byte.  Pure.

A filter is rows of bits. Keys go to the last row until it has its share; a dynamic filter then
begins another, up to a bound, beyond which keys go to all rows in turn. A key is looked for in
every row. So a row may take the bits of another: nothing is missed, and as long as both have no
more keys than a row takes, it is the row that their keys would have made.

Keys are hashed by murmur2, each hash the seed of the next. Its mixing of the words of a key does
not depend on the seed and is done once; the rest is done for many keys of one length together.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.errors import CorruptTableError

Bits = npt.NDArray[np.uint8]
_Words = npt.NDArray[np.uint32]
# Defaults of Hudi's writers.
ENTRIES = 60_000
ENTRIES_MAX = 100_000
FALSE_POSITIVES = 1e-9
_M = np.uint32(0x5BD1E995)
_VERSION, _MURMUR = -1, 1
_HEAD, _COUNTS = struct.Struct(">iibi"), struct.Struct(">iii")
# Keys hashed together: their words stay in the processor's cache.
_KEYS_MAX = 8192
_WORD_BYTES = 4


class FilterKind(StrEnum):
    """How a filter is laid out, by the name in footers."""

    SIMPLE = "SIMPLE"
    DYNAMIC = "DYNAMIC_V0"


@dataclass(frozen=True, slots=True)
class FilterShape:
    """What two filters must have in common for one to take up the other.

    Attributes:
        kind: how it is laid out.
        bits: of a row.
        hashes: bits that a key sets.
        entries: keys of a row, before another one begins.
        entries_max: keys beyond which no more rows are begun.
    """

    kind: FilterKind = FilterKind.DYNAMIC
    bits: int = math.ceil(ENTRIES * (-math.log(FALSE_POSITIVES) / math.log(2) ** 2))
    hashes: int = 30
    entries: int = ENTRIES
    entries_max: int = ENTRIES_MAX

    @staticmethod
    def of(kind: FilterKind, *, entries: int, false_positives: float) -> FilterShape:
        """Return the shape that writers choose for some keys of a row and some probability."""
        bits = math.ceil(entries * (-math.log(false_positives) / math.log(2) ** 2))
        hashes = math.ceil(math.log(2) * bits / entries)
        if kind is FilterKind.SIMPLE:
            # Its one row takes whatever comes, and does not say how much it was made for.
            entries = ENTRIES_MAX
        return FilterShape(kind, bits, hashes, entries, max(ENTRIES_MAX, entries))


@dataclass(slots=True)
class _Row:
    """Bits of a row, a byte for each; how many keys it has, and whether every bit is set."""

    bits: Bits
    keys: int = 0
    is_full: bool = False


class KeyFilter:
    """A filter that keys are added to."""

    def __init__(self, shape: FilterShape) -> None:
        """Begin a filter without keys."""
        self.shape = shape
        self._rows = [_Row(np.zeros(shape.bits, np.uint8))]
        self._turns = -1

    @classmethod
    def decode(cls, text: str | bytes, kind: FilterKind) -> Self:
        """Read the filter of a footer.

        Raises:
            CorruptTableError: it is none that we know.
        """
        try:
            return cls._decoded(base64.b64decode(text), kind)
        except (ValueError, struct.error) as error:
            raise CorruptTableError(f"a filter of record keys does not decode: {error}") from error

    @classmethod
    def _decoded(cls, data: bytes, kind: FilterKind) -> Self:
        hashes, bits = _head(data, 0)
        at, rows, entries, keys = 0, 1, ENTRIES_MAX, 0
        if kind is FilterKind.DYNAMIC:
            entries, keys, rows = _COUNTS.unpack_from(data, _HEAD.size)
            at = _HEAD.size + _COUNTS.size
        row_bytes = -(-bits // 8)
        if rows < 1 or entries < 1 or len(data) != at + rows * (_HEAD.size + row_bytes):
            raise ValueError(f"{rows} rows of {bits} bits do not make {len(data)} bytes")
        found = cls(FilterShape(kind, bits, hashes, entries, max(ENTRIES_MAX, entries)))
        found._rows = []
        for number in range(rows):
            if _head(data, at) != (hashes, bits):
                raise ValueError("rows differ")
            packed = np.frombuffer(data, np.uint8, row_bytes, at + _HEAD.size)
            unpacked = np.unpackbits(packed, count=bits, bitorder="little")
            found._rows.append(_Row(unpacked, keys if number == rows - 1 else entries))
            at += _HEAD.size + row_bytes
        return found

    def encode(self) -> str:
        """Return the text that a footer has."""
        shape = self.shape
        head = _HEAD.pack(_VERSION, shape.hashes, _MURMUR, shape.bits)
        rows = [head + np.packbits(row.bits, bitorder="little").tobytes() for row in self._rows]
        if shape.kind is FilterKind.DYNAMIC:
            counts = _COUNTS.pack(shape.entries, self._rows[-1].keys, len(rows))
            rows.insert(0, head + counts)
        return base64.b64encode(b"".join(rows)).decode()

    def add(self, keys: pa.Array) -> None:
        """Add record keys, a column of text without nulls."""
        start = 0
        while start < len(keys):
            row, count = self._room(len(keys) - start)
            if row is None:
                self._add_in_turn(keys.slice(start))
                return
            self._set(row, keys.slice(start, count))
            row.keys += count
            start += count

    def unite(self, other: KeyFilter) -> None:
        """Take up the keys of another filter of the same shape.

        Raises:
            ValueError: it has another shape.
        """
        if other.shape != self.shape:
            raise ValueError("filters of different shapes cannot be united")
        for theirs in sorted(other._rows, key=lambda row: -row.keys):
            self._take(theirs)
        # The last row is the one that keys go to.
        self._rows.sort(key=lambda row: -row.keys)

    def may_have(self, keys: pa.Array) -> npt.NDArray[np.bool_]:
        """Tell for each key whether it may have been added."""
        found = np.zeros(len(keys), np.bool_)
        for row in self._rows:
            in_row = np.ones(len(keys), np.bool_)
            for places, hashed in _hashed(keys, self.shape):
                for positions in hashed:
                    in_row[places] &= row.bits[positions] != 0
            found |= in_row
        return found

    def _take(self, theirs: _Row) -> None:
        shape = self.shape
        fitting = [row for row in self._rows if row.keys + theirs.keys <= shape.entries]
        is_bounded = len(self._rows) * shape.entries >= shape.entries_max
        if not fitting and shape.kind is FilterKind.DYNAMIC and not is_bounded:
            self._rows.append(_Row(theirs.bits.copy(), theirs.keys))
            return
        own = max(fitting, key=lambda row: row.keys) if fitting else self._rows[-1]
        own.bits |= theirs.bits
        own.keys += theirs.keys

    def _room(self, wanted: int) -> tuple[_Row | None, int]:
        """Return the row that keys go to, and how many of them; None for all rows in turn."""
        shape, last = self.shape, self._rows[-1]
        if shape.kind is FilterKind.SIMPLE:
            return last, wanted
        if last.keys < shape.entries:
            return last, min(wanted, shape.entries - last.keys)
        if len(self._rows) * shape.entries >= shape.entries_max:
            return None, wanted
        self._rows.append(_Row(np.zeros(shape.bits, np.uint8)))
        return self._rows[-1], min(wanted, shape.entries)

    def _add_in_turn(self, keys: pa.Array) -> None:
        turns = np.maximum(np.arange(self._turns, self._turns + len(keys)), 0) % len(self._rows)
        self._turns += len(keys)
        for number, row in enumerate(self._rows):
            self._set(row, keys.take(pa.array(np.flatnonzero(turns == number))))
        self._rows[-1].keys += len(keys)

    def _set(self, row: _Row, keys: pa.Array) -> None:
        for start in range(0, len(keys), _KEYS_MAX << 3):
            if row.is_full:
                return
            for _, hashed in _hashed(keys.slice(start, _KEYS_MAX << 3), self.shape):
                for positions in hashed:
                    row.bits[positions] = 1
            row.is_full = bool(row.bits.all())


def _head(data: bytes, at: int) -> tuple[int, int]:
    version, hashes, kind, bits = _HEAD.unpack_from(data, at)
    if (version, kind) != (_VERSION, _MURMUR) or hashes < 1 or bits < 1:
        raise ValueError(f"version {version}, hash {kind}, {hashes} hashes, {bits} bits")
    return hashes, bits


def _hashed(
    keys: pa.Array, shape: FilterShape
) -> Iterator[tuple[npt.NDArray[np.int64], Iterator[_Words]]]:
    """Yield some of the keys by their places, and the bits that each hash of them sets."""
    keys = keys.cast(pa.large_string()) if len(keys) else keys
    if not len(keys):
        return
    offsets = np.frombuffer(keys.buffers()[1], np.int64)[keys.offset :][: len(keys) + 1]
    data = np.frombuffer(keys.buffers()[2] or b"", np.uint8)
    lengths = np.diff(offsets)
    for length in np.unique(lengths).tolist():
        if not length:
            raise CorruptTableError("a record key is empty")
        of_length = np.flatnonzero(lengths == length)
        for start in range(0, len(of_length), _KEYS_MAX):
            places = of_length[start : start + _KEYS_MAX]
            yield places, _positions(*_mixed(data, offsets[places], length), length, shape)


def _mixed(
    data: Bits, starts: npt.NDArray[np.int64], length: int
) -> tuple[list[_Words], _Words | None]:
    """Return the words of keys of one length, each mixed for itself, and what is left of them."""
    rows = np.lib.stride_tricks.sliding_window_view(data, length)[starts]
    count = length // _WORD_BYTES
    words = []
    for at in range(0, count * _WORD_BYTES, _WORD_BYTES):
        word = np.ascontiguousarray(rows[:, at : at + _WORD_BYTES]).view("<u4").ravel() * _M
        word ^= word >> np.uint32(24)
        word *= _M
        words.append(word)
    left = length - count * _WORD_BYTES
    if not left:
        return words, None
    # Behind the words, bytes count from the end, and with their signs.
    signed = rows.view(np.int8)
    tail = signed[:, length - 1].astype(np.int32)
    for place in range(2, left + 1):
        tail ^= signed[:, length - place].astype(np.int32) << (8 * (place - 1))
    return words, tail.view(np.uint32)


def _positions(
    words: list[_Words], tail: _Words | None, length: int, shape: FilterShape
) -> Iterator[_Words]:
    """Yield, hash by hash, the bit that each key sets."""
    count = len(words[0]) if words else len(tail if tail is not None else ())
    bits, hashed = np.uint32(shape.bits), np.zeros(count, np.uint32)
    for _ in range(shape.hashes):
        hashed ^= np.uint32(length)
        for word in words:
            hashed *= _M
            hashed ^= word
        if tail is not None:
            hashed ^= tail
            hashed *= _M
        hashed ^= hashed >> np.uint32(13)
        hashed *= _M
        hashed ^= hashed >> np.uint32(15)
        # The remainder of a number with a sign, without it.
        size: Any = np.abs(hashed.view(np.int32)).view(np.uint32)
        yield size - size // bits * bits
