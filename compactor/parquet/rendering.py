"""The new end of a spliced file: page indexes and footer, rendered from those of its sources.

Each row group's part of the footer is copied with the numbers replaced that say where something
is. What is said once for the file comes from one footer, with rows and row groups of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from catalog.errors import UnsupportedTableError
from compactor.parquet import scan as s
from compactor.parquet.footer import MAGIC, ROW_GROUPS, ROWS, VERSION
from compactor.parquet.page_index import Stretches, shifted_offset_index
from compactor.parquet.splice import Placed, SplicePlan, SpliceSource
from compactor.parquet.thrift import (
    I16,
    LIST,
    STRUCT,
    decoding,
    field_bytes,
    list_bytes,
    read_signed,
    signed_bytes,
)

# Readers take its length for a signed integer of 32 bits.
FOOTER_BYTES_MAX = (1 << 31) - 1
# The header of the field that numbers a row group, whichever field it follows.
_ORDINAL_HEADER = field_bytes(7, I16, 7)
# A number to be written over the one at a span, see `scan`.
Edit = tuple[int, int]
# The first field of a row group, its list of column chunks.
_CHUNKS_HEADER = field_bytes(1, LIST, 0)


@dataclass(slots=True)
class _Indexes:
    """The page indexes of the output, one of each for every column chunk that has it, in order."""

    column_indexes: list[bytes] = field(default_factory=list)
    offset_indexes: list[bytes] = field(default_factory=list)

    def add(self, source: SpliceSource, placed: Placed, pages: Stretches) -> None:
        """Append the page indexes of the wanted row groups of a source."""
        chunks = source.footer.chunks
        rows = (at for group in source.row_groups for at in source.chunk_rows(group))
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
        UnsupportedTableError: the footer would be longer than `FOOTER_BYTES_MAX`.
    """
    indexes = _Indexes()
    for source, placed, parts in zip(plan.sources, plan.placed, pages, strict=True):
        with decoding(str(source.footer.location)):
            indexes.add(source, placed, parts)
    footer = _render_footer(plan, indexes)
    if len(footer) > FOOTER_BYTES_MAX:
        raise UnsupportedTableError(f"a footer of {len(footer)} bytes is more than readers take")
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
    like = plan.like
    footers = (like, *(one.footer for one in plan.sources))
    versions = (read_signed(one.value(VERSION) or b"\0", 0)[0] for one in footers)
    replaced = {
        VERSION: signed_bytes(max(versions)),
        ROWS: signed_bytes(sum(counts)),
        ROW_GROUPS: list_bytes(len(counts), STRUCT) + b"".join(_row_groups(plan, indexes)),
    }
    out = bytearray()
    last = 0
    for one in like.fields:
        out += field_bytes(one.number, one.kind, last)
        out += replaced.get(one.number) or like.data[one.start : one.end]
        last = one.number
    out.append(0)
    return bytes(out)


def _row_groups(plan: SplicePlan, indexes: _Indexes) -> Iterator[bytes]:
    """Yield the serialised row groups of the output."""
    chunks = _Chunks(
        column_at=plan.body_end,
        offset_at=plan.body_end + sum(map(len, indexes.column_indexes)),
        offset_lengths=map(len, indexes.offset_indexes),
    )
    ordinal, are_numbered = 0, _are_numbered(plan)
    for unit in plan.units:
        moved = [(plan.sources[index], plan.placed[index].shifts()) for index in unit]
        first = plan.sources[unit.start]
        for nth, group in enumerate(first.row_groups):
            chunks.begin_row_group()
            data = b"".join(
                chunks.render(source, source.row_groups[nth], shifts) for source, shifts in moved
            )
            row = first.footer.group_row(group)
            numbers = {s.GROUP_FILE_OFFSET: chunks.start, s.GROUP_ORDINAL: ordinal}
            if len(unit) > 1:
                numbers[s.GROUP_BYTES] = chunks.uncompressed_bytes
                numbers[s.GROUP_COMPRESSED] = chunks.compressed_bytes
            edits = [
                (row[s.GROUP_SPANS + column], value)
                for column, value in sorted(numbers.items())
                if row[s.GROUP_SPANS + column]
            ]
            yield _CHUNKS_HEADER + list_bytes(chunks.count, STRUCT) + data
            rest = _edited(first.footer.data, row[s.GROUP_CHUNKS_END], row[s.GROUP_END], edits)
            if are_numbered and not row[s.GROUP_SPANS + s.GROUP_ORDINAL]:
                rest = rest[:-1] + _ORDINAL_HEADER + signed_bytes(ordinal) + b"\0"
            yield rest
            ordinal += 1


def _are_numbered(plan: SplicePlan) -> bool:
    """Whether any row group states its place: there are readers that take all to do so, or none."""
    rows = (
        first.footer.group_row(group)
        for first in (plan.sources[unit.start] for unit in plan.units)
        for group in first.row_groups
    )
    return any(row[s.GROUP_SPANS + s.GROUP_ORDINAL] for row in rows)


@dataclass(slots=True)
class _Chunks:
    """Renders column chunks one after the other, and sums up what its row group says of them.

    Attributes:
        column_at: position of the next column index in the output.
        offset_at: position of the next offset index.
        offset_lengths: the lengths of those.
        count: chunks of this row group.
        start: position of the first page of this row group.
        compressed_bytes: length of the chunks of this row group.
        uncompressed_bytes: their length before compression.
    """

    column_at: int
    offset_at: int
    offset_lengths: Iterator[int]
    count: int = 0
    start: int = 0
    compressed_bytes: int = 0
    uncompressed_bytes: int = 0

    def begin_row_group(self) -> None:
        """Forget the chunks of the row group before."""
        self.count = self.start = self.compressed_bytes = self.uncompressed_bytes = 0

    def render(
        self, source: SpliceSource, row_group: int, shifts: Iterator[tuple[int, int]]
    ) -> bytes:
        """Return the wanted column chunks of a row group as they are in the output."""
        footer = source.footer
        edits: list[Edit] = []
        rows = source.chunk_rows(row_group)
        for at in rows:
            row = footer.chunks[at : at + s.CHUNK_WIDTH].tolist()
            shift, bloom_shift = next(shifts)
            _move_chunk(row, shift, bloom_shift, edits)
            self._move_indexes(row, edits)
            start = row[s.START] + shift
            self.start = min(self.start, start) if self.count else start
            self.count += 1
            self.compressed_bytes += row[s.COMPRESSED]
            self.uncompressed_bytes += row[s.UNCOMPRESSED]
        if not rows:
            return b""
        begin, end = footer.chunks[rows[0] + s.BEGIN], footer.chunks[rows[-1] + s.END]
        return _edited(footer.data, begin, end, edits)

    def _move_indexes(self, row: Sequence[int], edits: list[Edit]) -> None:
        if row[s.OFFSET_INDEX]:
            length = next(self.offset_lengths)
            edits.append((row[s.SPANS + s.OFFSET_INDEX], self.offset_at))
            edits.append((row[s.SPANS + s.OFFSET_INDEX_LENGTH], length))
            self.offset_at += length
        if row[s.COLUMN_INDEX]:
            edits.append((row[s.SPANS + s.COLUMN_INDEX], self.column_at))
            self.column_at += row[s.COLUMN_INDEX_LENGTH]


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
