"""A streaming writer whose object appears when it is closed and vanishes when it is aborted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from catalog.location import Location
    from catalog.storage.values import Meter


class OutputFile(ABC):
    """A new object being written; hand it to `pyarrow.parquet.ParquetWriter` as it is.

    As a context manager it closes on success and aborts on an exception. Closing the Parquet
    writer does not close it: only `close` makes the object durable and complete.
    """

    def __init__(self, location: Location, meter: Meter) -> None:
        self.location = location
        self._meter = meter
        self._size_bytes = 0
        self._is_open = True

    @property
    def size_bytes(self) -> int:
        """Bytes written so far."""
        return self._size_bytes

    @property
    def closed(self) -> bool:
        """Whether it was closed or aborted."""
        return not self._is_open

    def writable(self) -> bool:
        """Whether bytes can be written, as file objects tell it."""
        return self._is_open

    def readable(self) -> bool:
        """Whether bytes can be read, as file objects tell it: never."""
        return False

    def seekable(self) -> bool:
        """Whether the position can be moved, as file objects tell it: never."""
        return False

    def tell(self) -> int:
        """Return the position, which is the number of bytes written."""
        return self._size_bytes

    def flush(self) -> None:  # noqa: B027 - nothing to override: durability comes with `close`
        """Do nothing: durability comes with `close`."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes.

        Raises:
            StorageFullError, AccessDeniedError, StorageError: nothing of the object can be kept;
                abort it.
        """
        if not self._is_open:
            raise ValueError(f"write to closed output {self.location}")
        view = memoryview(data)
        self._append(view)
        self._size_bytes += view.nbytes
        self._meter.add(bytes_written=view.nbytes)
        return view.nbytes

    def close(self) -> None:
        """Make the object complete and durable; a second call does nothing.

        Raises:
            StorageFullError, AccessDeniedError, StorageError: the object was not completed and
                what was left of it has been removed.
        """
        if not self._is_open:
            return
        try:
            self._complete()
        except BaseException:  # interruptions too: half an object is none
            self.abort()
            raise
        self._is_open = False

    def abort(self) -> None:
        """Give the object up and leave nothing of it; does nothing once closed."""
        if self._is_open:
            self._is_open = False
            self._discard()

    @abstractmethod
    def _append(self, data: memoryview) -> None:
        """Write all of the bytes."""

    @abstractmethod
    def _complete(self) -> None:
        """Finish the object."""

    @abstractmethod
    def _discard(self) -> None:
        """Remove what has been written."""

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close on success, abort on an exception."""
        if kind is None:
            self.close()
        else:
            self.abort()
