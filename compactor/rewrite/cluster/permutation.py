"""The stable permutation that puts rows in order, by whole columns at a time.

Keys become *codes*: unsigned numbers of a known width, the most significant first. As many as fit
are packed into one 64-bit word together with the number of the row, and the words are sorted: much
faster than sorting an index by comparisons, and stable. What is still tied after that is refined
by the codes that follow, and only the tied rows are looked at again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from compactor.rewrite.cluster.comparable import Comparable, Flags, Numbers

Rows = npt.NDArray[np.int64]
_WORD_BITS = 64
_PREFIX_BYTES = 8
# Shorter texts fit into a word together with their length.
_SHORT_BYTES_MAX = 7


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the order of some rows.

    Attributes:
        column: its values.
        is_descending: whether large values come first.
        is_nulls_first: whether nulls come before all values.
    """

    column: Comparable
    is_descending: bool = False
    is_nulls_first: bool = True


def sort_permutation(keys: Sequence[Key]) -> Rows:
    """Return the rows in the order of the keys; rows that are equal in all of them stay in turn."""
    order = _Order(len(keys[0].column))
    for key in keys:
        if order.is_done:
            break
        _add(order, key)
    return order.finished()


def _add(order: _Order, key: Key) -> None:
    column = key.column
    if column.is_null is not None:
        order.add((column.is_null != key.is_nulls_first).astype(np.uint64), 1)
    if column.numbers is not None:
        order.add_numbers(_without_nulls(column.numbers, column.is_null), key.is_descending)
        return
    texts = column.texts
    prefix, is_exact = _prefixes(texts, column.is_null)
    order.add_numbers(prefix, key.is_descending)
    if not is_exact:
        order.refine_texts(texts, key.is_descending)


def _without_nulls(numbers: Numbers, is_null: Flags | None) -> Numbers:
    """Return the numbers with one value for all nulls, near the others so that it takes no bits."""
    if is_null is None:
        return numbers
    some = numbers[~is_null]
    return np.where(is_null, some[0] if len(some) else np.uint64(0), numbers)


