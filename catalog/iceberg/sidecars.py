"""Sidecars of Iceberg tables: Puffin files that the metadata names as statistics of a snapshot.

The metadata says nothing of the blobs inside: there are readers that refuse a table whose metadata
name a type of blob they do not know. Our files are known by their names instead. A snapshot has one
file of statistics, so nothing is added where another writer's is. It goes when its snapshot does.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.statistics import StatisticsFile
from pyiceberg.table.update import AssertTableUUID, SetStatisticsUpdate

from catalog.attempts import attempts
from catalog.errors import CatalogError, LocationError
from catalog.iceberg.catalogs import catalog_errors
from catalog.iceberg.commit_properties import pace
from catalog.iceberg.under_way import metadata_directory
from catalog.iceberg.upkeep import Answer
from catalog.location import Confinement, Location
from catalog.model import Snapshot
from catalog.puffin import Blob, encode
from catalog.sidecars import Sidecar
from catalog.storage import Storage

_OURS = re.compile(r"compact-\d+-[0-9a-f]{32}\.puffin", re.ASCII)


class SidecarTarget(Protocol):
    """The table that blobs are kept beside."""

    @property
    def name(self) -> str:
        """How messages call it."""

    @property
    def storage(self) -> Storage:
        """Where its files are."""

    @property
    def confinement(self) -> Confinement:
        """The prefixes that its files may lie below."""

    def load(self) -> Table:
        """Read the table anew from its catalog."""


def sidecars(target: SidecarTarget, table: Table) -> list[Sidecar]:
    """Return our statistics files, in the order of their snapshots."""
    order = {one.snapshot_id: at for at, one in enumerate(table.metadata.snapshots)}
    known = [one for one in table.metadata.statistics if one.snapshot_id in order]
    found = []
    for one in sorted(known, key=lambda file: order[file.snapshot_id]):
        with suppress(LocationError):
            location = target.confinement.parse(one.statistics_path)
            if _OURS.fullmatch(location.name):
                found.append(Sidecar(location, one.file_size_in_bytes))
    return found


def add_sidecar(target: SidecarTarget, snapshot: Snapshot, blobs: Sequence[Blob]) -> bool:
    """Write blobs and name them in the metadata; tell whether that was possible."""
    table = target.load()
    number = int(snapshot.snapshot_id)
    if not _is_free(table, number):
        return False
    file = encode(blobs, snapshot_id=number, sequence_number=snapshot.sequence_number)
    name = f"compact-{number}-{uuid.uuid4().hex}.puffin"
    location = metadata_directory(table, target.confinement).child(name)
    target.storage.write(location, file.content)
    statistics = StatisticsFile.model_validate(
        {
            "snapshot-id": number,
            "statistics-path": str(location),
            "file-size-in-bytes": len(file.content),
            "file-footer-size-in-bytes": file.footer_bytes,
            "blob-metadata": [],
        }
    )
    answer = _named(target, table, statistics)
    if answer is Answer.REFUSED:
        _remove(target, location)
    return answer is Answer.TAKEN


def _named(target: SidecarTarget, table: Table, statistics: StatisticsFile) -> Answer:
    """Name a file in the metadata; what the table says is what happened, whatever the replies."""
    answer = Answer.REFUSED
    for _ in attempts(pace(table.metadata.properties)):
        if not _is_free(table, statistics.snapshot_id):
            break
        update = SetStatisticsUpdate.model_validate({"statistics": statistics})
        requirement = AssertTableUUID(uuid=table.metadata.table_uuid)
        try:
            with catalog_errors(target.name), suppress(CommitFailedException):
                table.catalog.commit_table(table, (requirement,), (update,))
                return Answer.TAKEN
        except CatalogError:
            answer = Answer.UNKNOWN  # it may still arrive: the file has to be there then
        table = target.load()
    known = {one.statistics_path for one in table.metadata.statistics}
    return Answer.TAKEN if statistics.statistics_path in known else answer


def _is_free(table: Table, snapshot_id: int) -> bool:
    """Whether the snapshot is there and has no statistics yet."""
    has_statistics = any(one.snapshot_id == snapshot_id for one in table.metadata.statistics)
    return table.metadata.snapshot_by_id(snapshot_id) is not None and not has_statistics


def _remove(target: SidecarTarget, location: Location) -> None:
    with suppress(CatalogError):
        target.storage.delete([location])
