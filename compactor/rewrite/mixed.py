"""Write outputs of which some row groups are copied and others encoded anew, rolled like others.

What is encoded for such an output goes to local files first, one for each stretch between copies:
its row groups are then copied like those of the inputs, under one footer.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from catalog.location import Location
from catalog.storage import Storage
from catalog.storage.faults import os_faults
from compactor.parquet import Footer, SpliceSource, plan_splice, read_footer, write_splice
from compactor.rewrite.encoding import Encoding
from compactor.rewrite.ladder import Decisions
from compactor.rewrite.rolling import is_file_full, is_full_before
from compactor.rewrite.write import Destination, RollingWriter, WrittenFile


class MixedWriter(RollingWriter):
    """A `RollingWriter` that also takes row groups of the inputs as they are."""

    def __init__(
        self,
        destination: Destination,
        decisions: Decisions,
        *,
        target_bytes: int,
        row_groups_max: int,
    ) -> None:
        """Prepare to write.

        Args:
            destination: where the files go.
            decisions: what will be added.
            target_bytes: size of a file.
            row_groups_max: row groups of a file at most.
        """
        super().__init__(
            destination,
            decisions.encoding,
            target_bytes=target_bytes,
            stored_bytes=decisions.encoded_bytes,
            copied_bytes=decisions.copied_file_bytes,
        )
        self._row_groups_max = row_groups_max
        self._scratch = tempfile.TemporaryDirectory(prefix="compact-encoded-")
        self._workshop = _Workshop(
            destination.storage, decisions.encoding, decisions.like, Path(self._scratch.name)
        )
        self._mixed: _MixedFile | None = None

    def copy(self, footer: Footer, row_group: int) -> None:
        """Append a row group of an input.

        Raises:
            StorageFullError, AccessDeniedError, StorageError: a file cannot be written.
        """
        self._flush()
        size = footer.row_group_file_bytes(row_group)
        if is_full_before(self._progress, self._target_bytes, copied_bytes=size):
            self._end_file()
        if self._open is None or self._mixed is None:
            self._open = self._mixed = self._begin_file([])
        self._mixed.copy(footer, row_group)
        self._progress = self._progress.after_copy(size)
        is_full = self._mixed.row_group_count >= self._row_groups_max
        if is_full or is_file_full(self._progress, self._target_bytes):
            self._end_file()

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
        location = self._destination.location(len(self.files))
        self._mixed = _MixedFile(location, self._workshop)
        return self._mixed


@dataclass(frozen=True, slots=True)
class _Workshop:
    """What all outputs of an attempt are made with.

    Attributes:
        storage: where inputs and outputs are.
        encoding: how rows are written.
        like: the footer of such a file.
        scratch: a local directory.
    """

    storage: Storage
    encoding: Encoding
    like: Footer
    scratch: Path


class _MixedFile:
    """An output being collected; it is written as a whole once it is complete."""

    def __init__(self, location: Location, workshop: _Workshop) -> None:
        self._location = location
        self._workshop = workshop
        self._sources: list[tuple[Footer, list[int]]] = []
        self._stretch: _Stretch | None = None
        self._encoded: list[Path] = []
        self.row_group_count = 0

    def write(self, batches: list[pa.RecordBatch]) -> int:
        """Append one row group and return the bytes it took."""
        if self._stretch is None:
            path = self._workshop.scratch / f"{self._location.name}.{len(self._encoded)}"
            self._encoded.append(path)
            rows = sum(batch.num_rows for batch in batches)
            self._stretch = _Stretch(path, self._workshop.encoding.fitting(batches), rows)
        self.row_group_count += 1
        return self._stretch.write(batches)

    def copy(self, footer: Footer, row_group: int) -> None:
        """Append a row group of an input."""
        self._end_stretch()
        if not self._sources or self._sources[-1][0] is not footer:
            self._sources.append((footer, []))
        self._sources[-1][1].append(row_group)
        self.row_group_count += 1

    def go_on_with(self, workshop: _Workshop) -> None:
        """Encode what follows in another way."""
        self._end_stretch()
        self._workshop = workshop

    def complete(self) -> WrittenFile:
        """Put all row groups under one footer and make the file durable."""
        self._end_stretch()
        plan = plan_splice(
            [SpliceSource(footer, row_groups) for footer, row_groups in self._sources],
            like=self._workshop.like,
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

    def abort(self) -> None:
        """Leave nothing of the file."""
        if self._stretch is not None:
            self._stretch.abort()
        self._remove_encoded()

    def _end_stretch(self) -> None:
        if self._stretch is not None:
            location, size_bytes = self._stretch.complete()
            footer = read_footer(self._workshop.storage, location, size_bytes)
            self._sources.append((footer, list(range(footer.row_group_count))))
            self._stretch = None

    def _remove_encoded(self) -> None:
        for path in self._encoded:
            path.unlink(missing_ok=True)


class _Stretch:
    """A local file of row groups that are encoded one after the other."""

    def __init__(self, path: Path, encoding: Encoding, row_group_rows: int) -> None:
        self._location = Location.parse(path.as_uri())
        self._encoding = encoding
        with os_faults("create", self._location):
            self._sink = pa.OSFile(str(path), "wb")
            self._writer = encoding.open_writer(self._sink, row_group_rows=row_group_rows)

    def write(self, batches: list[pa.RecordBatch]) -> int:
        """Append one row group and return the bytes it took."""
        rows = self._encoding.table(batches)
        with os_faults("write", self._location):
            before = self._sink.tell()
            self._writer.write_table(rows, row_group_size=rows.num_rows)
            return int(self._sink.tell()) - int(before)

    def complete(self) -> tuple[Location, int]:
        """End the file and return its place and its size in bytes."""
        with os_faults("complete", self._location):
            self._writer.close()
            size_bytes = int(self._sink.tell())
            self._sink.close()
        return self._location, size_bytes

    def abort(self) -> None:
        """Close the file, whatever is in it."""
        with suppress(OSError, ValueError, pa.ArrowException):
            self._writer.close()
        with suppress(OSError):
            self._sink.close()
