"""A file of which one stretch at a time is held in memory: one request for many column chunks."""

from __future__ import annotations

import pyarrow as pa

from catalog.storage import ByteRange
from catalog.storage.input import InputFile

_NOTHING = ByteRange(0, 0)


class StretchFile(InputFile):
    """Reads through to another file all that the held stretch does not cover."""

    def __init__(self, source: pa.NativeFile) -> None:
        super().__init__(source.size())
        self._source = source
        self._held = _NOTHING
        self._bytes = pa.py_buffer(b"")

    def hold(self, stretch: ByteRange) -> None:
        """Fetch a stretch in place of the one held; one that leaves the file is not held.

        Raises:
            CatalogError: as reading the file raises it.
        """
        if 0 <= stretch.offset <= stretch.offset + stretch.length <= self.size():
            self._bytes = self._fetch(stretch)
            self._held = stretch

    def _fetch(self, wanted: ByteRange) -> pa.Buffer:
        start = wanted.offset - self._held.offset
        if start >= 0 and start + wanted.length <= self._held.length:
            return self._bytes.slice(start, wanted.length)
        self._source.seek(wanted.offset)
        return self._source.read_buffer(wanted.length)
