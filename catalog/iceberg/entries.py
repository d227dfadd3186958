"""Manifests and their lists, entry by entry: for the few that a commit touches.

Planning reads them as columns (`catalog.iceberg.manifest`); a commit has to write entries back as
they were, with every field.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table.snapshots import Snapshot

from catalog.avro.container import AvroFile
from catalog.errors import CatalogError, CorruptTableError
from catalog.iceberg.manifest_entries import Entry, read_entries
from catalog.iceberg.manifest_lists import ListedManifest, read_manifest_list


def manifests_of(snapshot: Snapshot, io: FileIO) -> list[ListedManifest]:
    """Return the manifests of a snapshot.

    Raises:
        CorruptTableError: its manifest list cannot be decoded.
    """
    with decoding(snapshot.manifest_list):
        return read_manifest_list(_open(snapshot.manifest_list, io))


def live_entries(manifest: ManifestFile, io: FileIO) -> list[Entry]:
    """Return the entries of the files that the manifest adds or keeps.

    Raises:
        CorruptTableError: it cannot be decoded.
    """
    with decoding(manifest.manifest_path):
        return list(read_entries(_open(manifest.manifest_path, io), manifest))


def all_entries(manifest: ManifestFile, io: FileIO) -> list[Entry]:
    """Return the entries of the files that the manifest removes as well.

    Raises:
        CorruptTableError: it cannot be decoded.
    """
    with decoding(manifest.manifest_path):
        file = _open(manifest.manifest_path, io)
        return list(read_entries(file, manifest, with_deleted=True))


@contextmanager
def decoding(path: str) -> Iterator[None]:
    """Turn what a decoder raises over a file into `CorruptTableError`."""
    try:
        yield
    except CatalogError:
        raise
    except Exception as error:  # a decoder of untrusted bytes fails in every way there is
        raise CorruptTableError(f"cannot decode {path}: {error}") from error


def _open(path: str, io: FileIO) -> AvroFile:
    with io.new_input(path).open() as source:
        return AvroFile.parse(path, source.read())
