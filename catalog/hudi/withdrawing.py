"""Taking work off the timeline that was announced and will not be done."""

from __future__ import annotations

from catalog.hudi.instants import InstantWriter
from catalog.hudi.locking import Lock
from catalog.hudi.markers import remove_failed, remove_markers
from catalog.hudi.metadata_table.removal import remove_instant
from catalog.hudi.metadata_table.table import open_metadata_table
from catalog.hudi.reading import Source
from catalog.hudi.rolled_back import undone_by
from catalog.hudi.timeline import Instant


def take_back(source: Source, instant: Instant, lock: Lock) -> None:
    """Delete what was written for an instant, and the instant; of a completed one its markers.

    What another writer has begun to roll back is left to it: each of two would miss what the other
    has deleted, and Hudi's writers fail then.

    Args:
        source: the table as it is under its lock.
        instant: of the work.
        lock: that is held.

    Raises:
        CatalogError: the lock was lost, or the store does not answer.
    """
    storage, root = source.storage, source.root
    if instant.is_completed:
        remove_markers(storage, root, instant.time)
        return
    if undone_by(source, instant):
        return
    metadata = open_metadata_table(storage, root, source.config)
    lock.require()
    remove_failed(storage, root, instant.time, written=())
    if metadata is not None:
        remove_instant(metadata, instant.time)
    InstantWriter(storage, root, source.config).remove(instant)
    remove_markers(storage, root, instant.time)
