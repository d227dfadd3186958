"""Fingerprint rows of any type, so that equal multisets of rows have equal sums.

Each row becomes 128 bits that depend on every cell, its column and its place within lists; the
sum over all rows does not depend on their order or on how they were batched. Values count as
they are stored, bit by bit: 0.0 and -0.0 differ, and so do two different NaNs. The spelling of a
type does not count: strings large or small, dictionaries, integers of any width.

Null, zero and the empty string differ, a null struct from a struct of nulls, an empty list from a
null one, and lists by their boundaries. This guards against faults, not against an adversary.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from compactor.rewrite.conversion import is_bytes
from compactor.rewrite.nested import list_parts, plain_list
from compactor.rewrite.task import RowDigest

Hashes = npt.NDArray[np.uint64]

_WORD_BYTES = 8
# Values up to this many bytes are hashed column-wise, eight bytes a step; longer ones singly.
_STEPPED_BYTES_MAX = 256
# Rows hashed at once: the working arrays of one column stay in the processor's cache.
_ROWS_MAX = 16_384
# The finaliser of splitmix64 (public domain), whose output passes for random.
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
# Stand-ins for what has no bits of its own; arbitrary.
_NULL = np.uint64(0x5BD1E9955BD1E995)
_LIST = np.uint64(0x27D4EB2F165667C5)
_STRUCT = np.uint64(0x165667B19E3779F9)
_BYTES = np.uint64(0xD6E8FEB86659FD93)
_LANE = np.uint64(0xA0761D6478BD642F)
# Keeps the first bytes of a little-endian word, by their number.
_WORD_MASKS = np.array([(1 << (8 * count)) - 1 for count in range(_WORD_BYTES + 1)], np.uint64)


def digest_batch(batch: pa.RecordBatch) -> RowDigest:
    """Return the fingerprint of the rows of a batch."""
    total = 0
    for start in range(0, batch.num_rows, _ROWS_MAX):
        part = batch.slice(start, _ROWS_MAX)
        total += _sum_rows([hash_array(column) for column in part.columns], part.num_rows)
    return RowDigest(batch.num_rows, total % (1 << 128))


def _sum_rows(columns: list[Hashes], rows: int) -> int:
    """Return the sum of the rows' hashes, two independent lanes of 64 bits each."""
    low = _total(mix(combine(columns, rows, seed=0)))
    high = _total(mix(combine(columns, rows, seed=len(columns)) ^ _LANE))
    return low + (high << 64)


def combine(columns: list[Hashes], rows: int, *, seed: int) -> Hashes:
    """Return a sum of the columns, each by a multiplier that belongs to its position."""
    combined = np.full(rows, _STRUCT, dtype=np.uint64)
    for position, column in enumerate(columns):
        combined += column * _multiplier(position + seed)
    return combined


@cache
def _multiplier(position: int) -> np.uint64:
    """Return an odd number that passes for random, so that no two positions can be exchanged."""
    seed = np.array([position + 1], dtype=np.uint64) * _GOLDEN
    return np.uint64(mix(seed)[0] | np.uint64(1))


def _total(hashes: Hashes) -> int:
    """Return the exact sum: halves of 32 bits cannot overflow in a batch."""
    low = int(np.sum(hashes & np.uint64(0xFFFFFFFF)))
    return low + (int(np.sum(hashes >> np.uint64(32))) << 32)


def mix(values: Hashes) -> Hashes:
    """Return each value's image under a bijection that spreads every bit over all others."""
    mixed = values ^ (values >> np.uint64(30))
    mixed *= _MIX_1
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MIX_2
    mixed ^= mixed >> np.uint64(31)
    return mixed


def hash_array(array: pa.Array) -> Hashes:
    """Return a hash per value."""
    if isinstance(array.type, pa.BaseExtensionType):
        return hash_array(array.storage)
    if types.is_dictionary(array.type):
        return hash_array(array.dictionary_decode())
    if array.null_count == len(array):
        return np.full(len(array), _NULL, dtype=np.uint64)
    hashes = _hash_values(array)
    if array.null_count:
        hashes[_is_null(array)] = _NULL
    return hashes


def _hash_values(array: pa.Array) -> Hashes:
    """Return a hash per value; what stands at the place of a null does not matter."""
    kind = array.type
    if types.is_struct(kind):
        return _hash_struct([array.field(index) for index in range(kind.num_fields)], len(array))
    if types.is_map(kind):
        offsets, keys, _ = list_parts(array, array.keys)
        _, items, _ = list_parts(array, array.items)
        return _hash_lists(offsets, _hash_struct([keys, items], len(keys)))
    if types.is_nested(kind):
        array = plain_list(array)
        offsets, values, _ = list_parts(array, array.values)
        return _hash_lists(offsets, hash_array(values))
    if is_bytes(kind):
        return _hash_binary(array.cast(pa.large_binary()))
    if types.is_boolean(kind):
        return mix(_integers(pc.cast(array, pa.uint8())))
    if types.is_fixed_size_binary(kind) or kind.bit_width > 8 * _WORD_BYTES:
        return _hash_wide(array, kind.bit_width // 8)
    return mix(_integers(array))


def _hash_struct(children: list[pa.Array], rows: int) -> Hashes:
    return mix(combine([hash_array(child) for child in children], rows, seed=0))


def _hash_lists(offsets: npt.NDArray[np.int64], elements: Hashes) -> Hashes:
    """Return a hash per list from those of all elements, by place within the list and length."""
    lengths = np.diff(offsets)
    places = np.arange(1, len(elements) + 1) - np.repeat(offsets[:-1], lengths)
    placed = mix(elements + places.astype(np.uint64) * _GOLDEN)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(placed, dtype=np.uint64)])
    return mix(
        (sums[offsets[1:]] - sums[offsets[:-1]]) ^ (lengths.astype(np.uint64) * _MIX_1 + _LIST)
    )


