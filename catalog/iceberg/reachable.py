"""What the snapshots of a table refer to: manifest lists, manifests, and the files that live.

Files are known by their path alone, without scheme and bucket, and however it is spelled: what is
called otherwise (`s3a:` for `s3:`, another name of the same store, `//` for `/`, `%20` for a space)
is taken for referred to. Paths of manifests are held as text, those of files as hashes; manifests
are read once however often they are listed.

Specification: https://iceberg.apache.org/spec/#manifests
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.iceberg.manifest import ManifestReader
from catalog.location import Confinement
from catalog.storage import Storage
from catalog.sweeping import Names

_MANIFEST_PATH = 500
_STATUS, _FILE_PATH, _SIZE = 0, 100, 104
_DELETED = 2
# Their files are put in order together.
_MANIFESTS_AT_ONCE = 256
_SCHEME_AND_BUCKET = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?://[^/]*)?")
# What has other spellings: empty and dot segments, and encoded characters.
_SPELLED = re.compile(r"%|//|/$|(?:^|/)\.\.?(?:/|$)")
# Bounds the decoding of what was encoded more than once.
_DECODINGS_MAX = 8


def path_of(location: str) -> str:
    """Return a location without scheme and bucket, by which files are compared.

    Spellings of one path are one: there are stores that tell them apart, but none has a file of a
    table under both.
    """
    if not location.startswith("/"):
        location = _SCHEME_AND_BUCKET.sub("", location, count=1)
    path = location.lstrip("/")
    return _respelled(path) if _SPELLED.search(path) else path


def _respelled(path: str) -> str:
    for _ in range(_DECODINGS_MAX):
        if (decoded := unquote(path)) == path:
            break
        path = decoded
    return posixpath.normpath(f"/{path}").lstrip("/")


@dataclass(frozen=True, slots=True)
class MetadataFiles:
    """Reads manifest lists and manifests of one table, for the files that they name."""

    storage: Storage
    confinement: Confinement

    def manifests(self, snapshot: Snapshot) -> list[str]:
        """Return the manifests of a snapshot.

        Raises:
            CorruptTableError: its list cannot be read.
            ObjectNotFoundError: its list is missing.
            UnsupportedTableError: it has none.
        """
        if not snapshot.manifest_list:
            raise UnsupportedTableError(f"snapshot {snapshot.snapshot_id} has no manifest list")
        return self._column(snapshot.manifest_list, _MANIFEST_PATH)

    def live_files(self, manifest: str) -> Iterator[tuple[str, int]]:
        """Yield location and size of every file that a manifest adds or keeps.

        Raises:
            CorruptTableError: it cannot be read.
            ObjectNotFoundError: it is missing.
        """
        columns = self._reader.open(manifest).columns((_STATUS, _FILE_PATH, _SIZE))
        try:
            rows = zip(columns[_STATUS], columns[_FILE_PATH], columns[_SIZE], strict=True)
        except (KeyError, ValueError) as fault:
            raise CorruptTableError(f"{manifest} is no manifest: {fault}") from fault
        yield from ((path, size) for status, path, size in rows if status != _DELETED)

    @property
    def _reader(self) -> ManifestReader:
        return ManifestReader(self.storage, self.confinement, ())

    def _column(self, path: str, field_id: int) -> list[str]:
        file = self._reader.open(path)
        file.record_type(field_id)
        return file.columns((field_id,)).get(field_id, [])


@dataclass(slots=True)
class Reachable:
    """What some snapshots refer to; it grows as snapshots are added.

    Attributes:
        files: reads them.
        manifests: location of every manifest, by its path.
        lists: manifest lists, by their path.
    """

    files: MetadataFiles
    manifests: dict[str, str] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)
    _live: Names = field(default_factory=lambda: Names.of(()))
    # Here spellings count: what may be two files is read twice.
    _spelled: dict[str, None] = field(default_factory=dict)
    _read: set[str] = field(default_factory=set)

    def add(self, snapshots: Iterable[Snapshot]) -> None:
        """Add snapshots: their lists are read, not their manifests.

        Raises:
            CorruptTableError: a list cannot be read.
            ObjectNotFoundError: a list is missing.
        """
        for snapshot in snapshots:
            if snapshot.manifest_list not in self._read:
                found = self.files.manifests(snapshot)
                self._spelled.update(dict.fromkeys(found))
                self.manifests.update((path_of(one), one) for one in found)
                self.lists[path_of(snapshot.manifest_list)] = snapshot.manifest_list
                self._read.add(snapshot.manifest_list)

    def live(self) -> Names:
        """Return the files that live in any of the snapshots, by path.

        Raises:
            CorruptTableError: a manifest cannot be read.
            ObjectNotFoundError: a manifest is missing.
        """
        new = [one for one in self._spelled if one not in self._read]
        for some in _chunks(new):
            paths = map(self.files.live_files, some)
            self._live |= Names.of(path_of(path) for found in paths for path, _ in found)
            self._read.update(some)
        return self._live


def statistics_of(metadata: TableMetadata) -> dict[int, list[tuple[str, int]]]:
    """Return location and size of the files of statistics, by snapshot."""
    found: dict[int, list[tuple[str, int]]] = {}
    for one in (*metadata.statistics, *metadata.partition_statistics):
        place = (one.statistics_path, one.file_size_in_bytes)
        found.setdefault(one.snapshot_id, []).append(place)
    return found


def _chunks(manifests: list[str]) -> Iterator[list[str]]:
    """Yield some manifests at a time."""
    for at in range(0, len(manifests), _MANIFESTS_AT_ONCE):
        yield manifests[at : at + _MANIFESTS_AT_ONCE]
