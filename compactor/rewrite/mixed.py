"""Write outputs of which some row groups are copied and others encoded anew, rolled like others.

What is encoded for such an output goes to local files first, one for each stretch between copies:
its row groups are then copied like those of the inputs, under one footer. So are the columns of
row groups of which the others are copied.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from catalog.location import Location
from catalog.model import FileSlice
from catalog.storage import Storage
from compactor.parquet import ROW_GROUPS_MAX, Footer, noted, plan_splice, write_splice
from compactor.rewrite.encoding import Encoding, footer_schema_text
from compactor.rewrite.fitting import Form
from compactor.rewrite.ladder import Decisions
from compactor.rewrite.own_name import named
from compactor.rewrite.parts import Copied, Joined, Part, Patched, Stretch
from compactor.rewrite.rolling import is_file_full, is_full_before
from compactor.rewrite.write import Destination, RollingWriter, WrittenFile

# As good as no limit: whatever is written makes one file.
ANY_SIZE_BYTES = 1 << 62


class MixedWriter(RollingWriter):
    """A `RollingWriter` that also takes row groups of the inputs as they are."""

    def __init__(
        self,
        destination: Destination,
        decisions: Decisions,
        *,
        target_bytes: int,
        row_groups_max: int,
        is_one_file: bool = False,
    ) -> None:
        """Prepare to write.

        Args:
            destination: where the files go.
            decisions: what will be added.
            target_bytes: size of a file.
            row_groups_max: row groups of a file at most; 0 for any number.
            is_one_file: whether there is one file whatever its size, also without rows.
        """
        super().__init__(
            destination,
            decisions.form.encoding,
            target_bytes=ANY_SIZE_BYTES if is_one_file else target_bytes,
            stored_bytes=decisions.encoded_bytes,
            copied_bytes=decisions.copied_file_bytes,
        )
        self._is_one_file = is_one_file
        is_any_number = is_one_file or not row_groups_max
        self._row_groups_max = ROW_GROUPS_MAX if is_any_number else row_groups_max
        self._scratch = tempfile.TemporaryDirectory(prefix="compact-encoded-")
        self._workshop = _Workshop(
            destination.storage, decisions.form, self.encoding, Path(self._scratch.name)
        )
        self._patched_like: dict[tuple[int, ...], Encoding] = {}
        self._mixed: _MixedFile | None = None

    def parquet_schema(self) -> str:
        """Return the Parquet schema that every output is to show."""
        return footer_schema_text(self._workshop.form.like)

    def copy(self, footer: Footer, row_group: int, *, source: FileSlice) -> None:
        """Append a row group of an input.

        Raises:
            StorageFullError, AccessDeniedError, StorageError: a file cannot be written.
        """
        size = footer.row_group_file_bytes(row_group)
        self._with_room(size).copy(footer, row_group)
        self._note((source,), ())
        self._count(size)

    def patch(
        self, patched: Patched, batches: list[pa.RecordBatch], *, stored_bytes: float
    ) -> None:
        """Append a row group of an input with some of its columns encoded anew.

        Args:
            patched: the row group.
            batches: all its rows, the columns to be encoded alone.
            stored_bytes: what these were expected to take.

        Raises:
            StorageFullError, AccessDeniedError, StorageError: a file cannot be written.
        """
        size = patched.copied_file_bytes
        mixed = self._with_room(size)
        self._note((patched.file,), ())
        batches = mixed.named(batches)
        encoding = self._patch_encoding(patched.patch.encoded, batches)
        self._progress = self._progress.after(
            stored_bytes=stored_bytes,
            decoded_bytes=sum(batch.nbytes for batch in batches),
            written_bytes=mixed.patch(patched, encoding, batches),
        )
        self._count(size)

    def finish(self) -> None:
        """Write what is collected and complete the last file, one without rows if there is none."""
        self._flush()
        if self._is_one_file and self._open is None and not self.files:
            self._open = self._begin_file([])
        self._end_file()

    def _note(self, sources: Iterable[FileSlice], rows: Iterable[pa.RecordBatch]) -> None:
        """Take note of where rows of the open file come from, if its footer tells of them."""
        if self._mixed is not None and self._mixed.notes is not None:
            for one in sources:
                self._mixed.notes.took(one)
            for batch in rows:
                self._mixed.notes.added(batch)

    def _with_room(self, copied_bytes: int) -> _MixedFile:
        """Return the file that the next row group goes to."""
        self._flush()
        if is_full_before(self._progress, self._target_bytes, copied_bytes=copied_bytes):
            self._end_file()
        if self._open is None or self._mixed is None:
            self._open = self._mixed = self._begin_file([])
        return self._mixed

    def _count(self, copied_bytes: int) -> None:
        """Note what was appended, and end a file that is full."""
        self._progress = self._progress.after_copy(copied_bytes)
        count = 0 if self._mixed is None else self._mixed.row_group_count
        if count >= self._row_groups_max or is_file_full(self._progress, self._target_bytes):
            self._end_file()

    def _patch_encoding(self, columns: tuple[int, ...], batches: list[pa.RecordBatch]) -> Encoding:
        """Return how some columns are encoded by themselves, as the first rows and these ask."""
        known = self._patched_like.get(columns)
        if known is None:
            known = self.encoding.only(columns).suiting(batches)
        self._patched_like[columns] = known.sparing(batches)
        return self._patched_like[columns]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was encoded on the way, and every output when there was a failure."""
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._scratch.cleanup()

    def _change_encoding(self, encoding: Encoding) -> None:
        """Begin another stretch: the file goes on."""
        self.encoding = encoding
        self._workshop = replace(self._workshop, encoding=encoding)
        if self._open is not None and self._mixed is not None:
            self._mixed.go_on_with(self._workshop)

    def _begin_file(self, rows: list[pa.RecordBatch]) -> _MixedFile:
        del rows  # Each stretch that is encoded has its own.
        location = self._destination.begun(len(self.files))
        self._mixed = _MixedFile(location, self._workshop)
        return self._mixed


