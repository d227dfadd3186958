"""The new end of a spliced file: page indexes and footer, rendered from those of its sources.

Each row group's part of the footer is copied with the numbers replaced that say where something
is. What is said once for the file comes from the first source, with rows and row groups of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from compactor.parquet import scan as s
from compactor.parquet.footer import ROW_GROUPS, ROWS, VERSION
from compactor.parquet.page_index import Stretches, shifted_offset_index
from compactor.parquet.splice import MAGIC, Placed, SplicePlan, SpliceSource
from compactor.parquet.thrift import (
    STRUCT,
    decoding,
    field_bytes,
    list_bytes,
    read_signed,
    signed_bytes,
)

# A number to be written over the one at a span, see `scan`.
Edit = tuple[int, int]


@dataclass(slots=True)
class _Indexes:
    """The page indexes of the output, one of each for every column chunk that has it, in order."""

    column_indexes: list[bytes] = field(default_factory=list)
    offset_indexes: list[bytes] = field(default_factory=list)

    def add(self, source: SpliceSource, placed: Placed, pages: Stretches) -> None:
        """Append the page indexes of the wanted row groups of a source."""
        chunks = source.footer.chunks
        rows = (at for group in source.row_groups for at in source.footer.chunk_rows(group))
        for at, shift in zip(rows, placed.chunks, strict=True):
            if chunks[at + s.COLUMN_INDEX]:
                self.column_indexes.append(
                    pages.get(chunks[at + s.COLUMN_INDEX], chunks[at + s.COLUMN_INDEX_LENGTH])
                )
            if chunks[at + s.OFFSET_INDEX]:
                data = pages.get(chunks[at + s.OFFSET_INDEX], chunks[at + s.OFFSET_INDEX_LENGTH])
                start = chunks[at + s.START]
                if shift:
                    data = shifted_offset_index(
                        data, shift, start=start, end=start + chunks[at + s.COMPRESSED]
                    )
                self.offset_indexes.append(data)


def render_tail(plan: SplicePlan, pages: Sequence[Stretches]) -> bytes:
    """Return everything that follows the copied ranges.

    Args:
        plan: the layout.
        pages: for each source, the parts of the file that hold its page indexes.

    Raises:
        CorruptTableError: a page index is not what the footer says.
    """
    indexes = _Indexes()
    for source, placed, parts in zip(plan.sources, plan.placed, pages, strict=True):
        with decoding(str(source.footer.location)):
            indexes.add(source, placed, parts)
    footer = _render_footer(plan, indexes)
    return b"".join(
        (
            *indexes.column_indexes,
            *indexes.offset_indexes,
            footer,
            len(footer).to_bytes(4, "little"),
            MAGIC,
        )
    )


def _render_footer(plan: SplicePlan, indexes: _Indexes) -> bytes:
    counts = plan.row_counts
    first = plan.sources[0].footer
    versions = (read_signed(one.footer.value(VERSION) or b"\0", 0)[0] for one in plan.sources)
    replaced = {
        VERSION: signed_bytes(max(versions)),
        ROWS: signed_bytes(sum(counts)),
        ROW_GROUPS: list_bytes(len(counts), STRUCT) + b"".join(_row_groups(plan, indexes)),
    }
    out = bytearray()
    last = 0
    for one in first.fields:
        out += field_bytes(one.number, one.kind, last)
        out += replaced.get(one.number) or first.data[one.start : one.end]
        last = one.number
    out.append(0)
    return bytes(out)


def _row_groups(plan: SplicePlan, indexes: _Indexes) -> Iterator[bytes]:
    """Yield the serialised row groups of the output."""
    column_at = plan.body_end
    offset_at = column_at + sum(map(len, indexes.column_indexes))
    offset_lengths = iter(map(len, indexes.offset_indexes))
    ordinal = 0
    for source, placed in zip(plan.sources, plan.placed, strict=True):
        footer = source.footer
        shifts = iter(zip(placed.chunks, placed.bloom_filters, strict=True))
        for group in source.row_groups:
            edits: list[Edit] = []
            starts = []
            for at in footer.chunk_rows(group):
                row = footer.chunks[at : at + s.CHUNK_WIDTH]
                shift, bloom_shift = next(shifts)
                starts.append(row[s.START] + shift)
                _move_chunk(row, shift, bloom_shift, edits)
                if row[s.OFFSET_INDEX]:
                    length = next(offset_lengths)
                    edits.append((row[s.SPANS + s.OFFSET_INDEX], offset_at))
                    edits.append((row[s.SPANS + s.OFFSET_INDEX_LENGTH], length))
                    offset_at += length
                if row[s.COLUMN_INDEX]:
                    edits.append((row[s.SPANS + s.COLUMN_INDEX], column_at))
                    column_at += row[s.COLUMN_INDEX_LENGTH]
            yield _row_group(source, group, edits, (min(starts, default=0), ordinal))
            ordinal += 1


def _move_chunk(row: Sequence[int], shift: int, bloom_shift: int, edits: list[Edit]) -> None:
    """Add the edits of a column chunk that follow from where its pages and its filter go."""
    old = row[s.FILE_OFFSET]
    if old:
        # It may point at metadata behind the chunk, which is not copied.
        is_kept = row[s.START] <= old <= row[s.START] + row[s.COMPRESSED]
        edits.append((row[s.SPANS + s.FILE_OFFSET], old + shift if is_kept else 0))
    edits += [
        (row[s.SPANS + column], row[column] + shift)
        for column in (s.DATA_PAGE, s.INDEX_PAGE, s.DICTIONARY_PAGE)
        if row[column]
    ]
    if row[s.BLOOM]:
        edits.append((row[s.SPANS + s.BLOOM], row[s.BLOOM] + bloom_shift))


def _row_group(
    source: SpliceSource, group: int, edits: list[Edit], place: tuple[int, int]
) -> bytes:
    footer = source.footer
    row = footer.row_groups[group * s.GROUP_WIDTH : (group + 1) * s.GROUP_WIDTH]
    for column, value in zip((s.GROUP_FILE_OFFSET, s.GROUP_ORDINAL), place, strict=True):
        if row[s.GROUP_SPANS + column]:
            edits.append((row[s.GROUP_SPANS + column], value))
    return _edited(footer.data, row[s.GROUP_BEGIN], row[s.GROUP_END], edits)


def _edited(data: bytes, at: int, end: int, edits: list[Edit]) -> bytes:
    """Copy a stretch with numbers replaced, which are given in the order they stand in."""
    out = []
    for span, value in edits:
        start = span >> 4
        out.append(data[at:start])
        out.append(signed_bytes(value))
        at = start + (span & 15)
    out.append(data[at:end])
    return b"".join(out)
