"""Decide for each row group of a file group whether its bytes are copied or its rows encoded anew.

Only footers are read. A row group is copied when no row of it is dropped, when it can stand under
the footer that our own encoder writes for the table, and when it is worth keeping as it is. Where
only some of its columns can, those are copied and the others encoded (`fitting`). The reason why
one is not copied at all is kept: it is told with the result.

Neighbours that are merely small are encoded together. A small one between two that are copied
stays what it is: encoded alone it would be as small again. So at most every second row group of
an output is below the limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.location import Location
from catalog.model import FileSlice, Selection
from catalog.schema import field_id
from catalog.table import TableFiles
from compactor.parquet import Footer, has_page_checksums
from compactor.rewrite.encoding import Encoding
from compactor.rewrite.fitting import Fit, Form, Patch
from compactor.rewrite.footers import Footers
from compactor.rewrite.foreign import foreign_form
from compactor.rewrite.rolling import SHARE_MAX, file_count
from compactor.splicing import SpliceLimits

TOUCHED = "rows of it were deleted"
SMALL = "too small, or its column chunks are"
TOO_LARGE = "too large for files of the target size"
TOO_WIDE = "columns to be encoded beside copied ones are too large to be held"
FOOTER_FULL = "too small for the footer of a file"
# Files whose footers are read ahead together.
_FETCHED_FILES = 64


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring row groups of one file that move in the same way.

    Attributes:
        file: the file.
        row_groups: their numbers, ascending; None for all, where the footer was not understood.
        stored_bytes: what their surviving rows take in the file, without what is patched.
        is_copied: whether their bytes are copied, all of them or those of some columns.
        patch: which columns are encoded anew beside those that are copied; None for none.
        patched_bytes: about what these take.
    """

    file: FileSlice
    row_groups: tuple[int, ...] | None
    stored_bytes: float
    is_copied: bool
    patch: Patch | None = None
    patched_bytes: int = 0


@dataclass(slots=True)
class Decisions:
    """How a file group is rewritten.

    Attributes:
        runs: what is written, in order; row groups without survivors are in none.
        form: what outputs are like, so that rows can stand beside what is copied.
        reasons: row groups that are not copied, by the reason.
        bytes_spliced: bytes that are copied.
        copied_file_bytes: what they take of their files, page indexes and footer included.
        bytes_unchecked: the part of them whose pages carry no checksums.
        row_groups_spliced: row groups that are copied as they are.
        row_groups_patched: row groups of which some columns are copied.
        unchecked: the files without checksums.
        added_bytes: about what rows take that come in beside those of the group.
    """

    runs: list[Run]
    form: Form
    reasons: Counter[str] = field(default_factory=Counter)
    bytes_spliced: int = 0
    copied_file_bytes: int = 0
    bytes_unchecked: int = 0
    row_groups_spliced: int = 0
    row_groups_patched: int = 0
    unchecked: set[Location] = field(default_factory=set)
    added_bytes: float = 0.0

    @property
    def copies(self) -> bool:
        """Whether anything is copied."""
        return bool(self.row_groups_spliced or self.row_groups_patched)

    def take_back(self, footer: Footer, row_group: int, patch: Patch) -> None:
        """Note that a row group is encoded as a whole instead of being patched."""
        sizes = footer.chunk_bytes(row_group)
        copied_bytes = sum(sizes[leaf] for leaf in patch.leaves())
        self.bytes_spliced -= copied_bytes
        self.bytes_unchecked -= copied_bytes if footer.location in self.unchecked else 0
        self.row_groups_patched -= 1
        self.reasons[TOO_WIDE] += 1

    def count_row_groups(self, run: Run, footer: Footer) -> None:
        """Add the row groups of a run that is copied, as a whole or in part."""
        some = run.row_groups or ()
        if run.patch is None:
            self.row_groups_spliced += len(some)
            self.copied_file_bytes += sum(map(footer.row_group_file_bytes, some))
        else:
            leaves = run.patch.leaves()
            self.row_groups_patched += len(some)
            self.copied_file_bytes += sum(footer.chunks_file_bytes(one, leaves) for one in some)

    @property
    def encoded_bytes(self) -> float:
        """Stored size of the rows that are encoded, here or anew."""
        anew = sum(run.patched_bytes if run.is_copied else run.stored_bytes for run in self.runs)
        return anew + self.added_bytes


@dataclass(frozen=True, slots=True)
class _Piece:
    """One row group with surviving rows.

    Attributes:
        file: the file.
        row_group: its number; None for a file whose footer was not understood.
        stored_bytes: what its surviving rows take in the file.
        fits: for each form, how it goes into outputs of it.
        obstacle: why it is not to be copied all the same; empty when it is.
    """

    file: FileSlice
    row_group: int | None
    stored_bytes: float
    fits: tuple[Fit, ...]
    obstacle: str

    def reason(self, form: int) -> str:
        """Return why nothing of it is copied; empty when something is."""
        return self.fits[form].reason or self.obstacle


