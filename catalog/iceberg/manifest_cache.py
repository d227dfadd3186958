"""What was read of the manifests of large tables, kept on this machine from run to run.

A manifest never changes: planning after a commit reads the new ones and takes all others from here.
What is new comes into a file of its own. When there are many, the small ones are put together, so
that a large one is seldom written again. Whatever is wrong with a file, the manifests are read
again. What the newest state of a table does not name is removed after a while, and of all tables
the ones that were used last are kept, up to a limit.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path

import pyarrow as pa

from catalog.iceberg.kept_parts import DRAFT_SUFFIX, SUFFIX, names_in, read_parts, write_parts
from catalog.iceberg.manifest import (
    DATA,
    DELETE_FILES_SCOPED,
    DELETES,
    FILES,
    Manifest,
    ManifestPart,
    ManifestReader,
)
from catalog.table import MapFunction

# Reading less than this takes a fraction of a second.
MANIFESTS_BYTES_MIN = 4 << 20
# Ten tables of a million files each.
_BYTES_MAX = 2 << 30
# Other runs may still plan against an older state.
_UNUSED_SECONDS_MAX = 3600.0
_VERSION = 2
# More files than this are put together, but for those much larger than all others together.
_FILES_MAX = 8
_LARGER = 4


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a file holds of the manifests that are asked for, by their names."""

    path: Path
    parts: Mapping[str, pa.Table]

    @property
    def rows(self) -> int:
        return sum(map(len, self.parts.values()))


class ManifestCache:
    """The manifests of one table."""

    def __init__(self, place: Path, table_uuid: str) -> None:
        self._place = place
        self._directory = place / sha256(table_uuid.encode()).hexdigest()[:24]

    def read(
        self, reader: ManifestReader, manifests: Sequence[Manifest], map_function: MapFunction
    ) -> list[ManifestPart]:
        """Read manifests, those that are not here through `map_function`; in their order."""
        told = _told(reader)
        names = [_name(told, one) for one in manifests]
        found: dict[str, ManifestPart] = {}
        for content in (DELETES, DATA):
            pairs = zip(names, manifests, strict=True)
            wanted = {name: one for name, one in pairs if one.content == content}
            live = self._live(_Kind(content, reader, map_function), wanted)
            found |= {name: ManifestPart.of(content, one) for name, one in live.items()}
        self._tidy(set(names))
        return [found[name] for name in names]

    def _live(self, kind: _Kind, wanted: Mapping[str, Manifest]) -> dict[str, pa.Table]:
        """Return the live files of manifests of one kind."""
        files = self._load(wanted, kind.schema) if wanted else []
        found = {name: part for file in files for name, part in file.parts.items()}
        unknown = {name: one for name, one in wanted.items() if name not in found}
        if unknown:
            found |= self._keep(kind, unknown, files)
        # What could not be written is read into memory.
        left = {name: one for name, one in unknown.items() if name not in found}
        return found | dict(zip(left, kind.read(left.values()), strict=True))

    def _load(self, wanted: Mapping[str, Manifest], schema: pa.Schema) -> list[_Kept]:
        """Return what is kept, each manifest once; the largest file first."""
        files: list[_Kept] = []
        missing = set(wanted)
        for path in self._paths():
            here = missing.intersection(names_in(path))
            parts = read_parts(path, here, schema) if here else {}
            if parts:
                files.append(_Kept(path, parts))
                missing -= parts.keys()
        return files

    def _keep(
        self, kind: _Kind, unknown: Mapping[str, Manifest], files: Sequence[_Kept]
    ) -> dict[str, pa.Table]:
        """Write what is new as it comes, and small files with it; return it, mapped."""
        small = {name: part for file in _small(files) for name, part in file.parts.items()}
        parts = chain(kind.read(unknown.values()), small.values())
        with suppress(OSError):
            path = write_parts(self._directory, [*unknown, *small], parts, kind.schema)
            return read_parts(path, unknown, kind.schema)
        return {}

    def _paths(self, suffix: str = SUFFIX) -> list[Path]:
        """Return the files of the table, the largest first."""
        with suppress(OSError):
            sizes = {Path(one.path): one.stat().st_size for one in os.scandir(self._directory)}
            kept = [path for path in sizes if path.suffix == suffix]
            return sorted(kept, key=lambda path: (-sizes[path], path))
        return []

    def _tidy(self, used: set[str]) -> None:
        """Remove what is out of use, first of this table and then of all."""
        unused, missing = self._paths(DRAFT_SUFFIX), set(used)  # drafts of those who were killed
        for path in self._paths():
            here = missing.intersection(names_in(path))
            missing -= here
            unused += [] if here else [path]
        with suppress(OSError):
            os.utime(self._directory)
            for path in unused:
                _remove_old(path)
            _limit(self._place)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Manifests of data files, or of deletes, and how they are read."""

    content: int
    reader: ManifestReader
    map_function: MapFunction

    @property
    def schema(self) -> pa.Schema:
        return _schema(self.content)

    def read(self, manifests: Iterable[Manifest]) -> Iterable[pa.Table]:
        """Read manifests as they are asked for."""
        parts = self.map_function(self.reader, list(manifests))
        return (part.live(self.content) for part in parts)


def _small(files: Sequence[_Kept]) -> list[_Kept]:
    """Return the files to be put together: when there are many, and not the large ones."""
    if len(files) < _FILES_MAX:
        return []
    smallest_first = sorted(files, key=lambda file: file.rows)
    together: list[_Kept] = []
    rows = 0
    for file in smallest_first:
        if together and file.rows > _LARGER * rows:
            break
        together.append(file)
        rows += file.rows
    return together


def _remove_old(path: Path) -> None:
    with suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > _UNUSED_SECONDS_MAX:
            path.unlink()


def _limit(place: Path) -> None:
    """Keep the tables that were used last, as far as there is room for them."""
    found = [one for one in os.scandir(place) if one.is_dir(follow_symlinks=False)]
    tables = sorted(found, key=lambda one: -one.stat().st_mtime)
    total = 0
    for table in tables:
        total += sum(one.stat().st_size for one in os.scandir(table.path))
        if total > _BYTES_MAX and table is not tables[0]:
            shutil.rmtree(table.path, ignore_errors=True)


def _told(reader: ManifestReader) -> str:
    """Return all that what is read depends on, beside the manifest."""
    prefixes = sorted(str(prefix) for prefix in reader.confinement.prefixes)
    return repr((_VERSION, prefixes, reader.specs))


def _name(told: str, manifest: Manifest) -> str:
    """Return what is known as the same: the manifest, and what reading it depends on."""
    text = repr((told, manifest, str(_schema(manifest.content))))
    return sha256(text.encode()).hexdigest()[:24]


def _schema(content: int) -> pa.Schema:
    return DELETE_FILES_SCOPED if content == DELETES else FILES
