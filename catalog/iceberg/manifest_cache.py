"""What was read of the manifests of large tables, kept on this machine from run to run.

A manifest never changes: planning after a commit reads the new ones and takes all others from here.
A file holds what planning needs of one manifest, as Arrow lays it out, behind a checksum; it is
mapped, not read. Whatever is wrong with one, the manifest itself is read again. What the newest
state of a table does not name is removed after a while, and of all tables the ones that were used
last are kept, up to a limit.
"""

from __future__ import annotations

import os
import shutil
import time
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from catalog.iceberg.manifest import (
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
# Keeps what follows where Arrow wants it in memory.
_HEADER_BYTES = 64
_VERSION = 1


class ManifestCache:
    """The manifests of one table."""

    def __init__(self, place: Path, table_uuid: str) -> None:
        self._place = place
        self._directory = place / sha256(table_uuid.encode()).hexdigest()[:24]

    def read(
        self, reader: ManifestReader, manifests: Sequence[Manifest], map_function: MapFunction
    ) -> list[ManifestPart]:
        """Read manifests, those that are not here through `map_function`; in their order."""
        names = [_name(reader, one) for one in manifests]
        parts = [self._load(*pair) for pair in zip(names, manifests, strict=True)]
        unknown = [at for at, part in enumerate(parts) if part is None]
        found = map_function(reader, [manifests[at] for at in unknown])
        for at, part in zip(unknown, found, strict=True):
            parts[at] = part
            self._store(names[at], manifests[at], part)
        self._tidy(names)
        return [part for part in parts if part is not None]

    def _load(self, name: str, manifest: Manifest) -> ManifestPart | None:
        try:
            with pa.memory_map(str(self._directory / name)) as source:
                content = source.read_buffer()
            body = content.slice(_HEADER_BYTES)
            if bytes(content.slice(0, 4)) != _checksum(body):
                return None
            table = pa.ipc.open_stream(body).read_all()
        except (OSError, IndexError, pa.ArrowException):
            return None
        if not table.schema.equals(_schema(manifest)):
            return None
        return _part(manifest, table)

    def _store(self, name: str, manifest: Manifest, part: ManifestPart) -> None:
        """Keep what was read; a disk that is full is no reason to fail."""
        table = part.delete_files if manifest.content == DELETES else part.files
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        body = sink.getvalue()
        draft = self._directory / f"{uuid4()}.tmp"
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with draft.open("wb") as file:
                file.write(_checksum(body).ljust(_HEADER_BYTES, b"\0"))
                file.write(body)
            draft.replace(self._directory / name)

    def _tidy(self, used: Iterable[str]) -> None:
        """Remove what is out of use, first of this table and then of all."""
        kept, now = set(used), time.time()
        with suppress(OSError):
            os.utime(self._directory)
            for found in os.scandir(self._directory):
                if found.name not in kept and now - found.stat().st_mtime > _UNUSED_SECONDS_MAX:
                    Path(found.path).unlink(missing_ok=True)
            _limit(self._place)


def _limit(place: Path) -> None:
    """Keep the tables that were used last, as far as there is room for them."""
    tables = sorted(os.scandir(place), key=lambda one: -one.stat().st_mtime)
    total = 0
    for table in tables:
        total += sum(one.stat().st_size for one in os.scandir(table.path))
        if total > _BYTES_MAX and table is not tables[0]:
            shutil.rmtree(table.path, ignore_errors=True)


def _name(reader: ManifestReader, manifest: Manifest) -> str:
    """Return what is known as the same: the manifest, and all that what is read depends on."""
    prefixes = sorted(str(prefix) for prefix in reader.confinement.prefixes)
    told = repr((_VERSION, manifest, prefixes, reader.specs, str(_schema(manifest))))
    return f"{sha256(told.encode()).hexdigest()[:32]}.arrows"


def _schema(manifest: Manifest) -> pa.Schema:
    return DELETE_FILES_SCOPED if manifest.content == DELETES else FILES


def _part(manifest: Manifest, table: pa.Table) -> ManifestPart:
    if manifest.content == DELETES:
        return ManifestPart(FILES.empty_table(), table)
    return ManifestPart(table, DELETE_FILES_SCOPED.empty_table())


def _checksum(body: pa.Buffer) -> bytes:
    return zlib.crc32(body).to_bytes(4, "little")
