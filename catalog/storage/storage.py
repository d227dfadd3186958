"""Storage: the operations on objects that every table format is built on.

`Storage` is a frozen value that crosses process boundaries: it carries settings only, and
clients are opened when they are first needed and kept per process. It decides nothing about
tables: callers check a location against the table's `Confinement` before they pass it here.

Every operation raises, with the location in the message,

- `ObjectNotFoundError` when the object or its bucket does not exist,
- `AccessDeniedError` when the credentials do not allow it,
- `StorageFullError` when the disk or quota is full,
- `StorageError` for everything that may pass, after the retries of `RetryPolicy`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING

from catalog.errors import CatalogError, NotComposableError
from catalog.storage.conditional import put_conditionally
from catalog.storage.local import LocalFiles
from catalog.storage.output import OutputFile
from catalog.storage.parts import PART_BYTES_MIN, PARTS_MAX, CopiedPart
from catalog.storage.values import ByteRange, Meter, ObjectInfo, RetryPolicy, StorageTally
from catalog.storage.versions import require_unchanged

if TYPE_CHECKING:
    import pyarrow as pa

    from catalog.location import Location
    from catalog.storage.backend import Backend
    from catalog.storage.lent import Loan
    from catalog.storage.parts import Part, Source

# The most that one S3 DeleteObjects request takes.
_DELETE_BATCH_MAX = 1000
_PROPERTY_PREFIXES = ("s3.", "client.", "gcs.", "adls.")


@dataclass(frozen=True, slots=True)
class Storage:
    """Access to local files and buckets; make it with `from_properties`.

    Attributes:
        properties: the settings of the clients by PyIceberg's names, sorted; never shown.
        retry: limits of the retries.
        loan: the credentials among the properties that run out, and who has others; None where
            they hold for good.
        meter: counts the use of this very value; a pickled copy counts from zero.
    """

    properties: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    meter: Meter = field(default_factory=Meter, compare=False, repr=False)
    loan: Loan | None = None

    @classmethod
    def from_properties(
        cls, properties: Mapping[str, str], *, retry: RetryPolicy | None = None
    ) -> Storage:
        """Take what concerns storage out of a catalog's properties.

        What is not given comes from the environment, as `AWS_*`, `GOOGLE_*` and `AZURE_*`.
        """
        chosen = {
            name: str(value)
            for name, value in properties.items()
            if name.startswith(_PROPERTY_PREFIXES)
        }
        return cls(tuple(sorted(chosen.items())), retry or RetryPolicy())

    def metered(self) -> Storage:
        """Return the same storage with a tally of its own."""
        return replace(self, meter=Meter())

    def tally(self) -> StorageTally:
        """Return what passed through this value since it was made, unpickled or metered."""
        return self.meter.read()

    def head(self, location: Location) -> ObjectInfo:
        """Return size, time and etag of an object."""
        return self._backend(location).head(location)

    def size(self, location: Location) -> int:
        """Return the length of an object in bytes."""
        return self.head(location).size_bytes

    def read(self, location: Location) -> bytes:
        """Return a whole object: for metadata, not for data files."""
        return self._backend(location).read(location)

    def read_range(self, location: Location, offset: int, length: int) -> bytes:
        """Return exactly this many bytes.

        Raises:
            CorruptTableError: the object ends before the range does.
        """
        return self.read_ranges(location, [ByteRange(offset, length)])[0]

    def read_ranges(self, location: Location, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return several parts of an object, in the order asked for, fetched in parallel.

        Raises:
            CorruptTableError: the object ends before one of the ranges does.
        """
        return self._backend(location).read_ranges(location, ranges)

    def read_version(self, location: Location, wanted: ByteRange) -> tuple[bytes, ObjectInfo]:
        """Return exactly these bytes and what the store knows of the version they belong to.

        Raises:
            CorruptTableError: the object ends before the range does.
        """
        return self._backend(location).read_version(location, wanted)

    def write(self, location: Location, data: bytes) -> None:
        """Store a whole object in place of what was there; readers see the old or the new."""
        self._backend(location).write(location, data)

    def put_if_absent(self, location: Location, data: bytes) -> None:
        """Store an object where there is none, atomically among all writers.

        The data must be unique to its writer (carry a commit id): when the answer is a conflict
        or is lost, the stored bytes are read back, and if they are ours, the put has succeeded.

        Raises:
            ObjectExistsError: another writer's bytes are there; ours are not.
            StorageError: the outcome is unknown: the object may still appear.
        """
        backend = self._backend(location)
        put_conditionally(backend, location, data, lambda: backend.create(location, data))

    def put_if_match(self, location: Location, data: bytes, etag: str) -> None:
        """Store over the version with this etag; conflicts and lost replies as `put_if_absent`.

        Local files are compared under a lock that only this method takes.

        Raises:
            ObjectExistsError: the object has changed or is gone; the new bytes are not ours.
            StorageError: the outcome is unknown.
        """
        backend = self._backend(location)
        put_conditionally(
            backend, location, data, lambda: backend.replace(location, data, etag=etag)
        )

    def delete(self, locations: Iterable[Location]) -> None:
        """Delete objects in batches; one that does not exist is no error."""
        for _, group in groupby(locations, lambda one: (one.scheme, one.authority)):
            while batch := list(islice(group, _DELETE_BATCH_MAX)):
                self._backend(batch[0]).delete(batch)

    @contextmanager
    def removed_on_failure(self, written: Collection[Location]) -> Iterator[None]:
        """Remove what is written by then when the block fails, whose error is the one to be told.

        Interruptions are failures, too: nobody knows of the files yet.
        """
        try:
            yield
        except BaseException:  # interruptions too, as said above
            with suppress(CatalogError):
                self.delete(written)
            raise

    def list(self, prefix: Location) -> Iterator[ObjectInfo]:
        """Yield every object below a prefix, at any depth; nothing when there is none.

        Raises:
            LocationError: an object has a name that no `Location` can hold.
        """
        return self._backend(prefix).list(prefix)

    def copy(self, source: Location, target: Location) -> None:
        """Copy an object over the target, inside the store when both are in one bucket."""
        backend = self._backend(source)
        if (source.scheme, source.authority) == (target.scheme, target.authority):
            backend.copy(source, target)
        else:
            self.write(target, backend.read(source))

    def require_unchanged(self, sources: Iterable[Source]) -> None:
        """Look whether objects are still the versions that they were.

        Raises:
            CorruptTableError: one has been replaced; it is named.
        """
        require_unchanged(self, sources)

    def composed_bytes_min(self, target: Location) -> int | None:
        """Return how long a range must be for `compose` to copy it inside the store.

        None where it never does. Whether a store keeps the promise of its kind is found out by
        asking it to.
        """
        return PART_BYTES_MIN if target.scheme == "s3" else None

    def compose(self, target: Location, parts: Sequence[Part]) -> None:
        """Store a new object that is made of these parts, inside the store as far as they say so.

        The name must be unused, as for `open_output`.

        Raises:
            NotComposableError: the store does not do that; nothing was stored.
            CorruptTableError: a source is not the version that it is said to be; it is named.
        """
        if target.scheme != "s3":
            raise NotComposableError("the store has no copying of ranges")
        if len(parts) > PARTS_MAX:
            raise NotComposableError(f"it takes {len(parts)} parts, {PARTS_MAX} are possible")
        if not any(isinstance(part, CopiedPart) for part in parts):
            raise NotComposableError("no range is long enough to be copied by the store")
        from catalog.storage.composition import Composition, composer

        found = composer(self, target)
        Composition(self, found, target, parts).run()

    def abort_uploads(self, target: Location) -> int:
        """Abort unfinished uploads of an object that nobody writes any more; return how many.

        Raises:
            AccessDeniedError: the credentials do not allow to look for them.
        """
        if target.scheme != "s3":
            return 0
        from catalog.storage.composition import abort_uploads

        return abort_uploads(self, target)

    def open_input(self, location: Location, *, size_bytes: int | None = None) -> pa.NativeFile:
        """Open an object for random access, as `pyarrow.parquet.ParquetFile` wants it.

        With `size_bytes` known from metadata a remote object costs no request until it is read,
        and a missing one is found out only then.
        """
        return self._backend(location).open_input(location, size_bytes=size_bytes)

    def open_output(self, location: Location) -> OutputFile:
        """Open a new object for streaming; missing local directories are created.

        The name must be unused: attempts write under names of their own. Locally a taken name is
        refused by `ObjectExistsError`.
        """
        return self._backend(location).open_output(location)

    def _backend(self, location: Location) -> Backend:
        if location.is_local:
            return LocalFiles(self.meter)
        from catalog.storage.remote import RemoteObjects

        return RemoteObjects.open(self, location)
