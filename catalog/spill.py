"""Rows set aside on local disk in anonymous files: nothing is left however we end.

They are written as Arrow IPC without compression, bit by bit what they were, and come back as
mapped memory that the kernel may drop again.
"""

from __future__ import annotations

import errno
import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import pyarrow as pa

from catalog.errors import StorageFullError

_BUFFER_BYTES = 256 << 10


class SpillFile:
    """Rows that are on disk, in the order they were added."""

    def __init__(self, schema: pa.Schema) -> None:
        """Begin an empty file in the directory for temporary files."""
        self.schema = schema
        with _no_room():
            self._file: BinaryIO = tempfile.TemporaryFile(prefix="compact-")  # noqa: SIM115
        sink = pa.BufferedOutputStream(pa.PythonFile(self._file, mode="w"), _BUFFER_BYTES)
        self._sink = sink
        self._writer: pa.ipc.RecordBatchStreamWriter | None = pa.ipc.new_stream(sink, schema)

    def append(self, batch: pa.RecordBatch) -> None:
        """Write some rows.

        Raises:
            StorageFullError: the disk is full.
        """
        if self._writer is None:
            raise ValueError("rows were read already")
        with _no_room():
            self._writer.write_batch(batch)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows; nothing can be appended any more."""
        if self._writer is not None:
            with _no_room():
                self._writer.close()
                self._sink.flush()
                self._file.flush()
            self._writer = None
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        yield from pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(mapped)))

    def close(self) -> None:
        """Give the disk space back once nobody reads the rows any more."""
        if self._writer is not None:
            self._writer = None
            with suppress(OSError):
                self._sink.close()
        self._file.close()


@contextmanager
def _no_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFullError(
            f"no room for rows that memory does not hold in {tempfile.gettempdir()}",
            hint="set TMPDIR to a directory with room for the group in memory, or rewrite less"
            " at once with --max-group-size",
        ) from error
