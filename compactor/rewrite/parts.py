"""What an output is put together from: row groups of inputs, others encoded here, columns of both.

What is encoded waits in local files until the output is complete.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from catalog.location import Location
from catalog.model import FileSlice
from catalog.storage import Storage
from catalog.storage.faults import os_faults
from compactor.parquet import Assembly, Footer, SpliceSource, read_footer
from compactor.rewrite.encoding import Encoding
from compactor.rewrite.fitting import Form, Patch


class Stretch:
    """A local file of row groups that are encoded one after the other."""

    def __init__(self, path: Path, encoding: Encoding, row_group_rows: int) -> None:
        self.path = path
        self.row_group_count = 0
        self.footer: Footer | None = None
        self._location = Location.parse(path.as_uri())
        self._encoding = encoding
        with os_faults("create", self._location):
            self._sink = pa.OSFile(str(path), "wb")
            self._writer = encoding.open_writer(self._sink, row_group_rows=row_group_rows)

    def write(self, batches: list[pa.RecordBatch]) -> int:
        """Append one row group and return the bytes it took."""
        rows = self._encoding.table(batches)
        self.row_group_count += 1
        with os_faults("write", self._location):
            before = self._sink.tell()
            self._writer.write_table(rows, row_group_size=rows.num_rows)
            return int(self._sink.tell()) - int(before)

    def complete(self, storage: Storage) -> None:
        """End the file and read its footer."""
        with os_faults("complete", self._location):
            self._writer.close()
            size_bytes = int(self._sink.tell())
            self._sink.close()
        self.footer = read_footer(storage, self._location, size_bytes)

    def source(self, form: Form) -> SpliceSource:
        """Return all its row groups."""
        del form
        if self.footer is None:
            raise ValueError("the file is not complete")
        return SpliceSource(self.footer, range(self.row_group_count))

    def abort(self) -> None:
        """Close the file, whatever is in it."""
        with suppress(OSError, ValueError, pa.ArrowException):
            self._writer.close()
        with suppress(OSError):
            self._sink.close()


@dataclass(frozen=True, slots=True)
class Patched:
    """A row group of an input of which some columns are copied."""

    footer: Footer
    row_group: int
    patch: Patch
    file: FileSlice

    @property
    def copied_file_bytes(self) -> int:
        """What the copied columns take in all."""
        return self.footer.chunks_file_bytes(self.row_group, self.patch.leaves())


class Part(Protocol):
    """Row groups of an output."""

    def source(self, form: Form) -> SpliceSource | Assembly:
        """Return where their bytes are, once everything is encoded."""


@dataclass(frozen=True, slots=True)
class Copied:
    """Row groups of an input as they are."""

    footer: Footer
    row_groups: list[int]

    def source(self, form: Form) -> SpliceSource:
        """Return the row groups."""
        del form
        return SpliceSource(self.footer, self.row_groups)


@dataclass(frozen=True, slots=True)
class Joined:
    """A row group of an input with columns from a stretch; None when it only loses columns."""

    patched: Patched
    stretch: Stretch | None
    row_group: int

    def source(self, form: Form) -> Assembly:
        """Return the columns of both, in order."""
        encoded = None if self.stretch is None else self.stretch.footer
        copied = self.patched.footer
        return Assembly(
            tuple(
                SpliceSource(encoded, [self.row_group], leaves)
                if is_encoded and encoded is not None
                else SpliceSource(copied, [self.patched.row_group], leaves)
                for is_encoded, leaves in self.patched.patch.parts(form.columns)
            )
        )
