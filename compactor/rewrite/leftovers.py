"""Remove what an attempt that died has left behind."""

from __future__ import annotations

from catalog.errors import ObjectNotFoundError
from catalog.location import Location
from catalog.storage import Storage
from catalog.table import TableFiles
from compactor.rewrite.write import Destination

# Outputs are numbered and completed in order, so that a gap longer than this means the end.
_MISSING_MAX = 2


def leftovers(table: TableFiles, partition_key: str, attempt_id: str) -> tuple[Location, ...]:
    """Remove the outputs of an attempt that is not running and whose files no snapshot refers to.

    Returns:
        The locations that were removed.

    Raises:
        StorageError, AccessDeniedError: the storage cannot be asked.
    """
    destination = Destination(table, partition_key, attempt_id)
    found: list[Location] = []
    index = missing = 0
    while missing < _MISSING_MAX:
        location = destination.location(index)
        if _exists(table.storage, location):
            found.append(location)
            missing = 0
        else:
            missing += 1
        index += 1
    table.storage.delete(found)
    return tuple(found)


def _exists(storage: Storage, location: Location) -> bool:
    try:
        storage.head(location)
    except ObjectNotFoundError:
        return False
    return True
