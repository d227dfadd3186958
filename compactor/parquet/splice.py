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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from catalog.errors import UnsupportedTableError
from compactor.parquet import scan as s
from compactor.parquet.compatibility import why_not, why_not_columns
from compactor.parquet.footer import MAGIC, Footer
from compactor.parquet.thrift import corrupt, decoding

# Row groups are numbered by 16 bits with a sign.
ROW_GROUPS_MAX = 32_767


@dataclass(frozen=True, slots=True)
class SpliceSource:
    """Row groups of one file.

    Attributes:
        footer: of the file.
        row_groups: the wanted ones, in the order in which they are wanted; none twice.
        columns: the wanted leaf columns, all of them when it is None.
    """

    footer: Footer
    row_groups: Sequence[int]
    columns: range | None = None

    @property
    def leaves(self) -> range:
        """The wanted leaf columns."""
        return range(self.footer.column_count) if self.columns is None else self.columns

    def chunk_rows(self, row_group: int) -> range:
        """Return where in the footer's `chunks` the rows of the wanted columns begin."""
        rows = self.footer.chunk_rows(row_group)
        return rows if self.columns is None else rows[self.columns.start : self.columns.stop]


@dataclass(frozen=True, slots=True)
class Assembly:
    """One row group whose columns lie in several files, as when only some must be encoded anew.

    Attributes:
        parts: sources of one row group each, of the same rows, their columns in the order of the
            output. What is said of the row group as a whole comes from the first.
    """

    parts: tuple[SpliceSource, ...]


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

    def shifts(self) -> Iterator[tuple[int, int]]:
        """Yield the shifts of each chunk and of its Bloom filter."""
        return zip(self.chunks, self.bloom_filters, strict=True)


@dataclass(frozen=True, slots=True)
class SplicePlan:
    """A file to be made of ranges of others.

    Attributes:
        like: what is said once for the file is taken from here.
        sources: what it is made of.
        units: which sources stand together: one with all its columns, or those of an assembly.
        copies: the ranges, in the order of their destinations, which have no gaps between them.
        placed: for each source, how far its ranges move.
        body_end: where the ranges end and the column indexes begin.
    """

    like: Footer
    sources: tuple[SpliceSource, ...]
    units: tuple[range, ...] = field(repr=False)
    copies: tuple[Copy, ...] = field(repr=False)
    placed: tuple[Placed, ...] = field(repr=False)
    body_end: int

    @property
    def row_counts(self) -> tuple[int, ...]:
        """Number of rows of each row group of the output."""
        return tuple(
            _rows(one, index)
            for one in (self.sources[unit.start] for unit in self.units)
            for index in one.row_groups
        )

    @property
    def copied_bytes(self) -> int:
        """Bytes that are copied."""
        return self.body_end - len(MAGIC)


def plan_splice(
    sources: Sequence[SpliceSource | Assembly],
    *,
    like: Footer | None = None,
    ignored_keys: frozenset[bytes] = frozenset(),
) -> SplicePlan:
    """Lay out one file of the row groups of several, in the given order.

    Args:
        sources: the row groups.
        like: a footer with the schema and the key-value metadata of the output; that of the first
            source when it is None.
        ignored_keys: key-value metadata of the sources that may be missing in the output.

    Raises:
        UnsupportedTableError: the row groups cannot stand under one footer; the message says why.
        CorruptTableError: a footer refers to the same bytes twice.
        ValueError: there is no source, a row group is named twice or does not exist, or the parts
            of an assembly have different numbers of rows.
    """
    if not sources:
        raise ValueError("a splice needs a source")
    first = sources[0].parts[0] if isinstance(sources[0], Assembly) else sources[0]
    target = like or first.footer
    flat: list[SpliceSource] = []
    units = []
    for one in sources:
        if isinstance(one, Assembly):
            _check_assembly(target, one, ignored_keys)
        else:
            _check_source(target, one, ignored_keys)
        begin = len(flat)
        flat += one.parts if isinstance(one, Assembly) else (one,)
        units.append(range(begin, len(flat)))
    count = sum(len(flat[unit.start].row_groups) for unit in units)
    if count > ROW_GROUPS_MAX:
        raise UnsupportedTableError(
            f"a file has at most {ROW_GROUPS_MAX} row groups, {count} are wanted"
        )
    copies, placed = _place_all(flat)
    end = copies[-1].destination + copies[-1].length if copies else len(MAGIC)
    return SplicePlan(target, tuple(flat), tuple(units), tuple(copies), tuple(placed), end)


def _check_source(target: Footer, source: SpliceSource, ignored_keys: frozenset[bytes]) -> None:
    footer = source.footer
    _refuse(why_not(target, footer, ignored_keys=ignored_keys), footer)
    if len(set(source.row_groups)) != len(source.row_groups):
        raise ValueError(f"a row group of {footer.location} is wanted twice")
    if source.leaves != range(footer.column_count):
        raise ValueError(f"not all columns of {footer.location} are wanted")


def _check_assembly(target: Footer, assembly: Assembly, ignored_keys: frozenset[bytes]) -> None:
    first = assembly.parts[0]
    groups = [(one, one.row_groups[0]) for one in assembly.parts if len(one.row_groups) == 1]
    if len(groups) != len(assembly.parts) or len({_rows(*one) for one in groups}) != 1:
        raise ValueError("the parts of an assembly are no row groups of the same rows")
    parts = [(one.footer, one.leaves) for one in assembly.parts]
    reason = why_not_columns(target, parts, ignored_keys=ignored_keys)
    if any(one.footer.states_order(group) for one, group in groups):
        reason = reason or "a row group states by which columns it is sorted"
    _refuse(reason, first.footer)


def _refuse(reason: str | None, footer: Footer) -> None:
    if reason is not None:
        raise UnsupportedTableError(f"{footer.location} cannot be spliced: {reason}")


def _group(source: SpliceSource, row_group: int) -> array[int]:
    return source.footer.group_row(row_group)


def _rows(source: SpliceSource, row_group: int) -> int:
    return _group(source, row_group)[s.GROUP_ROWS]


def _place_all(sources: Sequence[SpliceSource]) -> tuple[list[Copy], list[Placed]]:
    copies: list[Copy] = []
    placed = []
    at = len(MAGIC)
    for index, source in enumerate(sources):
        with decoding(str(source.footer.location)):
            moved, found = _place(index, source, at)
        placed.append(moved)
        copies += found
        at += sum(one.length for one in found)
    return copies, placed


def _place(index: int, source: SpliceSource, at: int) -> tuple[Placed, list[Copy]]:
    """Lay the ranges of one source one after the other from `at` on, in the order they have."""
    ranges = _ranges(source)
    count = len(source.leaves) * len(source.row_groups)
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
    rows = [at for group in source.row_groups for at in source.chunk_rows(group)]
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
