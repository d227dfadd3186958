"""Column chunks of decimals as a Parquet file of integers: to read these costs a fraction.

Where a file stores decimals as integers, nothing but the declaration is left out. Where it stores
them as byte arrays, and all pages are numbers of dictionary entries, the dictionary is made anew
and the pages stay as they are. All else is left to the reader of decimals, errors as well.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from catalog.errors import CorruptTableError
from compactor.parquet import making as m
from compactor.parquet.page_header import (
    DATA_PAGE,
    DATA_PAGE_V2,
    DICTIONARY_PAGE,
    PageHeader,
    read_page_header,
)

_INTEGERS = {"INT32": m.INT32, "INT64": m.INT64}
_BYTES = "FIXED_LEN_BYTE_ARRAY"
_WORD_BYTES = 8
# A header of a page of numbers is much shorter: one that is not is left to the reader of decimals.
_HEADER_BYTES_MAX = 1024
# Hardly tries: a dictionary is read once, and at once.
_ZSTD_FASTEST = -50


@dataclass(frozen=True, slots=True)
class DecimalChunk:
    """A column chunk of decimals at the top level of its file.

    Attributes:
        name: of the column.
        is_nullable: whether the file declares it optional.
        stored: the physical type by its name in the format.
        value_bytes: length of a value that is a byte array.
        codec: name of its codec.
        values: number of values, nulls included.
        data: its pages.
    """

    name: str
    is_nullable: bool
    stored: str
    value_bytes: int
    codec: str
    values: int
    data: m.Pages

    def integers(
        self,
        physical_type: int,
        dictionary_bytes: int,
        data: m.Pages,
        before: tuple[m.Pages, ...] = (),
    ) -> m.MadeColumn:
        """Return it as a column of integers."""
        return m.MadeColumn(
            name=self.name,
            is_nullable=self.is_nullable,
            physical_type=physical_type,
            codec=self.codec,
            values=self.values,
            dictionary_bytes=dictionary_bytes,
            data=data,
            before=before,
        )


def as_integer_file(chunks: Sequence[DecimalChunk], rows: int) -> tuple[frozenset[str], bytes]:
    """Return the names of those columns that can be read so, and a file of one row group."""
    found = [one for one in map(_as_integers, chunks) if one is not None]
    return frozenset(one.name for one in found), m.made_file(found, rows)


def _as_integers(chunk: DecimalChunk) -> m.MadeColumn | None:
    if chunk.codec not in m.CODECS:
        return None
    with suppress(CorruptTableError, IndexError, OSError, ValueError):
        if chunk.stored in _INTEGERS:
            first = _header(chunk.data, 0)
            is_dictionary = first.kind == DICTIONARY_PAGE
            dictionary_bytes = first.end + first.compressed_bytes if is_dictionary else 0
            return chunk.integers(_INTEGERS[chunk.stored], dictionary_bytes, chunk.data)
        if chunk.stored == _BYTES and 0 < chunk.value_bytes <= _WORD_BYTES:
            return _with_new_dictionary(chunk)
    return None


def _with_new_dictionary(chunk: DecimalChunk) -> m.MadeColumn | None:
    header, *pages = _pages(chunk.data)
    end = header.end + header.compressed_bytes
    page = chunk.data[header.end : end]
    if (
        header.kind != DICTIONARY_PAGE
        or header.encoding not in (m.PLAIN, m.PLAIN_DICTIONARY)
        or not 0 <= header.values <= chunk.values
        or header.uncompressed_bytes != header.values * chunk.value_bytes
        or any(one.kind not in (DATA_PAGE, DATA_PAGE_V2) for one in pages)
        or any(one.encoding not in (m.PLAIN_DICTIONARY, m.RLE_DICTIONARY) for one in pages)
        or (header.crc is not None and zlib.crc32(page) != header.crc & 0xFFFF_FFFF)
    ):
        return None
    plain = page if chunk.codec == "UNCOMPRESSED" else _decompressed(chunk.codec, page, header)
    numbers = _integers(plain, header.values, chunk.value_bytes)
    packed = _compressed(chunk.codec, numbers)
    made = m.dictionary_header(len(packed), values=header.values, plain_bytes=len(numbers))
    length = len(made) + len(packed)
    return chunk.integers(m.INT64, length, chunk.data[end:], (made, packed))


def _pages(data: m.Pages) -> Iterator[PageHeader]:
    """Yield the headers of all pages.

    Raises:
        CorruptTableError, IndexError: the last page does not end where the data do.
    """
    at = 0
    while at < len(data):
        header = _header(data, at)
        yield header
        at = header.end + header.compressed_bytes
    if at != len(data):
        raise IndexError("a page is longer than what is left")


def _header(data: m.Pages, at: int) -> PageHeader:
    """Read the header of a page of numbers at a position; see `_pages`."""
    found = read_page_header(bytes(data[at : at + _HEADER_BYTES_MAX]), 0)
    return replace(found, end=at + found.end)


def _decompressed(codec: str, page: m.Pages, header: PageHeader) -> memoryview:
    size = header.uncompressed_bytes
    return bytes_of(_codec(codec).decompress(page, decompressed_size=size))


def _compressed(codec: str, plain: memoryview) -> memoryview:
    if codec == "UNCOMPRESSED":
        return plain
    level = _ZSTD_FASTEST if codec == "ZSTD" else None
    return bytes_of(_codec(codec, level).compress(plain))


def bytes_of(buffer: pa.Buffer) -> memoryview:
    """Return a view of a buffer, byte by byte."""
    # An empty one cannot be cast.
    return memoryview(buffer).cast("B") if buffer.size else memoryview(b"")


def _codec(name: str, level: int | None = None) -> pa.Codec:
    # Blocks without frames, which is what readers try after the frames of old.
    return pa.Codec("lz4_raw" if name == "LZ4" else name.lower(), level)


def _integers(plain: m.Pages, count: int, value_bytes: int) -> memoryview:
    """Return big-endian numbers of up to 8 bytes as 64-bit integers."""
    if len(plain) != count * value_bytes:
        raise ValueError("the dictionary has another length than it says")
    found = np.empty(count, "<i8")
    # Each is read with what follows it behind it: there is nothing behind the last ones.
    whole = max(0, count - _WORD_BYTES)
    found[:whole] = np.ndarray((whole,), ">i8", plain, strides=(value_bytes,))
    end = bytes(plain[whole * value_bytes :]) + bytes(_WORD_BYTES)
    found[whole:] = np.ndarray((count - whole,), ">i8", end, strides=(value_bytes,))
    # The sign comes down with the number.
    found >>= 8 * (_WORD_BYTES - value_bytes)
    view: memoryview = found.view(np.uint8).data
    return view
