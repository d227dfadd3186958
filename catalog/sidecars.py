"""Blobs that are kept beside a table: never needed, found again by whoever wants them.

A sidecar may be missing, old or damaged at any time; whoever reads one must do without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from catalog.errors import CorruptTableError, ObjectNotFoundError
from catalog.location import Location
from catalog.model import Snapshot
from catalog.puffin import Blob, PlacedBlob, decode_footer, footer_bytes
from catalog.storage import Storage

# Footers are a few hundred bytes for each blob.
_TAIL_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A file of blobs."""

    location: Location
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob in a sidecar."""

    location: Location
    blob: PlacedBlob


@runtime_checkable
class SidecarTable(Protocol):
    """A table that blobs can be kept beside."""

    @property
    def storage(self) -> Storage:
        """Where its files are."""
        ...

    def sidecars(self) -> Sequence[Sidecar]:
        """Return the files of blobs that were added, the newest last."""
        ...

    def add_sidecar(self, snapshot: Snapshot, blobs: Sequence[Blob]) -> bool:
        """Keep blobs that are about a snapshot; tell whether that was possible.

        It is a commit of its own or none at all, and never changes what readers see.

        Raises:
            AccessDeniedError, StorageError: they cannot be written.
        """
        ...


def stored_blobs(table: SidecarTable, kind: str) -> list[StoredBlob]:
    """Return the blobs of a kind, the newest last; sidecars that cannot be read are left out."""
    return [
        StoredBlob(sidecar.location, blob)
        for sidecar in table.sidecars()
        for blob in _read(table.storage, sidecar)
        if blob.kind == kind
    ]


def _read(storage: Storage, sidecar: Sidecar) -> list[PlacedBlob]:
    with suppress(ObjectNotFoundError, CorruptTableError):
        name, size = str(sidecar.location), sidecar.size_bytes
        tail = _end_of(storage, sidecar, min(size, _TAIL_BYTES))
        length = footer_bytes(tail, name=name)
        if length > len(tail):
            tail = _end_of(storage, sidecar, min(size, length))
        found = decode_footer(tail[-length:], name=name)
        return list(_inside(found, size))
    return []


def _end_of(storage: Storage, sidecar: Sidecar, length: int) -> bytes:
    return storage.read_range(sidecar.location, sidecar.size_bytes - length, length)


def _inside(blobs: Iterable[PlacedBlob], size_bytes: int) -> Iterator[PlacedBlob]:
    for one in blobs:
        if one.place.offset >= 0 and 0 <= one.place.length <= size_bytes - one.place.offset:
            yield one
