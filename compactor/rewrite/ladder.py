"""Decide for each row group of a file group whether its bytes are copied or its rows encoded anew.

Only footers are read. A row group is copied when no row of it is dropped, when it can stand under
the footer that our own encoder writes for the table, and when it is worth keeping as it is. The
reason why one is not is kept: it is told with the result.

Neighbours that are merely small are encoded together. A small one between two that are copied
stays what it is: encoded alone it would be as small again. So at most every second row group of
an output is below the limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.model import FileSlice, Selection
from catalog.table import TableFiles
from compactor.parquet import Footer, has_page_checksums, why_not
from compactor.rewrite.encoding import Encoding, column_leaves
from compactor.rewrite.footers import Footers
from compactor.rewrite.rolling import SHARE_MAX, file_count
from compactor.splicing import SpliceLimits

TOUCHED = "rows of it were deleted"
SMALL = "too small, or its column chunks are"
TOO_LARGE = "too large for files of the target size"
FOOTER_FULL = "too small for the footer of a file"
OTHER_CODEC = "another codec than the table's"
NO_FILTER = "no Bloom filter where the table wants one"
UNFILLED = "values that follow from the file it is in are not stored"
# Files whose footers are read ahead together.
_FETCHED_FILES = 64
# Codecs of the format by number, as layouts name them; both spellings of LZ4 differ in their bytes.
_CODECS = {
    "none": 0,
    "uncompressed": 0,
    "snappy": 1,
    "gzip": 2,
    "brotli": 4,
    "zstd": 6,
    "lz4": 7,
    "lz4_raw": 7,
}


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring row groups of one file that move in the same way.

    Attributes:
        file: the file.
        row_groups: their numbers, ascending; None for all, where the footer was not understood.
        stored_bytes: what their surviving rows take in the file.
        is_copied: whether they are copied as they are.
    """

    file: FileSlice
    row_groups: tuple[int, ...] | None
    stored_bytes: float
    is_copied: bool


@dataclass(slots=True)
class Decisions:
    """How a file group is rewritten.

    Attributes:
        runs: what is written, in order; row groups without survivors are in none.
        encoding: how rows are encoded, so that they can stand beside what is copied.
        like: the footer of such a file, without row groups.
        reasons: row groups that are not copied, by the reason.
        bytes_spliced: bytes that are copied.
        copied_file_bytes: what they take of their files, page indexes and footer included.
        bytes_unchecked: the part of them whose pages carry no checksums.
        row_groups_spliced: row groups that are copied.
    """

    runs: list[Run]
    encoding: Encoding
    like: Footer
    reasons: Counter[str] = field(default_factory=Counter)
    bytes_spliced: int = 0
    copied_file_bytes: int = 0
    bytes_unchecked: int = 0
    row_groups_spliced: int = 0

    @property
    def encoded_bytes(self) -> float:
        """Stored size of the rows that are encoded anew."""
        return sum(run.stored_bytes for run in self.runs if not run.is_copied)


@dataclass(frozen=True, slots=True)
class _Piece:
    """One row group with surviving rows.

    Attributes:
        file: the file.
        row_group: its number; None for a file whose footer was not understood.
        stored_bytes: what its surviving rows take in the file.
        misfits: for each way to encode, why it cannot stand beside that; empty where it can.
        obstacle: why it is not to be copied all the same; empty when it is.
    """

    file: FileSlice
    row_group: int | None
    stored_bytes: float
    misfits: tuple[str, ...]
    obstacle: str

    def reason(self, way: int) -> str:
        """Return why it is not copied; empty when it is."""
        return self.misfits[way] or self.obstacle


