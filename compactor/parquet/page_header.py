"""What the header of a page says."""

from __future__ import annotations

from dataclasses import dataclass

from compactor.parquet.thrift import I32, STRUCT, corrupt, fields, read_signed

DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = range(4)
# Fields of PageHeader, and of the structure for each type of page.
TYPE, _UNCOMPRESSED, _COMPRESSED, _CRC = range(1, 5)
_DETAILS = {5: DATA_PAGE, 7: DICTIONARY_PAGE, 8: DATA_PAGE_V2}
_VALUES = 1
_ENCODING = {DATA_PAGE: 2, DICTIONARY_PAGE: 2, DATA_PAGE_V2: 4}


@dataclass(frozen=True, slots=True)
class PageHeader:
    """The header of one page.

    Attributes:
        kind: number of the type of page in the format.
        end: where the page itself begins, counted as the header's own place was.
        uncompressed_bytes: its length before compression.
        compressed_bytes: its length.
        crc: its checksum; None when it has none.
        values: how many it has.
        encoding: number of their encoding in the format; -1 when it is not said.
    """

    kind: int
    end: int
    uncompressed_bytes: int
    compressed_bytes: int
    crc: int | None
    values: int
    encoding: int


def read_page_header(data: bytes, at: int) -> PageHeader:
    """Read the header at a position.

    Raises:
        CorruptTableError: the bytes are no header.
        IndexError: they end before the header does.
    """
    numbers: dict[int, int] = {}
    details: dict[int, dict[int, int]] = {}
    end = at
    for one in fields(data, at):
        if one.kind == I32:
            numbers[one.number] = read_signed(data, one.start)[0]
        elif one.kind == STRUCT and one.number in _DETAILS:
            inner = (part for part in fields(data, one.start) if part.kind == I32)
            found = {part.number: read_signed(data, part.start)[0] for part in inner}
            details[_DETAILS[one.number]] = found
        end = one.end
    kind, *sizes = (numbers.get(one, -1) for one in (TYPE, _UNCOMPRESSED, _COMPRESSED))
    if min(kind, *sizes) < 0:
        corrupt("a page lacks its type or its length")
    said = details.get(kind, {})
    return PageHeader(
        kind=kind,
        end=end + 1,
        uncompressed_bytes=sizes[0],
        compressed_bytes=sizes[1],
        crc=numbers.get(_CRC),
        values=said.get(_VALUES, -1),
        encoding=said.get(_ENCODING.get(kind, 0), -1),
    )
