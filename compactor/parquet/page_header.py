"""What the header of a page says."""

from __future__ import annotations

from compactor.parquet.thrift import I32, STRUCT, fields, read_signed

_DICTIONARY_HEADER, _VALUES = 7, 1


def dictionary_entries(header: bytes) -> int | None:
    """Return how many values a dictionary page has; None when it is another page.

    Raises:
        CorruptTableError: the bytes are no header.
        IndexError: they end before the header does.
    """
    for one in fields(header, 0):
        if one.number == _DICTIONARY_HEADER and one.kind == STRUCT:
            for inner in fields(header, one.start):
                if inner.number == _VALUES and inner.kind == I32:
                    return read_signed(header, inner.start)[0]
    return None
