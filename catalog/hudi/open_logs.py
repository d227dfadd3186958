"""Log files opened when they are read, few at a time: a slice may have thousands of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import overload

import pyarrow as pa

from catalog.location import Location
from catalog.storage import Storage

# An open remote file holds what was read ahead, a MiB.
_OPEN_MAX = 32


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file and its length."""

    location: Location
    size_bytes: int


class OpenLogs(Sequence[pa.NativeFile]):
    """The files as open ones; those that were not used for long are closed again."""

    def __init__(self, storage: Storage, files: Sequence[StoredFile]) -> None:
        """Open nothing yet."""
        self._storage = storage
        self._files = files
        self._open: OrderedDict[int, pa.NativeFile] = OrderedDict()

    def __len__(self) -> int:
        """Return how many files there are."""
        return len(self._files)

    @overload
    def __getitem__(self, number: int) -> pa.NativeFile: ...

    @overload
    def __getitem__(self, number: slice) -> OpenLogs: ...

    def __getitem__(self, number: int | slice) -> pa.NativeFile | OpenLogs:
        """Return a file, open until some others were asked for."""
        if isinstance(number, slice):
            return OpenLogs(self._storage, self._files[number])
        if number not in self._open:
            one = self._files[number]
            self._open[number] = self._storage.open_input(one.location, size_bytes=one.size_bytes)
        self._open.move_to_end(number)
        if len(self._open) > _OPEN_MAX:
            self._open.popitem(last=False)[1].close()
        return self._open[number]

    def __enter__(self) -> OpenLogs:
        """Return itself; all files are closed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()
