"""The footers of a file group, kept within a budget of memory."""

from __future__ import annotations

from catalog.model import FileSlice
from catalog.table import TableFiles
from compactor.parquet import Footer, read_footer

MIB = 1 << 20
# What is beyond is read again when it is needed: a group may have any number of column chunks.
HELD_BYTES_MAX = 64 * MIB


class Footers:
    """Reads each footer once while the budget allows it."""

    def __init__(self, table: TableFiles, *, held_bytes_max: int) -> None:
        self._table = table
        self._held: dict[str, Footer] = {}
        self._held_bytes = 0
        self._held_bytes_max = held_bytes_max

    def get(self, file: FileSlice) -> Footer:
        """Return the footer of a file.

        Raises:
            CorruptTableError: it is no Parquet file of its size.
            UnsupportedTableError: the footer is encrypted or too long.
            ObjectNotFoundError, AccessDeniedError, StorageError: it cannot be read.
        """
        found = self._held.get(file.path)
        if found is None:
            found = self._read(file)
            if self._held_bytes + found.held_bytes <= self._held_bytes_max:
                self._held[file.path] = found
                self._held_bytes += found.held_bytes
        return found

    def release(self, file: FileSlice) -> None:
        """Forget the footer of a file."""
        found = self._held.pop(file.path, None)
        if found is not None:
            self._held_bytes -= found.held_bytes

    def _read(self, file: FileSlice) -> Footer:
        location = self._table.locate(file.path)
        return read_footer(self._table.storage, location, file.size_bytes)
