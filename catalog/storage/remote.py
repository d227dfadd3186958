"""Objects in a bucket, through obstore: whole, in ranges, streamed, and conditionally put.

Retries of passing faults happen inside obstore, request by request. Two of its habits matter
here: it repeats a conditional put whose reply was lost (see `conditional`), and leaving its
writer by an exception aborts the multipart upload, which nothing else in its face does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import obstore

from catalog.errors import CatalogError, ObjectNotFoundError
from catalog.storage.clients import open_client, require_unforked
from catalog.storage.faults import obstore_faults
from catalog.storage.output import OutputFile
from catalog.storage.values import ByteRange, Meter, ObjectInfo, require_length

if TYPE_CHECKING:
    import pyarrow as pa
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

    from catalog.location import Location
    from catalog.storage.storage import Storage

# Ranges closer than this are fetched by one request: about what a request costs in bytes.
_COALESCE_BYTES = 1 << 20
# Parts of a multipart upload: 10,000 of them, the limit of S3, make 80 GiB.
_PART_BYTES = 8 << 20
_PARTS_IN_FLIGHT_MAX = 4
# One page of S3's listing.
_LIST_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class RemoteObjects:
    """One bucket as a `Backend`."""

    client: ObjectStore
    meter: Meter

    @classmethod
    def open(cls, storage: Storage, location: Location) -> RemoteObjects:
        """Return the bucket of a location, its client kept for the next time."""
        require_unforked()
        with obstore_faults("open", location):
            client = open_client(
                location.scheme,
                location.authority,
                properties=storage.properties,
                retry=storage.retry,
                loan=storage.loan,
            )
        return cls(client, storage.meter)

    def head(self, location: Location) -> ObjectInfo:
        """Return what is known of an object."""
        self.meter.add(requests=1)
        with obstore_faults("look up", location):
            return _info(location, obstore.head(self.client, location.key))

    def read(self, location: Location) -> bytes:
        """Return a whole object."""
        self.meter.add(requests=1)
        with obstore_faults("read", location):
            data = bytes(obstore.get(self.client, location.key).bytes())
        self.meter.add(bytes_read=len(data))
        return data

    def read_ranges(self, location: Location, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return one part per range; near ones share a request, far ones run in parallel."""
        filled = [wanted for wanted in ranges if wanted.length > 0]
        if not filled:
            return [b""] * len(ranges)
        self.meter.add(requests=_requests(filled))
        with obstore_faults("read", location):
            fetched = obstore.get_ranges(
                self.client,
                location.key,
                starts=[wanted.offset for wanted in filled],
                lengths=[wanted.length for wanted in filled],
                coalesce=_COALESCE_BYTES,
            )
        self.meter.add(bytes_read=sum(map(len, fetched)))
        for wanted, part in zip(filled, fetched, strict=True):
            require_length(location, wanted, len(part))
        parts = iter(fetched)
        return [bytes(next(parts)) if wanted.length > 0 else b"" for wanted in ranges]

    def read_version(self, location: Location, wanted: ByteRange) -> tuple[bytes, ObjectInfo]:
        """Return exactly these bytes and what is known of the object that has them."""
        if not wanted.length:
            return b"", self.head(location)
        end = wanted.offset + wanted.length
        self.meter.add(requests=1)
        with obstore_faults("read", location):
            found = obstore.get(self.client, location.key, options={"range": (wanted.offset, end)})
            data = bytes(found.bytes())
        self.meter.add(bytes_read=len(data))
        require_length(location, wanted, len(data))
        return data, _info(location, found.meta)

    def write(self, location: Location, data: bytes) -> None:
        """Store a whole object by one request, over what was there."""
        with obstore_faults("write", location):
            obstore.put(self.client, location.key, data, use_multipart=False)
        self.meter.add(requests=1, bytes_written=len(data))

    def create(self, location: Location, data: bytes) -> None:
        """Store an object where there is none."""
        self.meter.add(requests=1, bytes_written=len(data))
        with obstore_faults("create", location):
            obstore.put(self.client, location.key, data, mode="create")

    def replace(self, location: Location, data: bytes, *, etag: str) -> None:
        """Store over the version with this etag."""
        self.meter.add(requests=1, bytes_written=len(data))
        with obstore_faults("replace", location):
            obstore.put(self.client, location.key, data, mode={"e_tag": etag})

    def delete(self, locations: Sequence[Location]) -> None:
        """Delete objects by one bulk request where the store has such."""
        self.meter.add(requests=1)
        try:
            with obstore_faults("delete", locations[0]):
                obstore.delete(self.client, [location.key for location in locations])
        except ObjectNotFoundError:
            # Some stores answer so for one missing object, and leave the rest undone.
            for location in locations:
                self._delete_one(location)

    def list(self, prefix: Location) -> Iterator[ObjectInfo]:
        """Yield every object below a prefix, page by page."""
        with obstore_faults("list", prefix):
            for page in obstore.list(self.client, prefix.key or None, chunk_size=_LIST_CHUNK):
                self.meter.add(requests=1)
                for entry in page:
                    below = entry["path"][len(prefix.key) :].removeprefix("/")
                    yield _info(prefix.child(below), entry)

    def copy(self, source: Location, target: Location) -> None:
        """Copy an object inside the store."""
        self.meter.add(requests=1)
        with obstore_faults("copy", source):
            obstore.copy(self.client, source.key, target.key)

    def open_input(self, location: Location, *, size_bytes: int | None) -> pa.NativeFile:
        """Open for random access by ranged requests."""
        import pyarrow as pa

        from catalog.storage.input import RangedFile

        size = self.head(location).size_bytes if size_bytes is None else size_bytes
        return pa.PythonFile(RangedFile(self, location, size), mode="r")

    def open_output(self, location: Location) -> OutputFile:
        """Open a new object for streaming by a multipart upload."""
        return RemoteOutputFile(self, location)

    def _delete_one(self, location: Location) -> None:
        self.meter.add(requests=1)
        with suppress(ObjectNotFoundError), obstore_faults("delete", location):
            obstore.delete(self.client, location.key)


