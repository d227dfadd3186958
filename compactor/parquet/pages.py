"""The pages of a column chunk by its page index, and a small file made of some of them.

Specification: https://parquet.apache.org/docs/file-format/pageindex/
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from catalog.storage import ByteRange, Storage
from compactor.parquet import scan as s
from compactor.parquet.footer import Footer
from compactor.parquet.making import MadeColumn, made_file
from compactor.parquet.thrift import (
    BINARY,
    FALSE,
    I64,
    LIST,
    STRUCT,
    TRUE,
    corrupt,
    decoding,
    fields,
    read_binary,
    read_list,
    read_signed,
)

_Rows = npt.NDArray[np.int64]
_NULL_PAGES, _MINIMA, _MAXIMA, _NULL_COUNTS = 1, 2, 3, 5
_LOCATIONS = 1
_OFFSET, _LENGTH, _FIRST_ROW = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Pages:
    """The data pages of one column chunk without repetition.

    Attributes:
        first_rows: the first row of each page, counted from that of the row group, and behind
            the last page the number of rows.
        places: where each page is, its header included.
        dictionary: where the dictionary page is; empty for none.
        minima: the least value of each page, as it is stored; empty for a page of nulls.
        maxima: the greatest.
        is_null: which pages have nulls only.
        null_counts: number of nulls of each page; None where it is not said.
    """

    first_rows: _Rows
    places: tuple[ByteRange, ...]
    dictionary: ByteRange
    minima: tuple[bytes, ...]
    maxima: tuple[bytes, ...]
    is_null: npt.NDArray[np.bool_]
    null_counts: _Rows | None


def read_pages(storage: Storage, footer: Footer, row_group: int, column: int) -> Pages | None:
    """Read the page index of a column chunk; None when it has none.

    Raises:
        CorruptTableError: the index is malformed, or names pages outside of the chunk.
        AccessDeniedError, StorageError: it cannot be read.
    """
    at = footer.chunk_rows(row_group)[column]
    row = footer.chunks[at : at + s.CHUNK_WIDTH]
    if not row[s.COLUMN_INDEX] or not row[s.OFFSET_INDEX]:
        return None
    ranges = [
        ByteRange(row[s.COLUMN_INDEX], row[s.COLUMN_INDEX_LENGTH]),
        ByteRange(row[s.OFFSET_INDEX], row[s.OFFSET_INDEX_LENGTH]),
    ]
    values, locations = map(bytes, storage.read_ranges(footer.location, ranges))
    rows = footer.group_row(row_group)[s.GROUP_ROWS]
    with decoding(str(footer.location)):
        first_rows, places = _places(locations, rows)
        start, end = row[s.START], row[s.START] + row[s.COMPRESSED]
        if places[0].offset < start or places[-1].offset + places[-1].length > end:
            corrupt("an offset index names pages outside of their column chunk")
        return _described(values, first_rows, places, ByteRange(start, places[0].offset - start))


def some_pages(
    storage: Storage, footer: Footer, pages: Pages, wanted: _Rows, *, column: MadeColumn
) -> bytes:
    """Return a file that holds some pages of a column, in order.

    Args:
        storage: where the file is.
        footer: its footer.
        pages: of the column chunk.
        wanted: which of them.
        column: the column; its pages are put in place.

    Raises:
        AccessDeniedError, StorageError: the pages cannot be read.
    """
    ranges = [pages.places[page] for page in wanted.tolist()]
    if pages.dictionary.length:
        ranges = [pages.dictionary, *ranges]
    data = b"".join(storage.read_ranges(footer.location, ranges))
    rows = int((pages.first_rows[wanted + 1] - pages.first_rows[wanted]).sum())
    made = MadeColumn(
        name=column.name,
        is_nullable=column.is_nullable,
        physical_type=column.physical_type,
        codec=column.codec,
        values=rows,
        dictionary_bytes=pages.dictionary.length,
        data=data,
    )
    return made_file([made], rows)


def _places(data: bytes, rows: int) -> tuple[_Rows, tuple[ByteRange, ...]]:
    found = next((one for one in fields(data, 0) if one.number == _LOCATIONS), None)
    if found is None or found.kind != LIST:
        corrupt("an offset index has no page locations")
    count, kind, at = read_list(data, found.start)
    if not count or kind != STRUCT:
        corrupt("an offset index has no page locations")
    places, first_rows = [], []
    for _ in range(count):
        numbers, end = {}, at
        for one in fields(data, at):
            numbers[one.number] = read_signed(data, one.start)[0]
            end = one.end
        at = end + 1
        places.append(ByteRange(numbers.get(_OFFSET, -1), numbers.get(_LENGTH, -1)))
        first_rows.append(numbers.get(_FIRST_ROW, -1))
    offsets = np.array([one.offset for one in places])
    lengths = np.array([one.length for one in places])
    starts = np.array([*first_rows, rows], np.int64)
    is_sound = (lengths > 0).all() and (offsets[1:] >= (offsets + lengths)[:-1]).all()
    if not is_sound or starts[0] != 0 or (np.diff(starts) < 0).any():
        corrupt("the page locations of an offset index are out of order")
    return starts, tuple(places)


def _described(
    data: bytes, first_rows: _Rows, places: tuple[ByteRange, ...], dictionary: ByteRange
) -> Pages:
    found = {one.number: one for one in fields(data, 0)}
    if any(number not in found for number in (_NULL_PAGES, _MINIMA, _MAXIMA)):
        corrupt("a column index lacks its bounds")
    is_null = _flags(data, found[_NULL_PAGES].start)
    minima, maxima = (_texts(data, found[one].start) for one in (_MINIMA, _MAXIMA))
    counts = _numbers(data, found[_NULL_COUNTS].start) if _NULL_COUNTS in found else None
    lengths = {len(is_null), len(minima), len(maxima), len(places)}
    if len(lengths) > 1 or (counts is not None and len(counts) != len(places)):
        corrupt("a column index is about other pages than its offset index")
    return Pages(first_rows, places, dictionary, minima, maxima, is_null, counts)


def _flags(data: bytes, at: int) -> npt.NDArray[np.bool_]:
    count, kind, at = read_list(data, at)
    if kind not in (TRUE, FALSE):
        corrupt("a column index has no flags where they should be")
    found: npt.NDArray[np.bool_] = np.frombuffer(data[at : at + count], np.uint8) == TRUE
    return found


def _texts(data: bytes, at: int) -> tuple[bytes, ...]:
    count, kind, at = read_list(data, at)
    if kind != BINARY:
        corrupt("a column index has no values where they should be")
    found = []
    for _ in range(count):
        value, at = read_binary(data, at)
        found.append(value)
    return tuple(found)


def _numbers(data: bytes, at: int) -> _Rows:
    count, kind, at = read_list(data, at)
    if count and kind != I64:
        corrupt("a column index has no counts where they should be")
    found = []
    for _ in range(count):
        value, at = read_signed(data, at)
        found.append(value)
    return np.array(found, np.int64)
