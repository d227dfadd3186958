"""What local files and remote objects both do; `Storage` adds the choice between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from catalog.location import Location
    from catalog.storage.output import OutputFile
    from catalog.storage.values import ByteRange, ObjectInfo


class Backend(Protocol):
    """One kind of store; every method raises the errors of `catalog.errors` only."""

    def head(self, location: Location) -> ObjectInfo:
        """Return what is known of an object."""

    def read(self, location: Location) -> bytes:
        """Return a whole object."""

    def read_ranges(self, location: Location, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return one part per range, each of exactly its length."""

    def read_version(self, location: Location, wanted: ByteRange) -> tuple[bytes, ObjectInfo]:
        """Return exactly these bytes and what is known of the object that has them."""

    def write(self, location: Location, data: bytes) -> None:
        """Store a whole object, in place of what was there, never visible in part."""

    def create(self, location: Location, data: bytes) -> None:
        """Store an object where there is none; a lost reply may look like a conflict."""

    def replace(self, location: Location, data: bytes, *, etag: str) -> None:
        """Store over the version with this etag; a lost reply may look like a conflict."""

    def delete(self, locations: Sequence[Location]) -> None:
        """Delete objects of one bucket, whether they exist or not."""

    def list(self, prefix: Location) -> Iterator[ObjectInfo]:
        """Yield every object below a prefix."""

    def copy(self, source: Location, target: Location) -> None:
        """Copy an object within one bucket."""

    def open_input(self, location: Location, *, size_bytes: int | None) -> pa.NativeFile:
        """Open for random access."""

    def open_output(self, location: Location) -> OutputFile:
        """Open a new object for streaming."""
