"""Removes metadata files that nothing refers to: those of a commit of ours, and the outdated ones.

Only names that the commit itself has given are ever candidates, and of these only what no snapshot
of the table refers to. The one file that a commit does not name is the table metadata that a
catalog client wrote and never swapped in; it is known by the snapshot inside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from catalog.commits import Commit
from catalog.errors import ObjectNotFoundError
from catalog.iceberg.file_io import StorageFileIO
from catalog.iceberg.lookup import is_unbroken, referenced_metadata
from catalog.iceberg.properties import is_set
from catalog.iceberg.staging import committed_by, leftover_pattern, snapshot_id_of
from catalog.iceberg.under_way import metadata_directory, refuse_while_under_way
from catalog.location import Confinement, Location
from catalog.storage import Storage

_METADATA_FILE = re.compile(r"(\d{5,})-[0-9a-f-]{36}\.metadata\.json")
_DELETE_AFTER_COMMIT = "write.metadata.delete-after-commit.enabled"


def remove_leftovers(
    table: Table, storage: Storage, *, confinement: Confinement, commit: Commit
) -> None:
    """Remove what a commit has left behind; it must not be running.

    Raises:
        CommitUnknownError: a request for it may still arrive; nothing was removed.
    """
    refuse_while_under_way(table, storage, confinement=confinement, commit=commit)
    metadata = table.metadata
    pattern = leftover_pattern(commit.commit_id)
    first_version = _version_at_base(table, commit)
    candidates: list[Location] = []
    versions: list[Location] = []
    for found in storage.list(metadata_directory(table, confinement)):
        name = found.location.name
        version = _METADATA_FILE.fullmatch(name)
        if pattern.fullmatch(name):
            candidates.append(found.location)
        elif version is not None and int(version[1]) > first_version:
            versions.append(found.location)
    if candidates:
        io = StorageFileIO(storage, confinement)
        kept = {
            confinement.parse(path) for path in referenced_metadata(_since(metadata, commit), io)
        }
        storage.delete(one for one in candidates if one not in kept)
    storage.delete(list(_never_current(table, storage, commit=commit, versions=versions)))


def remove_old_metadata(before: Table, after: TableMetadata, io: StorageFileIO) -> None:
    """Delete the metadata files that have left the log, where the table wants them deleted."""
    kept = {entry.metadata_file for entry in after.metadata_log}
    # A catalog that does not show its log says nothing of what has left it.
    if kept and is_set(after.properties, _DELETE_AFTER_COMMIT, default=False):
        for entry in before.metadata.metadata_log:
            if entry.metadata_file not in kept:
                io.delete(entry.metadata_file)


def _since(metadata: TableMetadata, commit: Commit) -> Iterator[Snapshot]:
    """Yield the snapshots that may refer to files of the commit: no older one can."""
    for snapshot in metadata.snapshots:
        if (snapshot.sequence_number or 0) >= commit.base.sequence_number:
            yield snapshot


def _version_at_base(table: Table, commit: Commit) -> int:
    """Return a version of the metadata that is not newer than the begin of the commit."""
    log = [(entry.timestamp_ms, entry.metadata_file) for entry in table.metadata.metadata_log]
    log.append((table.metadata.last_updated_ms, table.metadata_location))
    older = [path for time_ms, path in log if time_ms <= commit.base.timestamp_ms]
    found = _METADATA_FILE.fullmatch((older[-1] if older else log[0][1]).rpartition("/")[2])
    return int(found[1]) if found else 0


def _never_current(
    table: Table, storage: Storage, *, commit: Commit, versions: list[Location]
) -> Iterator[Location]:
    """Yield the metadata files that propose the commit and that the catalog never pointed to."""
    metadata = table.metadata
    snapshot_id = snapshot_id_of(commit.commit_id)
    landed = metadata.snapshot_by_id(snapshot_id)
    if landed is not None and committed_by(landed) != commit.commit_id:
        return
    if landed is None and not is_unbroken(metadata, commit):
        return  # it may have landed and been expired since: its metadata was current once
    known = {entry.metadata_file for entry in metadata.metadata_log} | {table.metadata_location}
    known_locations = {Location.parse(path) for path in known}
    for location in versions:
        if location in known_locations:
            continue
        proposed = _manifest_list_in(storage, location, snapshot_id)
        if proposed is not None and (landed is None or proposed != landed.manifest_list):
            yield location


def _manifest_list_in(storage: Storage, location: Location, snapshot_id: int) -> str | None:
    """Return the manifest list that a metadata file gives a snapshot; None when it has none."""
    try:
        content: Any = json.loads(storage.read(location))
    except (ValueError, ObjectNotFoundError):
        return None
    snapshots = content.get("snapshots", []) if isinstance(content, dict) else []
    for snapshot in snapshots:
        if snapshot.get("snapshot-id") == snapshot_id:
            return str(snapshot.get("manifest-list"))
    return None
