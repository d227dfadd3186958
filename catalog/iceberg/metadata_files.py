"""Table metadata files: whose they are, and those that the table does not want to keep any more.

Which ones a table keeps is up to its log of metadata: `write.metadata.previous-versions-max` of
them. Where `write.metadata.delete-after-commit.enabled` is set, writers delete what leaves the log;
what they missed, because they died or did not care, goes here.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from catalog.errors import CorruptTableError, ObjectNotFoundError
from catalog.iceberg.properties import is_set
from catalog.iceberg.reachable import path_of
from catalog.iceberg.under_way import metadata_directory
from catalog.iceberg.upkeep import UpkeepTarget
from catalog.location import Location
from catalog.storage import Storage
from catalog.storage.values import ObjectInfo
from catalog.sweeping import Tally, batches
from catalog.upkeep import UpkeepOrder, UpkeepResult

DELETE_AFTER_COMMIT = "write.metadata.delete-after-commit.enabled"
_NUMBERED = re.compile(r"(\d+)-[0-9a-f-]{36}(?:\.gz)?\.metadata\.json(?:\.gz)?", re.ASCII)
_ANY = re.compile(r".+\.metadata\.json(?:\.gz)?")
_UUID = re.compile(rb'"table-uuid"\s*:\s*"([^"]+)"')
# Writers put the id first.
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class OldMetadata:
    """Removes the metadata files that are older than the table's log of them."""

    target: UpkeepTarget
    name: str = "old-metadata"
    is_usual: bool = True

    def check(self, order: UpkeepOrder) -> None:
        """Take any order: how many are kept is up to the table alone."""

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Remove them.

        Raises:
            CatalogError: the table cannot be read, or its storage refuses.
        """
        table = self.target.load()
        tally = Tally(self.name)
        if not is_set(table.metadata.properties, DELETE_AFTER_COMMIT, default=False):
            return tally.result(f"the table keeps them ({DELETE_AFTER_COMMIT})")
        for batch in batches(self._outdated(table)):
            tally.add([(one.location.name, one.size_bytes) for one in batch])
            if not order.is_dry_run:
                self.target.storage.delete([one.location for one in batch])
        return tally.result(f"{len(table.metadata.metadata_log) + 1} kept")

    def _outdated(self, table: Table) -> Iterator[ObjectInfo]:
        """Yield the files of versions before those that the log names."""
        known = logged(table)
        oldest = min((_number(path) for path in known), default=None)
        if oldest is None:
            return
        storage = self.target.storage
        for info in storage.list(metadata_directory(table, self.target.confinement)):
            number = _number(info.location.name)
            is_older = 0 <= number < oldest and path_of(str(info.location)) not in known
            if is_older and table_uuid(storage, info.location) == str(table.metadata.table_uuid):
                yield info


def logged(table: Table) -> set[str]:
    """Return the paths of the current metadata file and of those in the log."""
    log = (entry.metadata_file for entry in table.metadata.metadata_log)
    return {path_of(one) for one in (table.metadata_location, *log)}


def is_table_metadata(name: str) -> bool:
    """Whether a file is called as table metadata are."""
    return _ANY.fullmatch(name) is not None


def table_uuid(storage: Storage, location: Location) -> str | None:
    """Return the id of the table that a metadata file is of; None where it does not tell."""
    try:
        if location.name.endswith(".gz") or ".gz." in location.name:
            return _uuid_in(gzip.decompress(storage.read(location)))
        info = storage.head(location)
        head = storage.read_range(location, 0, min(info.size_bytes, _HEAD_BYTES))
        found = _UUID.search(head)
        return found[1].decode() if found else _uuid_in(storage.read(location))
    except (ObjectNotFoundError, CorruptTableError, OSError, EOFError, ValueError, zlib.error):
        return None


def _uuid_in(text: bytes) -> str | None:
    content = json.loads(text)
    return str(content.get("table-uuid")) if isinstance(content, dict) else None


def _number(path: str) -> int:
    """Return the version that a metadata file is of; -1 for one that is called otherwise."""
    found = _NUMBERED.fullmatch(path.rpartition("/")[2])
    return int(found[1]) if found else -1


def others_metadata(storage: Storage, table: Table, directory: Location) -> str | None:
    """Return a metadata file of another table in a directory, None for none."""
    known, own = logged(table), _uuid(table.metadata)
    for info in storage.list(directory):
        if is_table_metadata(info.location.name) and path_of(str(info.location)) not in known:
            found = table_uuid(storage, info.location)
            if found is not None and found != own:
                return str(info.location)
    return None


def _uuid(metadata: TableMetadata) -> str:
    return str(metadata.table_uuid)