@dataclass(frozen=True, slots=True)
class _Workshop:
    """What all outputs of an attempt are made with.

    Attributes:
        storage: where inputs and outputs are.
        form: what outputs are like.
        encoding: how rows are written from here on.
        scratch: a local directory.
    """

    storage: Storage
    form: Form
    encoding: Encoding
    scratch: Path


class _MixedFile:
    """An output being collected; it is written as a whole once it is complete."""

    def __init__(self, location: Location, workshop: _Workshop) -> None:
        self._location = location
        self._workshop = workshop
        make_notes = workshop.encoding.layout.footer_notes
        self.notes = None if make_notes is None else make_notes()
        self._parts: list[Part] = []
        self._stretch: Stretch | None = None
        self._columns: dict[Encoding, Stretch] = {}
        self._encoded: list[Stretch] = []
        self.row_group_count = 0

    def named(self, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        """Return rows with the name of the file in them, where the table has a column for it."""
        column = self._workshop.encoding.layout.own_name_column
        return named(batches, column, self._location.name) if column else batches

    def write(self, batches: list[pa.RecordBatch]) -> int:
        """Append one row group and return the bytes it took."""
        batches = self.named(batches)
        if self._stretch is None:
            self._stretch = self._begin_stretch(self._workshop.encoding, batches)
            self._parts.append(self._stretch)
        self.row_group_count += 1
        return self._stretch.write(batches)

    def copy(self, footer: Footer, row_group: int) -> None:
        """Append a row group of an input."""
        self._end_stretch()
        last = self._parts[-1] if self._parts else None
        if not isinstance(last, Copied) or last.footer is not footer:
            last = Copied(footer, [])
            self._parts.append(last)
        last.row_groups.append(row_group)
        self.row_group_count += 1

    def patch(self, patched: Patched, encoding: Encoding, batches: list[pa.RecordBatch]) -> int:
        """Append a row group of an input with other columns; return the bytes that these took."""
        self._end_stretch()
        self.row_group_count += 1
        if not batches:
            self._parts.append(Joined(patched, None, 0))
            return 0
        stretch = self._columns.get(encoding)
        if stretch is None:
            stretch = self._columns[encoding] = self._begin_stretch(encoding, batches)
        self._parts.append(Joined(patched, stretch, stretch.row_group_count))
        return stretch.write(batches)

    def go_on_with(self, workshop: _Workshop) -> None:
        """Encode what follows in another way."""
        self._end_stretch()
        self._workshop = workshop

    def complete(self) -> WrittenFile:
        """Put all row groups under one footer and make the file durable."""
        form = self._workshop.form
        self._end_stretch()
        for stretch in self._columns.values():
            stretch.complete(self._workshop.storage)
        like = form.like if self.notes is None else noted(form.like, self.notes.pairs())
        if not self._parts:
            return self._complete_empty(like)
        plan = plan_splice(
            [part.source(form) for part in self._parts],
            like=like,
            ignored_keys=self._workshop.encoding.replaced_keys(),
        )
        done = write_splice(self._workshop.storage, plan, self._location)
        self._remove_encoded()
        return WrittenFile(
            self._location,
            done.size_bytes,
            done.row_counts,
            done.composed_bytes,
            done.why_streamed,
        )

    def _complete_empty(self, like: Footer) -> WrittenFile:
        """Make a file without rows."""
        data = like.as_file()
        with self._workshop.storage.open_output(self._location) as output:
            output.write(data)
        return WrittenFile(self._location, len(data), ())

    def abort(self) -> None:
        """Leave nothing of the file."""
        for stretch in self._encoded:
            stretch.abort()
        self._remove_encoded()

    def _begin_stretch(self, encoding: Encoding, batches: list[pa.RecordBatch]) -> Stretch:
        path = self._workshop.scratch / f"{self._location.name}.{len(self._encoded)}"
        rows = sum(batch.num_rows for batch in batches)
        stretch = Stretch(path, encoding.fitting(batches), rows)
        self._encoded.append(stretch)
        return stretch

    def _end_stretch(self) -> None:
        if self._stretch is not None:
            self._stretch.complete(self._workshop.storage)
            self._stretch = None

    def _remove_encoded(self) -> None:
        for stretch in self._encoded:
            stretch.path.unlink(missing_ok=True)
