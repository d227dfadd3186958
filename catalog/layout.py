"""How a table wants its data files: sizes, encodings, the order of rows, what footers say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from catalog.model import FileSlice


@dataclass(frozen=True, slots=True)
class SortField:
    """One term of the order of rows.

    Attributes:
        field_id: the column's id in the table's schema.
        path: names from the top-level column down to the leaf.
        is_descending: whether large values come first.
        is_nulls_first: whether nulls come before all values, whatever the direction.
        transform: what the format computes of the column and orders by, in its own words.
        known_as: the path that people know the column by, where it has another name in files.
    """

    field_id: int
    path: tuple[str, ...]
    is_descending: bool = False
    is_nulls_first: bool = True
    transform: str = "identity"
    known_as: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """The path with dots, as people know it."""
        return ".".join(self.known_as or self.path)


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve through the space of some columns: rows along it are close in all of them.

    Attributes:
        kind: `zorder` or `hilbert`.
        fields: the columns.
    """

    kind: str
    fields: tuple[SortField, ...]


class FooterNotes(Protocol):
    """What the footer of one output says of its rows; told of them while it is written."""

    def took(self, file: FileSlice) -> None:
        """Take note that rows which the data file stores are in the output."""

    def added(self, rows: pa.RecordBatch) -> None:
        """Take note of rows that none of these files stores."""

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Return the key-value pairs, once all rows are told."""


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How a table wants its data files written.

    Attributes:
        target_file_size_bytes: size of a data file on storage.
        row_group_size_bytes: bytes of one row group in memory, before encoding.
        row_group_rows_max: rows of one row group at most.
        page_size_bytes: data page size before compression.
        dictionary_page_size_bytes: a column stops using a dictionary beyond this size.
        codec: Parquet compression codec in lower case, `none` for uncompressed.
        codec_level: its level, None for the codec's default.
        bloom_filters: (dotted column name, false positive probability) of the wanted filters.
        footer_metadata: key-value pairs that the format requires in the footer.
        sort_order: how the table wants the rows of a file ordered; empty when it does not care.
        is_codec_required: whether the table asks for the codec; where it does not, what has another
            one may stay as it is.
        own_name_column: the top-level text column that holds the name of the very file; empty for
            none. It is made anew for each output, and no proof is about it.
        replaced_footer_keys: key-value metadata of data files that is not taken over into outputs.
        footer_notes: makes the notes of one output; None where footers say nothing of rows. It can
            be pickled.
        changes_in_place: whether a change writes each file slice anew as one file in its place,
            whatever its size, and a row that takes the place of another where that was.
    """

    target_file_size_bytes: int
    row_group_size_bytes: int
    row_group_rows_max: int
    page_size_bytes: int
    dictionary_page_size_bytes: int
    codec: str
    codec_level: int | None
    bloom_filters: tuple[tuple[str, float], ...] = ()
    footer_metadata: tuple[tuple[str, str], ...] = ()
    sort_order: tuple[SortField, ...] = ()
    is_codec_required: bool = True
    own_name_column: str = ""
    replaced_footer_keys: tuple[str, ...] = ()
    footer_notes: Callable[[], FooterNotes] | None = None
    changes_in_place: bool = False