class _Order:
    """An order that is refined code by code."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._row_bits = max(rows - 1, 0).bit_length()
        # None stands for rows as they are, all of them tied.
        self._order: Rows | None = None
        # Places of the order whose rows are tied, and the group of ties that each belongs to.
        self._tied = np.arange(rows)
        self._group = np.zeros(rows, dtype=np.int64)
        self._packed: Numbers | None = None
        self._bits = 0

    @property
    def is_done(self) -> bool:
        """Whether no two rows are tied."""
        return len(self._tied) < 2

    def add_numbers(self, numbers: Numbers, is_descending: bool) -> None:
        """Refine by numbers of any size."""
        if not len(numbers):
            return
        low, high = numbers.min(), numbers.max()
        codes = high - numbers if is_descending else numbers - low
        self.add(codes, int(high - low).bit_length())

    def add(self, codes: Numbers, bits: int) -> None:
        """Refine by codes of so many bits; none are needed where all are equal."""
        room = _WORD_BITS - self._row_bits
        if bits > room:
            rest = bits - room
            self.add(codes >> np.uint64(rest), room)
            self.add(codes & np.uint64((1 << rest) - 1), rest)
            return
        if self._bits + bits > room:
            self._flush()
        if bits and not self.is_done:
            before = self._packed
            self._packed = codes if before is None else (before << np.uint64(bits)) | codes
            self._bits += bits

    def refine_texts(self, texts: pa.Array, is_descending: bool) -> None:
        """Refine by whole texts; only those of rows that are tied by now are compared."""
        self._flush()
        if self.is_done:
            return
        rows = self._tied_rows()
        words = texts.take(pa.array(rows)).dictionary_encode()
        ranks = np.empty(len(words.dictionary), dtype=np.uint64)
        by_value = pc.sort_indices(words.dictionary).to_numpy().astype(np.int64)
        ranks[by_value] = np.arange(len(ranks), dtype=np.uint64)
        codes = np.zeros(self._rows, dtype=np.uint64)
        # Nulls were told from values before; among themselves they are equal.
        places = words.indices.fill_null(0).to_numpy()
        codes[rows] = ranks[places] if len(ranks) else 0
        self.add_numbers(codes, is_descending)

    def finished(self) -> Rows:
        """Return the order."""
        self._flush()
        return np.arange(self._rows) if self._order is None else self._order

    def _tied_rows(self) -> Rows:
        return self._tied if self._order is None else self._order[self._tied]

    def _flush(self) -> None:
        """Sort by what is packed."""
        packed = self._packed
        self._packed, self._bits = None, 0
        if packed is None or self.is_done:
            return
        if self._order is None:
            self._order, by_code = _packed_sort(packed, self._row_bits)
            group = np.zeros(self._rows, dtype=np.int64)
        else:
            rows = self._order[self._tied]
            codes = packed[rows]
            turn = np.lexsort((codes, self._group))
            self._order[self._tied] = rows[turn]
            by_code, group = codes[turn], self._group[turn]
        self._find_ties(by_code, group)

    def _find_ties(self, codes: Numbers, group: Rows) -> None:
        """Keep as tied what is equal to its neighbour in group and code."""
        is_new = np.empty(len(codes), dtype=np.bool_)
        is_new[:1] = True
        is_new[1:] = (codes[1:] != codes[:-1]) | (group[1:] != group[:-1])
        is_last = np.append(is_new[1:], True)
        is_tied = ~(is_new & is_last)
        self._group = np.cumsum(is_new)[is_tied]
        self._tied = self._tied[is_tied]


def _packed_sort(codes: Numbers, row_bits: int) -> tuple[Rows, Numbers]:
    """Return the rows in the order of codes that fit a word together with a row number."""
    shift = np.uint64(row_bits)
    words = (codes << shift) | np.arange(len(codes), dtype=np.uint64)
    words.sort()
    rows = (words & np.uint64((1 << row_bits) - 1)).astype(np.int64)
    return rows, words >> shift


def _prefixes(texts: pa.Array, is_null: Flags | None) -> tuple[Numbers, bool]:
    """Return the first bytes of each text as a number, and whether they tell all texts apart."""
    offsets, data = _parts(texts)
    lengths = np.diff(offsets)
    if is_null is not None:
        lengths = np.where(is_null, 0, lengths)
    padded = np.concatenate([data, np.zeros(_PREFIX_BYTES, np.uint8)])
    # A word begins at every byte.
    words = np.ndarray(len(data) + 1, ">u8", padded, strides=(1,))
    kept_bytes = np.minimum(lengths, _PREFIX_BYTES)
    prefix = words[offsets[:-1]].astype(np.uint64) & _MASKS[kept_bytes]
    if int(lengths.max(initial=0)) <= _SHORT_BYTES_MAX:
        return prefix | lengths.astype(np.uint64), True
    return prefix, False


# Keeps the first bytes of a word whose highest byte is the first, by their number.
_MASKS = np.array(
    [((1 << 64) - 1) ^ ((1 << (8 * (_PREFIX_BYTES - count))) - 1) for count in range(9)], np.uint64
)


def _parts(texts: pa.Array) -> tuple[Rows, npt.NDArray[np.uint8]]:
    """Return offsets that begin at zero and the bytes that they cover."""
    kind = np.int64 if pa.types.is_large_binary(texts.type) else np.int32
    _, offsets_buffer, data_buffer = texts.buffers()
    data = np.frombuffer(b"" if data_buffer is None else data_buffer, np.uint8)
    if not len(texts):
        return np.zeros(1, np.int64), data[:0]
    offsets = np.frombuffer(offsets_buffer, kind)[texts.offset : texts.offset + len(texts) + 1]
    offsets = offsets.astype(np.int64)
    return offsets - offsets[0], data[offsets[0] : offsets[-1]]