@dataclass(frozen=True, slots=True)
class Ladder:
    """What deciding takes.

    Attributes:
        table: the workers' side of the snapshot.
        footers: reads and keeps them.
        limits: what a row group must be like.
        encodings: the ways in which rows can be encoded, the preferred one first.
        target_bytes: size of an output.
        total_bytes: stored size of all rows to be written.
        added_bytes: the part of it that rows take which come in.
        tail_bytes: the part of it that rows take which slices have behind the stored ones.
    """

    table: TableFiles
    footers: Footers
    limits: SpliceLimits
    encodings: tuple[Encoding, ...]
    target_bytes: int
    total_bytes: float
    added_bytes: float = 0.0
    tail_bytes: float = 0.0

    def decide(self, files: Sequence[tuple[FileSlice, Selection]]) -> Decisions:
        """Decide for every row group of a file group.

        Args:
            files: the slices and the rows that they lose.

        Raises:
            ObjectNotFoundError, AccessDeniedError, StorageError: a footer cannot be read.
            CorruptTableError: a file has another number of rows than the metadata says.
        """
        forms = [
            Form.of(encoding, keeps_layout=self.limits.keeps_layout) for encoding in self.encodings
        ]
        if not self.added_bytes:
            # Rows cannot stand in the form of another writer.
            forms += self._foreign_forms(files, forms)
        pieces: list[_Piece] = []
        for start in range(0, len(files), _FETCHED_FILES):
            some = files[start : start + _FETCHED_FILES]
            self.footers.fetch([file for file, _ in some])
            pieces += [one for pair in some for one in self._pieces(*pair, forms)]
        reasons_of = [[piece.reason(at) for piece in pieces] for at in range(len(forms))]
        for judged in reasons_of:
            _spare_the_lonely(judged)
        copied_bytes = [
            _copied_bytes(form, [piece.fits[at] for piece in pieces], reasons_of[at])
            if not (form.is_only_copied and self.tail_bytes)
            else 0
            for at, form in enumerate(forms)
        ]
        at = copied_bytes.index(max(copied_bytes, default=0))
        reasons = reasons_of[at]
        decisions = Decisions([], forms[at], added_bytes=self.added_bytes + self.tail_bytes)
        decisions.runs = list(_runs(pieces, reasons, at))
        self._count(decisions, reasons)
        return decisions

    def _pieces(
        self, file: FileSlice, selection: Selection, forms: Sequence[Form]
    ) -> Iterator[_Piece]:
        try:
            footer = self.footers.get(file)
            filled = self._filled_columns(file)
            found = [form.fit(footer, filled) for form in forms]
        except (CorruptTableError, UnsupportedTableError):
            # Whether the file can be read at all is for the reader of rows to say.
            fits = (Fit("the footer is not understood"),) * len(forms)
            yield _Piece(file, None, _kept_bytes(file, selection), fits, "")
            return
        if footer.row_count != file.row_count:
            raise CorruptTableError(
                f"{file.path}: the metadata says {file.row_count} rows,"
                f" the footer of the file {footer.row_count}"
            )
        start = 0
        for index in range(footer.row_group_count):
            group = footer.row_group(index)
            first, last = np.searchsorted(selection.dropped, [start, start + group.row_count])
            start += group.row_count
            kept = group.row_count - int(last - first)
            if kept:
                fits = tuple(one.row_group(index) for one in found)
                obstacle = TOUCHED if last > first else self._obstacle(footer, index)
                size = group.compressed_bytes * kept / group.row_count
                yield _Piece(file, index, size, fits, obstacle)
        if all(one.reason for one in found):
            self.footers.release(file)

    def _foreign_forms(
        self, files: Sequence[tuple[FileSlice, Selection]], forms: Sequence[Form]
    ) -> list[Form]:
        """Return the form of the first input, if it may be that of outputs."""
        for file, _ in files[:1]:
            with suppress(CorruptTableError, UnsupportedTableError):
                found = foreign_form(self.footers.get(file), forms, self.table.schema.stored)
                return [] if found is None else [found]
        return []

    def _filled_columns(self, file: FileSlice) -> frozenset[int]:
        """Return the columns in which a stored null would have another meaning elsewhere."""
        fillings = self.table.fillings(file)
        filled = {
            number for number, one in fillings.items() if one.fills_nulls and one.start.is_valid
        }
        if not filled:
            return frozenset()
        columns = enumerate(self.table.schema.stored.arrow)
        return frozenset(at for at, column in columns if field_id(column) in filled)

    def _obstacle(self, footer: Footer, index: int) -> str:
        limits, group = self.limits, footer.row_group(index)
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
            copied_bytes = round(sum(run.stored_bytes for run in runs))
            decisions.bytes_spliced += copied_bytes
            if not has_checksums:
                decisions.bytes_unchecked += copied_bytes
                decisions.unchecked.add(footer.location)
            for run in runs:
                decisions.count_row_groups(run, footer)


def _copied_bytes(form: Form, fits: Sequence[Fit], reasons: Sequence[str]) -> int:
    """Return how much is copied into outputs of a form; nothing if they would need other rows."""
    judged = list(zip(fits, reasons, strict=True))
    if form.is_only_copied and any(reason or fit.patch for fit, reason in judged):
        return 0
    return sum(fit.copied_bytes for fit, reason in judged if not reason)


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


def _runs(pieces: Sequence[_Piece], reasons: Sequence[str], form: int) -> Iterator[Run]:
    """Yield neighbours of one file that move in the same way together."""
    for way, some in groupby(
        zip(pieces, reasons, strict=True),
        lambda one: (one[0].file.path, not one[1], None if one[1] else one[0].fits[form].patch),
    ):
        members = [piece for piece, _ in some]
        _, is_copied, patch = way
        numbers = tuple(piece.row_group for piece in members if piece.row_group is not None)
        fits = [piece.fits[form] for piece in members]
        copied_bytes = sum(fit.copied_bytes for fit in fits)
        size = copied_bytes if is_copied else sum(piece.stored_bytes for piece in members)
        patched_bytes = sum(fit.encoded_bytes for fit in fits) if is_copied else 0
        yield Run(members[0].file, numbers or None, size, is_copied, patch, patched_bytes)
