"""Find what an attempt that died has left behind: outputs, and uploads that were not finished."""

from __future__ import annotations

import logging

from catalog.errors import AccessDeniedError, ObjectNotFoundError
from catalog.location import Location
from catalog.storage import Storage
from catalog.table import DeleteRecorder, TableFiles
from compactor.rewrite.write import Destination

logger = logging.getLogger(__name__)

# Outputs are numbered and completed in order, so that a gap longer than this means the end.
_MISSING_MAX = 2


def leftovers(table: TableFiles, partition_key: str, attempt_id: str) -> tuple[Location, ...]:
    """Return where there are outputs of an attempt that is not running; give up its uploads.

    Raises:
        StorageError, AccessDeniedError: the storage cannot be asked.
    """
    destination = Destination(table, partition_key, attempt_id)
    found: list[Location] = []
    index = missing = 0
    while missing < _MISSING_MAX:
        location = destination.location(index)
        there = [one for one in _names(table, location) if _exists(table.storage, one)]
        found += there
        missing = 0 if there else missing + 1
        index += 1
        _abort_uploads(table.storage, location)
    return tuple(found)


def _names(table: TableFiles, location: Location) -> set[Location]:
    """Return what an output may be called: delete files may have an ending of their own."""
    if isinstance(table, DeleteRecorder):
        return {location, table.deletes_location(location)}
    return {location}


def _abort_uploads(storage: Storage, location: Location) -> None:
    """Give up what is half uploaded: no listing of files shows it, but it is paid for."""
    try:
        storage.abort_uploads(location)
    except AccessDeniedError as error:
        logger.warning("unfinished uploads are left to the rules of the bucket: %s", error)


def _exists(storage: Storage, location: Location) -> bool:
    try:
        storage.head(location)
    except ObjectNotFoundError:
        return False
    return True
