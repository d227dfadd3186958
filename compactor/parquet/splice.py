"""Row groups of several files as one file, byte for byte: which bytes go where, and the new footer.

The output is laid out as

    PAR1 | pages and Bloom filters, source by source | column indexes | offset indexes | footer

Nothing but what the footers refer to is copied: bytes of row groups that are left out, and gaps
between chunks, stay behind. Every range moves by a shift of its own, so it does not matter where
a writer puts its Bloom filters. All that is new is computed here, from footers and page indexes;
moving the bytes is up to `writing`.

A range is copied once: sources whose ranges overlap are refused, so the output is never larger
than its inputs, whatever their footers say.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from catalog.errors import UnsupportedTableError
from compactor.parquet import scan as s
from compactor.parquet.compatibility import obstacle, why_not
from compactor.parquet.footer import Footer
from compactor.parquet.thrift import corrupt, decoding

MAGIC = b"PAR1"
# Row groups are numbered by 16 bits with a sign.
ROW_GROUPS_MAX = 32_767


@dataclass(frozen=True, slots=True)
class SpliceSource:
    """Row groups of one file, in the order in which they are wanted; none twice."""

    footer: Footer
    row_groups: Sequence[int]


class Copy(NamedTuple):
    """A range of bytes of a source and its place in the output.

    Attributes:
        source: index of the source in the plan.
        offset: where the range begins in the source.
        length: its length.
        destination: where it begins in the output.
    """

    source: int
    offset: int
    length: int
    destination: int


@dataclass(frozen=True, slots=True)
class Placed:
    """How far the ranges of one source move, chunk by chunk of its wanted row groups.

    Attributes:
        chunks: shifts of the column chunks in bytes.
        bloom_filters: shifts of their Bloom filters; 0 where there is none.
    """

    chunks: array[int]
    bloom_filters: array[int]


@dataclass(frozen=True, slots=True)
class SplicePlan:
    """A file to be made of ranges of others.

    Attributes:
        sources: what it is made of.
        copies: the ranges, in the order of their destinations, which have no gaps between them.
        placed: for each source, how far its ranges move.
        body_end: where the ranges end and the column indexes begin.
    """

    sources: tuple[SpliceSource, ...]
    copies: tuple[Copy, ...] = field(repr=False)
    placed: tuple[Placed, ...] = field(repr=False)
    body_end: int

    @property
    def row_counts(self) -> tuple[int, ...]:
        """Number of rows of each row group of the output."""
        return tuple(
            one.footer.row_groups[index * s.GROUP_WIDTH + s.GROUP_ROWS]
            for one in self.sources
            for index in one.row_groups
        )

    @property
    def copied_bytes(self) -> int:
        """Bytes that are copied."""
        return self.body_end - len(MAGIC)


def plan_splice(sources: Sequence[SpliceSource]) -> SplicePlan:
    """Lay out one file of the row groups of several, in the given order.

    Raises:
        UnsupportedTableError: the row groups cannot stand under one footer; the message says why.
        CorruptTableError: a footer refers to the same bytes twice.
        ValueError: there is no source, or a row group is named twice or does not exist.
    """
    if not sources:
        raise ValueError("a splice needs a source")
    _require_compatible(sources)
    copies: list[Copy] = []
    placed = []
    at = len(MAGIC)
    for index, source in enumerate(sources):
        with decoding(str(source.footer.location)):
            moved, found = _place(index, source, at)
        placed.append(moved)
        copies += found
        at += sum(one.length for one in found)
    return SplicePlan(tuple(sources), tuple(copies), tuple(placed), at)


def _require_compatible(sources: Sequence[SpliceSource]) -> None:
    first = sources[0].footer
    for source in sources:
        footer = source.footer
        reason = obstacle(footer) if footer is first else why_not(first, footer)
        if reason is not None:
            raise UnsupportedTableError(f"{footer.location} cannot be spliced: {reason}")
        if len(set(source.row_groups)) != len(source.row_groups):
            raise ValueError(f"a row group of {footer.location} is wanted twice")
    count = sum(len(source.row_groups) for source in sources)
    if count > ROW_GROUPS_MAX:
        raise UnsupportedTableError(
            f"a file has at most {ROW_GROUPS_MAX} row groups, {count} are wanted"
        )


def _place(index: int, source: SpliceSource, at: int) -> tuple[Placed, list[Copy]]:
    """Lay the ranges of one source one after the other from `at` on, in the order they have."""
    ranges = _ranges(source)
    count = sum(len(source.footer.chunk_rows(group)) for group in source.row_groups)
    shifts = array("q", bytes(16 * count))
    copies: list[Copy] = []
    behind = begin = 0
    for start, length, slot in ranges:
        if start < behind:
            corrupt("two ranges that the footer names overlap")
        if start > behind:
            if behind > begin:
                copies.append(Copy(index, begin, behind - begin, at))
                at += behind - begin
            begin = start
        behind = start + length
        shifts[slot] = at - begin
    if behind > begin:
        copies.append(Copy(index, begin, behind - begin, at))
    return Placed(shifts[:count], shifts[count:]), copies


def _ranges(source: SpliceSource) -> list[tuple[int, int, int]]:
    """Return offset, length and number of each wanted range: the chunks, then the filters."""
    chunks = source.footer.chunks
    rows = [at for group in source.row_groups for at in source.footer.chunk_rows(group)]
    ranges = [
        (chunks[at + s.START], chunks[at + s.COMPRESSED], slot) for slot, at in enumerate(rows)
    ]
    ranges += [
        (chunks[at + s.BLOOM], chunks[at + s.BLOOM_LENGTH], slot)
        for slot, at in enumerate(rows, len(rows))
        if chunks[at + s.BLOOM]
    ]
    ranges.sort()
    return ranges
