"""A small Parquet file put together from pages of another: as Arrow reads them in a better way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compactor.parquet.footer import MAGIC
from compactor.parquet.page_header import DATA_PAGE, DICTIONARY_PAGE
from compactor.parquet.thrift import (
    BINARY,
    I32,
    I64,
    LIST,
    STRUCT,
    binary_bytes,
    field_bytes,
    list_bytes,
    signed_bytes,
)

# By their names in Arrow. The older spelling of LZ4 is read as either.
CODECS = {"UNCOMPRESSED": 0, "SNAPPY": 1, "GZIP": 2, "BROTLI": 4, "LZ4": 5, "ZSTD": 6}
INT32, INT64, BYTE_ARRAY = 1, 2, 6
PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY = 0, 2, 3, 8
_REQUIRED, _OPTIONAL = 0, 1
_VERSION = 1
Pages = bytes | memoryview


@dataclass(frozen=True, slots=True)
class MadeColumn:
    """A column of a file with one row group.

    Attributes:
        name: of the column.
        is_nullable: whether its pages say which values are null.
        physical_type: number of the type in the format.
        codec: name of its codec, one of `CODECS`.
        values: number of values, nulls included.
        dictionary_bytes: length of the dictionary page that it begins with; 0 for none.
        data: its pages.
        before: those that come before them, in parts.
    """

    name: str
    is_nullable: bool
    physical_type: int
    codec: str
    values: int
    dictionary_bytes: int
    data: Pages
    before: tuple[Pages, ...] = ()

    @property
    def stored_bytes(self) -> int:
        """Length of all its pages."""
        return sum(map(len, self.before)) + len(self.data)


def made_file(columns: Sequence[MadeColumn], rows: int) -> bytes:
    """Return a file of one row group."""
    described = bytearray()
    at = len(MAGIC)
    for one in columns:
        described += _described(one, at)
        at += one.stored_bytes
    footer = _footer(columns, bytes(described), rows)
    pages = (part for one in columns for part in (*one.before, one.data))
    # Joined once: the pages are most of what a reader of decimals holds.
    return b"".join((MAGIC, *pages, footer, len(footer).to_bytes(4, "little"), MAGIC))


def dictionary_header(page_bytes: int, *, values: int, plain_bytes: int) -> bytes:
    """Return the header of a dictionary page of this length."""
    details = struct((1, I32, signed_bytes(values)), (2, I32, signed_bytes(PLAIN)))
    return _header(DICTIONARY_PAGE, page_bytes, plain_bytes, (7, STRUCT, details))


def plain_page(page: bytes, *, values: int, plain_bytes: int) -> bytes:
    """Return a data page of a required column with its header."""
    levels = signed_bytes(RLE)
    details = struct(
        (1, I32, signed_bytes(values)),
        (2, I32, signed_bytes(PLAIN)),
        (3, I32, levels),
        (4, I32, levels),
    )
    return _header(DATA_PAGE, len(page), plain_bytes, (5, STRUCT, details)) + page


def _header(kind: int, page_bytes: int, plain_bytes: int, details: tuple[int, int, bytes]) -> bytes:
    return struct(
        (1, I32, signed_bytes(kind)),
        (2, I32, signed_bytes(plain_bytes)),
        (3, I32, signed_bytes(page_bytes)),
        details,
    )


def _element(column: MadeColumn) -> bytes:
    repetition = _OPTIONAL if column.is_nullable else _REQUIRED
    return struct(
        (1, I32, signed_bytes(column.physical_type)),
        (3, I32, signed_bytes(repetition)),
        (4, BINARY, binary_bytes(column.name.encode())),
    )


def _described(column: MadeColumn, offset: int) -> bytes:
    """Return what the footer says of a column chunk at a position."""
    encodings = b"".join(map(signed_bytes, (PLAIN, RLE, RLE_DICTIONARY)))
    length = signed_bytes(column.stored_bytes)
    pages = [(9, I64, signed_bytes(offset + column.dictionary_bytes))]
    if column.dictionary_bytes:
        pages.append((11, I64, signed_bytes(offset)))
    metadata = struct(
        (1, I32, signed_bytes(column.physical_type)),
        (2, LIST, list_bytes(3, I32) + encodings),
        (3, LIST, list_bytes(1, BINARY) + binary_bytes(column.name.encode())),
        (4, I32, signed_bytes(CODECS[column.codec])),
        (5, I64, signed_bytes(column.values)),
        (6, I64, length),
        (7, I64, length),
        *pages,
    )
    return struct((2, I64, signed_bytes(offset)), (3, STRUCT, metadata))


def _footer(columns: Sequence[MadeColumn], described: bytes, rows: int) -> bytes:
    count = len(columns)
    root = struct((4, BINARY, binary_bytes(b"schema")), (5, I32, signed_bytes(count)))
    group = struct(
        (1, LIST, list_bytes(count, STRUCT) + described),
        (2, I64, signed_bytes(0)),
        (3, I64, signed_bytes(rows)),
    )
    elements = b"".join(map(_element, columns))
    return struct(
        (1, I32, signed_bytes(_VERSION)),
        (2, LIST, list_bytes(count + 1, STRUCT) + root + elements),
        (3, I64, signed_bytes(rows)),
        (4, LIST, list_bytes(1, STRUCT) + group),
    )


def struct(*found: tuple[int, int, bytes]) -> bytes:
    """Return a struct of fields given by number, wire type and value, in order."""
    data = bytearray()
    last = 0
    for number, kind, value in found:
        data += field_bytes(number, kind, last) + value
        last = number
    return bytes(data) + b"\0"
