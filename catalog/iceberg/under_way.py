"""Whether a request that a dead process sent may still reach the catalog and be applied.

A commit writes its manifest list before it asks for the swap, and names in its header the snapshot
that it is to follow. While a list lies there that fits the head, the catalog may still be about to
apply the request: what it refers to must stay. The way out is to commit again under the same id,
which moves the head, so that the late request can only be refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pyiceberg.avro.file import AvroFile
from pyiceberg.io import FileIO
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record

from catalog.commits import Commit
from catalog.errors import CommitUnknownError, ObjectNotFoundError
from catalog.iceberg.commit_properties import pace
from catalog.iceberg.entries import decoding
from catalog.iceberg.file_io import StorageFileIO
from catalog.iceberg.staging import leftover_pattern, snapshot_id_of
from catalog.location import Confinement, Location
from catalog.storage import Storage
from catalog.storage.values import ObjectInfo

# How long the network may hold a request whose sender is dead. TCP retransmits for 924 s at the
# usual kernel setting (`tcp_retries2`), once on either side of a gateway.
_DELIVERY_SECONDS_MAX = 2 * 924


def refuse_while_under_way(
    table: Table, storage: Storage, *, confinement: Confinement, commit: Commit
) -> None:
    """Make sure that no request for a commit can be applied any more.

    Call it once the requests of this process are answered and what they staged is removed.

    Raises:
        CommitUnknownError: one still may be.
    """
    if table.metadata.snapshot_by_id(snapshot_id_of(commit.commit_id)) is not None:
        return  # it has landed, and no table takes the same snapshot twice
    io = StorageFileIO(storage, confinement)
    # Once received, a server tries as long as the table allows.
    life = timedelta(
        seconds=_DELIVERY_SECONDS_MAX + pace(table.metadata.properties).timeout_seconds
    )
    for staged in staged_files(table, storage, confinement=confinement, commit=commit):
        is_list = staged.location.name.startswith("snap-")
        is_young = datetime.now(UTC) - staged.modified_at < life
        if is_list and is_young and _fits(staged.location, table.metadata, io):
            raise CommitUnknownError(
                f"a request for commit {commit.commit_id} may still be on its way",
                hint=f"run the same command again; after {life} at the latest it is given up",
            )


def staged_files(
    table: Table, storage: Storage, *, confinement: Confinement, commit: Commit
) -> Iterator[ObjectInfo]:
    """Yield the manifests and manifest lists that attempts at a commit have written."""
    pattern = leftover_pattern(commit.commit_id)
    for found in storage.list(metadata_directory(table, confinement)):
        if pattern.fullmatch(found.location.name):
            yield found


def metadata_directory(table: Table, confinement: Confinement) -> Location:
    """Return where the table's metadata files go."""
    return confinement.parse(table.location_provider().new_metadata_location("x")).parent


def _fits(manifest_list: Location, metadata: TableMetadata, io: FileIO) -> bool:
    """Whether the head is, or by a rollback could become, the one that the list is to follow."""
    try:
        with decoding(str(manifest_list)):
            staged: AvroFile[Record] = AvroFile(io.new_input(str(manifest_list)))
            with staged:
                header = staged.header.meta
            sequence_number = int(header.get("sequence-number", 0))
    except ObjectNotFoundError:
        return False  # somebody else has just removed it
    current = metadata.current_snapshot_id
    if header.get("parent-snapshot-id") == ("null" if current is None else str(current)):
        return True
    return metadata.format_version > 1 and sequence_number >= metadata.next_sequence_number()
