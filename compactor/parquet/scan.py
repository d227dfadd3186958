"""Where a footer keeps the numbers of its row groups and column chunks, found in one pass.

A footer may describe hundreds of thousands of column chunks, so each is a row of integers in one
flat array and never an object. For a number that moves with the bytes it describes, a row holds
the value and the *span* of its encoding: `position << 4 | length`, 0 when the field is absent.

Field numbers are those of
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from functools import lru_cache

from compactor.parquet.thrift import (
    BINARY,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    corrupt,
    read_binary,
    read_field_number,
    read_list,
    read_long_field,
    read_signed,
    read_unsigned,
    skip,
)

# Columns of a row of `Scan.chunks`: first the values that are rewritten, then their spans, then
# what is only read.
(
    FILE_OFFSET,
    DATA_PAGE,
    INDEX_PAGE,
    DICTIONARY_PAGE,
    BLOOM,
    OFFSET_INDEX,
    OFFSET_INDEX_LENGTH,
    COLUMN_INDEX,
) = range(8)
SPANS = 8
(
    COLUMN_INDEX_LENGTH,
    BLOOM_LENGTH,
    PHYSICAL_TYPE,
    CODEC,
    VALUES,
    UNCOMPRESSED,
    COMPRESSED,
    ENCODINGS,
    STATISTICS,
    STATISTICS_END,
    BEGIN,
    END,
    START,
) = range(16, 29)
CHUNK_WIDTH = 29

# How the metadata of a column's chunks begins, up to its codec, and the numbers in there.
Opening = tuple[bytes, int, int, int]

# Columns of a row of `Scan.row_groups`, in the same order. The last tells whether the group states
# by which columns it is sorted.
GROUP_BYTES, GROUP_FILE_OFFSET, GROUP_COMPRESSED, GROUP_ORDINAL = range(4)
GROUP_SPANS = 4
GROUP_ROWS, GROUP_CHUNKS_END, GROUP_END, GROUP_SORTED = range(8, 12)
GROUP_WIDTH = 12

# Field number and wire type -> column.
_CHUNK_NUMBERS = {
    2 << 4 | I64: FILE_OFFSET,
    4 << 4 | I64: OFFSET_INDEX,
    5 << 4 | I32: OFFSET_INDEX_LENGTH,
    6 << 4 | I64: COLUMN_INDEX,
    7 << 4 | I32: COLUMN_INDEX_LENGTH,
}
_METADATA_NUMBERS = {
    1 << 4 | I32: PHYSICAL_TYPE,
    4 << 4 | I32: CODEC,
    5 << 4 | I64: VALUES,
    6 << 4 | I64: UNCOMPRESSED,
    7 << 4 | I64: COMPRESSED,
    9 << 4 | I64: DATA_PAGE,
    10 << 4 | I64: INDEX_PAGE,
    11 << 4 | I64: DICTIONARY_PAGE,
    14 << 4 | I64: BLOOM,
    15 << 4 | I32: BLOOM_LENGTH,
}
_GROUP_NUMBERS = {
    2 << 4 | I64: GROUP_BYTES,
    3 << 4 | I64: GROUP_ROWS,
    5 << 4 | I64: GROUP_FILE_OFFSET,
    6 << 4 | I64: GROUP_COMPRESSED,
    7 << 4 | I16: GROUP_ORDINAL,
}
_CHUNK_KNOWN = frozenset(key >> 4 for key in _CHUNK_NUMBERS)
_METADATA_KNOWN = frozenset(key >> 4 for key in _METADATA_NUMBERS)
_GROUP_CHUNKS, _GROUP_SORTING = 1, 4
_GROUP_KNOWN = frozenset(key >> 4 for key in _GROUP_NUMBERS) | {_GROUP_CHUNKS}
# Numbers without which a chunk cannot be placed start as -1, which is refused.
_CHUNK_EMPTY = [0] * CHUNK_WIDTH
for _column in (DATA_PAGE, PHYSICAL_TYPE, CODEC, VALUES, UNCOMPRESSED, COMPRESSED):
    _CHUNK_EMPTY[_column] = -1
_CHUNK_METADATA, _CHUNK_FILE_PATH, _CHUNK_ENCRYPTION = 3, 1, (8, 9)
_METADATA_ENCODINGS, _METADATA_CODEC, _METADATA_STATISTICS = 2, 4, 12
# The number that the format reserves for extensions, whose offsets nobody else can move.
EXTENSION = 32_767
_ENCODING_MAX = 62
# Bounds what is remembered of how chunks begin.
_OPENINGS_MAX, _OPENING_BYTES_MAX = 1 << 12, 1 << 10
# The magic number before the first page.
_DATA_BEGINS = 4


@dataclass(slots=True)
class Scan:
    """Row groups and column chunks of one footer.

    Much of it repeats. A serialised value ends by itself: where the bytes of one seen before stand
    in the place of a value of its type, they are that value, and are not walked through again.

    Attributes:
        data: the serialised footer.
        data_end: where the footer begins in the file: everything it points at lies before.
        columns: number of leaf columns, which every row group must have.
        openings: how chunks of the same schema have begun, by column; grows.
        chunks: `CHUNK_WIDTH` integers for each column chunk, row group by row group.
        row_groups: `GROUP_WIDTH` integers for each row group.
        obstacle: why the bytes cannot stand in another file; None when they can.
        seen: the last value of fields that are stepped over, by field number and type.
    """

    data: bytes
    data_end: int
    columns: int
    openings: dict[int, Opening]
    chunks: array[int] = field(default_factory=lambda: array("q"))
    row_groups: array[int] = field(default_factory=lambda: array("q"))
    obstacle: str | None = None
    seen: dict[int, bytes] = field(default_factory=dict)

    def read_row_groups(self, at: int) -> int:
        """Read a list of row groups and return the position behind it."""
        count, kind, at = read_list(self.data, at)
        if count and kind != STRUCT:
            corrupt("the row groups are no structures")
        for _ in range(count):
            at = self._read_row_group(at)
        return at

    def _read_row_group(self, at: int) -> int:
        data, number, row = self.data, 0, [0] * GROUP_WIDTH
        row[GROUP_ROWS] = -1
        while header := data[at]:
            kind = header & 15
            number, at = read_field_number(data, at, number)
            column = _GROUP_NUMBERS.get(number << 4 | kind)
            if column is not None:
                at = _read_number(data, at, row, column, GROUP_SPANS)
            elif number == _GROUP_CHUNKS and kind == LIST:
                row[GROUP_CHUNKS_END] = at = self._read_chunks(at)
            else:
                row[GROUP_SORTED] |= number == _GROUP_SORTING
                self._check_unread(number, kind, _GROUP_KNOWN)
                at = skip(data, at, kind)
        row[GROUP_END] = at + 1
        if row[GROUP_ROWS] < 0 or not row[GROUP_CHUNKS_END]:
            corrupt("a row group lacks its columns or its number of rows")
        self.row_groups.extend(row)
        return at + 1

    def _read_chunks(self, at: int) -> int:
        count, kind, at = read_list(self.data, at)
        if count != self.columns or (count and kind != STRUCT):
            corrupt(f"a row group has {count} columns, the schema has {self.columns}")
        for column in range(count):
            at = self._read_chunk(at, column)
        return at

    def _read_chunk(self, at: int, index: int) -> int:
        data, number, row = self.data, 0, _CHUNK_EMPTY.copy()
        row[BEGIN] = at
        while header := data[at]:
            kind = header & 15
            if header > 15:
                number += header >> 4
                at += 1
            else:
                number, at = read_long_field(data, at + 1, number)
            column = _CHUNK_NUMBERS.get(number << 4 | kind)
            if column is not None:
                at = _read_number(data, at, row, column, SPANS)
            elif number == _CHUNK_METADATA and kind == STRUCT:
                at = self._read_metadata(at, row, index)
            else:
                at = self._skip_of_chunk(at, number, kind)
        row[END] = at + 1
        self._check_chunk(row)
        self.chunks.extend(row)
        return at + 1

    def _read_metadata(self, at: int, row: list[int], index: int) -> int:
        data, number, begin = self.data, 0, at
        opening = self.openings.get(index)
        if opening is not None and data.startswith(opening[0], at):
            start, row[PHYSICAL_TYPE], row[CODEC], row[ENCODINGS] = opening
            number, at = _METADATA_CODEC, at + len(start)
        while header := data[at]:
            kind = header & 15
            if header > 15:
                number += header >> 4
                at += 1
            else:
                number, at = read_long_field(data, at + 1, number)
            column = _METADATA_NUMBERS.get(number << 4 | kind)
            if column is not None:
                at = _read_number(data, at, row, column, SPANS)
                if column == CODEC:
                    self._remember(index, data[begin:at], row)
            elif number == _METADATA_STATISTICS and kind == STRUCT:
                row[STATISTICS] = at
                row[STATISTICS_END] = at = skip(data, at, kind)
            elif number == _METADATA_ENCODINGS and kind == LIST:
                end = skip(data, at, kind)
                row[ENCODINGS] = _read_encodings(data[at:end])
                at = end
            else:
                at = self._skip_of_metadata(at, number, kind)
        return at + 1

    def _remember(self, index: int, opening: bytes, row: list[int]) -> None:
        if index < _OPENINGS_MAX and len(opening) <= _OPENING_BYTES_MAX:
            self.openings[index] = (opening, row[PHYSICAL_TYPE], row[CODEC], row[ENCODINGS])

    def _skip_of_metadata(self, at: int, number: int, kind: int) -> int:
        known = self.seen.get(number << 4 | kind)
        if known is not None and self.data.startswith(known, at):
            return at + len(known)
        self._check_unread(number, kind, _METADATA_KNOWN)
        end = skip(self.data, at, kind)
        if kind in (LIST, STRUCT):
            self.seen[number << 4 | kind] = self.data[at:end]
        return end

    def _skip_of_chunk(self, at: int, number: int, kind: int) -> int:
        if number in _CHUNK_ENCRYPTION:
            self.obstacle = "columns are encrypted"
        elif number == _CHUNK_FILE_PATH and kind == BINARY and read_binary(self.data, at)[0]:
            self.obstacle = "columns lie in another file"
        else:
            self._check_unread(number, kind, _CHUNK_KNOWN)
        return skip(self.data, at, kind)

    def _check_unread(self, number: int, kind: int, known: frozenset[int]) -> None:
        if number in known:
            corrupt(f"the field {number} of a structure has the wrong type {kind}")
        if number == EXTENSION:
            self.obstacle = "the footer has extensions"

    def _check_chunk(self, row: list[int]) -> None:
        """Refuse a chunk that reaches out of its file, and note where its first page is."""
        start = row[DATA_PAGE]
        for page in (row[DICTIONARY_PAGE], row[INDEX_PAGE]):
            # A chunk without values may have a dictionary and no data page.
            if 0 < page < start or start == 0:
                start = page
        row[START] = start
        if self.obstacle is not None:
            return
        if min(row) < 0:
            corrupt("a column chunk lacks a number or has a negative one")
        if row[COMPRESSED] and not self._holds(start, row[COMPRESSED]):
            corrupt("a column chunk lies outside of the data")
        if row[BLOOM] and not self._holds(row[BLOOM], row[BLOOM_LENGTH]):
            corrupt("a Bloom filter lies outside of the data")
        if row[OFFSET_INDEX] and not self._holds(row[OFFSET_INDEX], row[OFFSET_INDEX_LENGTH]):
            corrupt("an offset index lies outside of the data")
        if row[COLUMN_INDEX] and not self._holds(row[COLUMN_INDEX], row[COLUMN_INDEX_LENGTH]):
            corrupt("a column index lies outside of the data")

    def _holds(self, offset: int, length: int) -> bool:
        return offset >= _DATA_BEGINS and offset + length <= self.data_end


def _read_number(data: bytes, at: int, row: list[int], column: int, spans: int) -> int:
    value = data[at]
    if value < 128:
        end = at + 1
    else:
        value, end = read_unsigned(data, at)
    row[column] = (value >> 1) ^ -(value & 1)
    if column < spans:
        row[column + spans] = at << 4 | end - at
    return end


@lru_cache(maxsize=256)
def _read_encodings(data: bytes) -> int:
    """Return a list of encodings as bits; there are few such lists."""
    count, kind, at = read_list(data, 0)
    if count and kind != I32:
        corrupt("the encodings of a column chunk are no numbers")
    found = 0
    for _ in range(count):
        encoding, at = read_signed(data, at)
        if not 0 <= encoding <= _ENCODING_MAX:
            corrupt(f"a column chunk has the unknown encoding {encoding}")
        found |= 1 << encoding
    return found
