"""Random access to a remote object by ranged requests, with a window for small reads."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from catalog.storage.values import ByteRange

if TYPE_CHECKING:
    from catalog.location import Location
    from catalog.storage.backend import Backend

# Reads below this fetch this much: footers and page headers come in dozens of small reads.
_WINDOW_BYTES = 1 << 20


class RangedFile:
    """The file object that Arrow reads through; Arrow calls it by one thread at a time."""

    def __init__(self, backend: Backend, location: Location, size_bytes: int) -> None:
        self._backend = backend
        self._location = location
        self._size_bytes = size_bytes
        self._position = 0
        self._window_offset = 0
        self._window = b""
        self.closed = False

    def readable(self) -> bool:
        """Whether bytes can be read, as file objects tell it."""
        return True

    def writable(self) -> bool:
        """Whether bytes can be written, as file objects tell it: never."""
        return False

    def seekable(self) -> bool:
        """Whether the position can be moved, as file objects tell it."""
        return True

    def size(self) -> int:
        """Return the length of the object in bytes."""
        return self._size_bytes

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def flush(self) -> None:
        """Do nothing: there is nothing to write."""

    def close(self) -> None:
        """Drop the window."""
        self.closed = True
        self._window = b""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}
        self._position = base[whence] + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, fewer only at the end of the object.

        Raises:
            CatalogError: as `Storage.read_ranges`.
        """
        left = max(0, self._size_bytes - self._position)
        wanted = ByteRange(self._position, left if size < 0 else min(size, left))
        data = self._fetch(wanted)
        self._position += len(data)
        return data

    def _fetch(self, wanted: ByteRange) -> bytes:
        start = wanted.offset - self._window_offset
        if start >= 0 and start + wanted.length <= len(self._window):
            return self._window[start : start + wanted.length]
        if wanted.length >= _WINDOW_BYTES:
            return self._backend.read_ranges(self._location, [wanted])[0]
        return self._fetch_window(wanted)

    def _fetch_window(self, wanted: ByteRange) -> bytes:
        """Read ahead; near the end of the object read behind too, as footers are read backwards."""
        offset = max(0, min(wanted.offset, self._size_bytes - _WINDOW_BYTES))
        length = min(_WINDOW_BYTES, self._size_bytes - offset)
        ranges = [ByteRange(offset, length)]
        self._window = self._backend.read_ranges(self._location, ranges)[0]
        self._window_offset = offset
        start = wanted.offset - offset
        return self._window[start : start + wanted.length]