class RemoteOutputFile(OutputFile):
    """A new object, uploaded in parts while it is written; a small one goes by a single put."""

    def __init__(self, store: RemoteObjects, location: Location) -> None:
        super().__init__(location, store.meter)
        self._store = store
        self._is_completing = False
        with obstore_faults("create", location):
            self._writer = obstore.open_writer(
                store.client,
                location.key,
                buffer_size=_PART_BYTES,
                max_concurrency=_PARTS_IN_FLIGHT_MAX,
            )

    def _append(self, data: memoryview) -> None:
        with obstore_faults("write", self.location):
            self._writer.write(data)

    def _complete(self) -> None:
        self._is_completing = True
        parts = -(-self.size_bytes // _PART_BYTES)
        # A multipart upload is opened and completed by a request each.
        self._meter.add(requests=parts + 2 if parts > 1 else 1)
        try:
            with obstore_faults("complete", self.location):
                self._writer.close()
        except CatalogError:
            # A repeated completion is told that there is no such upload, once the first is done.
            if not self._is_stored():
                raise

    def _discard(self) -> None:
        given_up = RuntimeError("given up")
        with suppress(CatalogError), obstore_faults("abort", self.location):
            self._writer.__exit__(RuntimeError, given_up, None)
        if self._is_completing:
            # The completion may still have arrived.
            with suppress(CatalogError):
                self._store.delete([self.location])

    def _is_stored(self) -> bool:
        """Whether all of it is there: the name is this writer's own, so its length tells."""
        try:
            return self._store.head(self.location).size_bytes == self.size_bytes
        except CatalogError:
            return False


def _info(location: Location, entry: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(location, entry["size"], entry["last_modified"], entry["e_tag"] or "")


def _requests(ranges: Sequence[ByteRange]) -> int:
    """Return how many requests obstore makes of these ranges."""
    count, end = 0, -_COALESCE_BYTES - 1
    for offset, length in sorted(ranges):
        count += offset - end > _COALESCE_BYTES
        end = max(end, offset + length)
    return count
