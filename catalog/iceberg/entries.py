"""Manifests entry by entry, through PyIceberg: for the few that a commit touches.

Planning reads them as columns (`catalog.iceberg.manifest`); a commit has to write entries back as
they were, with every field.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestEntry, ManifestFile
from pyiceberg.table.snapshots import Snapshot

from catalog.errors import CatalogError, CorruptTableError


def manifests_of(snapshot: Snapshot, io: FileIO) -> list[ManifestFile]:
    """Return the manifests of a snapshot.

    Raises:
        CorruptTableError: its manifest list cannot be decoded.
    """
    with decoding(snapshot.manifest_list):
        return snapshot.manifests(io)


def live_entries(manifest: ManifestFile, io: FileIO) -> list[ManifestEntry]:
    """Return the entries of the files that the manifest adds or keeps.

    Raises:
        CorruptTableError: it cannot be decoded.
    """
    with decoding(manifest.manifest_path):
        return manifest.fetch_manifest_entry(io, discard_deleted=True)


def all_entries(manifest: ManifestFile, io: FileIO) -> list[ManifestEntry]:
    """Return the entries of the files that the manifest removes as well.

    Raises:
        CorruptTableError: it cannot be decoded.
    """
    with decoding(manifest.manifest_path):
        return manifest.fetch_manifest_entry(io, discard_deleted=False)


@contextmanager
def decoding(path: str) -> Iterator[None]:
    """Turn what a decoder raises over a file into `CorruptTableError`."""
    try:
        yield
    except CatalogError:
        raise
    except Exception as error:  # a decoder of untrusted bytes fails in every way there is
        raise CorruptTableError(f"cannot decode {path}: {error}") from error