def _integers(array: pa.Array) -> Hashes:
    """Return values of up to 64 bits as numbers of 64 bits, the sign kept, floats bit by bit."""
    kind = array.type
    if types.is_unsigned_integer(kind):
        return fixed_width(array, f"<u{kind.bit_width // 8}").astype(np.uint64)
    return fixed_width(array, f"<i{kind.bit_width // 8}").astype(np.int64).view(np.uint64)


def _hash_wide(array: pa.Array, width_bytes: int) -> Hashes:
    if width_bytes == 2 * _WORD_BYTES:
        words = fixed_width(array, "<u8", values_per_row=2)
        return mix(words[0::2] ^ mix(words[1::2] + _GOLDEN))
    data = fixed_width(array, "u1", values_per_row=width_bytes)
    offsets = np.arange(len(array) + 1, dtype=np.int64) * width_bytes
    return _hash_bytes(data, offsets)


def _hash_binary(array: pa.Array) -> Hashes:
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(b"" if data_buffer is None else data_buffer, np.uint8)
    return _hash_bytes(data[offsets[0] : offsets[-1]], offsets - offsets[0])


def _hash_bytes(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Hashes:
    """Return a hash per stretch of bytes, whose length counts too."""
    lengths = np.diff(offsets)
    padded = np.concatenate([data, np.zeros(_WORD_BYTES, np.uint8)])
    # A word begins at every byte.
    words = np.ndarray(len(data) + 1, "<u8", padded, strides=(1,))
    starts = offsets[:-1]
    length = int(lengths[0]) if len(lengths) else 0
    if 0 < length <= _STEPPED_BYTES_MAX and (lengths == length).all():
        return _hash_alike(words, length, rows=len(lengths))
    hashes = lengths.astype(np.uint64) * _GOLDEN + _BYTES
    hashes = mix(hashes ^ _word(words, starts, lengths))
    stepped = np.minimum(lengths, _STEPPED_BYTES_MAX)
    rows = np.flatnonzero(stepped > _WORD_BYTES)
    done = _WORD_BYTES
    while len(rows):
        hashes[rows] = mix(hashes[rows] ^ _word(words, starts[rows] + done, stepped[rows] - done))
        done += _WORD_BYTES
        rows = rows[stepped[rows] > done]
    for row in np.flatnonzero(lengths > _STEPPED_BYTES_MAX):
        rest = data[starts[row] + _STEPPED_BYTES_MAX : offsets[row + 1]]
        digest = hashlib.blake2b(rest.tobytes(), digest_size=_WORD_BYTES).digest()
        hashes[row] ^= np.frombuffer(digest, np.uint64)[0]
    return hashes


def _hash_alike(words: Hashes, length: int, *, rows: int) -> Hashes:
    """Return the same for stretches of one length, one behind the other, a block at a time."""
    hashes = np.full(rows, length, np.uint64) * _GOLDEN + _BYTES
    for first in range(0, rows, _ROWS_MAX):
        found = hashes[first : first + _ROWS_MAX]
        begin, end = first * length, (first + len(found) - 1) * length + 1
        for done in range(0, length, _WORD_BYTES):
            # Copied before anything else: arithmetic on words that are not aligned is slow.
            word = words[begin + done : end + done : length].copy()
            word &= _WORD_MASKS[min(length - done, _WORD_BYTES)]
            found = mix(np.bitwise_xor(found, word, out=word))
        hashes[first : first + _ROWS_MAX] = found
    return hashes


def _word(words: Hashes, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Hashes:
    """Return the eight bytes from each start, those beyond the length as zero."""
    return words[starts] & _WORD_MASKS[np.minimum(lengths, _WORD_BYTES)]


def fixed_width(array: pa.Array, dtype: str, *, values_per_row: int = 1) -> npt.NDArray[Any]:
    """Return the data buffer of a fixed-width array."""
    buffer = array.buffers()[1]
    if buffer is None:
        return np.zeros(len(array) * values_per_row, dtype)
    start = array.offset * values_per_row
    return np.frombuffer(buffer, dtype)[start : start + len(array) * values_per_row]


def _is_null(array: pa.Array) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = pc.is_null(array).to_numpy(zero_copy_only=False)
    return mask
