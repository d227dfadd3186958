"""The dictionary of a column chunk by itself: its values are read without those of the rows."""

from __future__ import annotations

from dataclasses import dataclass

from compactor.parquet import making as m
from compactor.parquet.page_header import DICTIONARY_PAGE, TYPE, read_page_header
from compactor.parquet.thrift import fields, read_signed

_LENGTH_BYTES = 4
# A header has some small numbers, two more in a structure, and no statistics.
HEADER_BYTES_MAX = 256


@dataclass(frozen=True, slots=True)
class DictionaryPage:
    """Where the values of a dictionary of byte arrays are, and what is known of them unread.

    Attributes:
        offset: where the page begins in its file, its header left out.
        compressed_bytes: its length.
        uncompressed_bytes: its length before compression.
        entries: number of values.
    """

    offset: int
    compressed_bytes: int
    uncompressed_bytes: int
    entries: int

    @property
    def longest_bytes_max(self) -> int:
        """What the longest value can have if it takes all that the others leave."""
        return max(0, self.uncompressed_bytes - _LENGTH_BYTES * self.entries)

    def as_file(self, page: bytes, codec: str) -> bytes:
        """Return a file with one column of byte arrays: the values, one row each."""
        data = m.plain_page(page, values=self.entries, plain_bytes=self.uncompressed_bytes)
        column = m.MadeColumn(
            name="values",
            is_nullable=False,
            physical_type=m.BYTE_ARRAY,
            codec=codec,
            values=self.entries,
            dictionary_bytes=0,
            data=data,
        )
        return m.made_file([column], self.entries)


def find_dictionary(data: bytes, offset: int) -> DictionaryPage | None:
    """Return the dictionary page that a column chunk begins with; None when it does not.

    Args:
        data: the beginning of the chunk, at least `HEADER_BYTES_MAX` if it is so long.
        offset: where in its file that is.

    Raises:
        CorruptTableError: the bytes are no header.
        IndexError: they end before the header does.
    """
    first = next(fields(data, 0), None)
    # What another page has in its header may go on behind these bytes.
    if (
        first is None
        or first.number != TYPE
        or read_signed(data, first.start)[0] != DICTIONARY_PAGE
    ):
        return None
    header = read_page_header(data, 0)
    return DictionaryPage(
        offset=offset + header.end,
        compressed_bytes=header.compressed_bytes,
        uncompressed_bytes=header.uncompressed_bytes,
        entries=header.values,
    )
