"""The footers of a file group, kept within a budget of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import TypeVar

from catalog.errors import CatalogError
from catalog.model import FileSlice
from catalog.table import TableFiles
from compactor.parquet import Footer, read_footer

MIB = 1 << 20
# What is beyond is read again when it is needed: a group may have any number of column chunks.
HELD_BYTES_MAX = 64 * MIB
# Small requests to a store that is far away are sent together.
_REQUESTS_IN_FLIGHT = 8
T = TypeVar("T")


class Footers:
    """Reads each footer once while the budget allows it."""

    def __init__(self, table: TableFiles, *, held_bytes_max: int) -> None:
        self._table = table
        self._held: dict[str, Footer] = {}
        self._held_bytes = 0
        self._held_bytes_max = held_bytes_max
        self._lock = Lock()

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
            with self._lock:
                if self._held_bytes + found.held_bytes <= self._held_bytes_max:
                    self._held[file.path] = found
                    self._held_bytes += found.held_bytes
        return found

    def each(self, function: Callable[[FileSlice], T], files: Sequence[FileSlice]) -> Iterator[T]:
        """Call a function that makes a small request per file, several at once if they are far."""
        if len(files) < 2 or self._table.locate(files[0].path).is_local:
            yield from map(function, files)
            return
        with ThreadPoolExecutor(_REQUESTS_IN_FLIGHT) as readers:
            yield from readers.map(function, files)

    def fetch(self, files: Sequence[FileSlice]) -> None:
        """Read footers ahead if they are far; what is wrong with one is told when it is wanted."""
        if files and not self._table.locate(files[0].path).is_local:
            for _ in self.each(self._try, files):
                pass

    def _try(self, file: FileSlice) -> None:
        with suppress(CatalogError):
            self.get(file)

    def release(self, file: FileSlice) -> None:
        """Forget the footer of a file."""
        found = self._held.pop(file.path, None)
        if found is not None:
            self._held_bytes -= found.held_bytes

    def _read(self, file: FileSlice) -> Footer:
        location = self._table.locate(file.path)
        return read_footer(self._table.storage, location, file.size_bytes)