@dataclass(frozen=True, slots=True)
class Ladder:
    """What deciding takes.

    Attributes:
        table: the workers' side of the snapshot.
        footers: reads and keeps them.
        limits: what a row group must be like.
        encodings: the ways in which rows can be encoded, the preferred one first.
        target_bytes: size of an output.
        total_bytes: stored size of all surviving rows.
    """

    table: TableFiles
    footers: Footers
    limits: SpliceLimits
    encodings: tuple[Encoding, ...]
    target_bytes: int
    total_bytes: float

    def decide(self, files: Sequence[tuple[FileSlice, Selection]]) -> Decisions:
        """Decide for every row group of a file group.

        Args:
            files: the slices and the rows that they lose.

        Raises:
            ObjectNotFoundError, AccessDeniedError, StorageError: a footer cannot be read.
            CorruptTableError: a file has another number of rows than the metadata says.
        """
        likes = [encoding.empty_footer() for encoding in self.encodings]
        pieces: list[_Piece] = []
        for start in range(0, len(files), _FETCHED_FILES):
            some = files[start : start + _FETCHED_FILES]
            self.footers.fetch([file for file, _ in some])
            pieces += [one for pair in some for one in self._pieces(*pair, likes)]
        copied_bytes = [
            sum(piece.stored_bytes for piece in pieces if not piece.reason(way))
            for way in range(len(likes))
        ]
        way = copied_bytes.index(max(copied_bytes, default=0))
        reasons = [piece.reason(way) for piece in pieces]
        _spare_the_lonely(reasons)
        decisions = Decisions([], self.encodings[way], likes[way])
        decisions.runs = list(_runs(pieces, reasons))
        self._count(decisions, reasons)
        return decisions

    def _pieces(
        self, file: FileSlice, selection: Selection, likes: Sequence[Footer]
    ) -> Iterator[_Piece]:
        try:
            footer = self.footers.get(file)
            ignored = self.encodings[0].replaced_keys()
            found = [why_not(like, footer, ignored_keys=ignored) for like in likes]
            misfits = tuple(reason or "" for reason in found)
        except (CorruptTableError, UnsupportedTableError):
            # Whether the file can be read at all is for the reader of rows to say.
            reason = "the footer is not understood"
            yield _Piece(file, None, _kept_bytes(file, selection), (reason,) * len(likes), "")
            return
        if footer.row_count != file.row_count:
            raise CorruptTableError(
                f"{file.path}: the metadata says {file.row_count} rows,"
                f" the footer of the file {footer.row_count}"
            )
        filled = () if all(misfits) else self._filled_leaves(file)
        start = 0
        for index in range(footer.row_group_count):
            group = footer.row_group(index)
            first, last = np.searchsorted(selection.dropped, [start, start + group.row_count])
            start += group.row_count
            kept = group.row_count - int(last - first)
            if kept:
                is_filled = any(footer.chunk(index, leaf).null_count != 0 for leaf in filled)
                obstacle = UNFILLED if is_filled else self._obstacle(footer, index)
                obstacle = TOUCHED if last > first else obstacle
                size = group.compressed_bytes * kept / group.row_count
                yield _Piece(file, index, size, misfits, obstacle)
        if all(misfits):
            self.footers.release(file)

    def _filled_leaves(self, file: FileSlice) -> Sequence[int]:
        """Return the leaf columns of which a stored null would have another meaning elsewhere."""
        fillings = self.table.fillings(file)
        stored = self.table.schema.stored.arrow
        filled = {
            number for number, one in fillings.items() if one.fills_nulls and one.start.is_valid
        }
        return column_leaves(stored, filled) if filled else ()

    def _obstacle(self, footer: Footer, index: int) -> str:
        limits, group = self.limits, footer.row_group(index)
        if limits.keeps_layout and (reason := self._other_layout(footer, index)):
            return reason
        is_divided = file_count(self.total_bytes, self.target_bytes) > 1
        if is_divided and group.compressed_bytes > limits.row_group_bytes_max:
            return TOO_LARGE
        if limits.overfills_footer(
            group.compressed_bytes,
            footer_bytes=footer.row_group_footer_bytes(index),
            file_bytes_max=min(self.total_bytes, SHARE_MAX * self.target_bytes),
        ):
            return FOOTER_FULL
        return SMALL if limits.is_small(group.compressed_bytes, footer.column_count) else ""

    def _other_layout(self, footer: Footer, index: int) -> str:
        layout = self.encodings[0].layout
        wanted = self.encodings[0].filtered_leaves()
        codec = _CODECS.get(layout.codec)
        chunks = [footer.chunk(index, column) for column in range(footer.column_count)]
        if any(chunk.codec != codec for chunk in chunks):
            return OTHER_CODEC
        is_filtered = [chunk.has_bloom_filter for chunk in chunks]
        if any(leaf >= len(chunks) or not is_filtered[leaf] for leaf in wanted):
            return NO_FILTER
        return ""

    def _count(self, decisions: Decisions, reasons: Sequence[str]) -> None:
        decisions.reasons.update(reason for reason in reasons if reason)
        copied: dict[str, list[Run]] = {}
        for run in decisions.runs:
            if run.is_copied:
                copied.setdefault(run.file.path, []).append(run)
        for run in decisions.runs:
            if run.file.path not in copied:
                self.footers.release(run.file)
        first = {path: (runs[0].row_groups or (0,))[0] for path, runs in copied.items()}
        is_checked = self.footers.each(
            lambda file: has_page_checksums(
                self.table.storage, self.footers.get(file), first[file.path]
            ),
            [runs[0].file for runs in copied.values()],
        )
        for runs, has_checksums in zip(copied.values(), is_checked, strict=True):
            footer = self.footers.get(runs[0].file)
            row_groups = [number for run in runs for number in run.row_groups or ()]
            copied_bytes = round(sum(run.stored_bytes for run in runs))
            decisions.bytes_spliced += copied_bytes
            decisions.bytes_unchecked += 0 if has_checksums else copied_bytes
            decisions.row_groups_spliced += len(row_groups)
            decisions.copied_file_bytes += sum(map(footer.row_group_file_bytes, row_groups))


def _kept_bytes(file: FileSlice, selection: Selection) -> float:
    return file.size_bytes * (1 - len(selection.dropped) / max(1, file.row_count))


def _spare_the_lonely(reasons: list[str]) -> None:
    """Copy what is only small and has no neighbour to be encoded with."""
    small = [index for index, reason in enumerate(reasons) if reason == SMALL]
    lonely = [
        index
        for index in small
        if not any(reasons[max(0, index - 1) : index]) and not any(reasons[index + 1 : index + 2])
    ]
    for index in lonely:
        reasons[index] = ""


def _runs(pieces: Sequence[_Piece], reasons: Sequence[str]) -> Iterator[Run]:
    """Yield neighbours of one file that move in the same way together."""
    judged = zip(pieces, reasons, strict=True)
    for (_, is_copied), some in groupby(judged, lambda one: (one[0].file.path, not one[1])):
        members = [piece for piece, _ in some]
        numbers = tuple(piece.row_group for piece in members if piece.row_group is not None)
        size = sum(piece.stored_bytes for piece in members)
        yield Run(members[0].file, numbers or None, size, is_copied)
