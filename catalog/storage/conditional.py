"""Conditional puts that tell a lost reply from a lost race.

When the reply to a put is lost, the client library tries again and is told that the object
exists: by its own first try. So neither a conflict nor a failure is believed before the stored
bytes have been read back and compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from catalog.errors import ObjectExistsError, ObjectNotFoundError, StorageError

if TYPE_CHECKING:
    from catalog.location import Location
    from catalog.storage.backend import Backend

# The client retries each request already; these cover a reply lost after its last retry.
_ATTEMPTS_MAX = 3


def put_conditionally(
    backend: Backend, location: Location, data: bytes, put: Callable[[], None]
) -> None:
    """Run a conditional put until its outcome is known.

    Raises:
        ObjectExistsError: other bytes are stored and the put will not replace them.
        StorageError: the outcome is unknown.
    """
    for attempt in range(1, _ATTEMPTS_MAX + 1):
        try:
            return put()
        except (ObjectExistsError, StorageError) as error:
            stored = _stored(backend, location)
            if stored == data:
                return None
            # Neither a conflict with nothing nor a put that has not arrived ends the race.
            is_lost = isinstance(error, ObjectExistsError) and stored is not None
            if is_lost or attempt == _ATTEMPTS_MAX:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _stored(backend: Backend, location: Location) -> bytes | None:
    try:
        return backend.read(location)
    except ObjectNotFoundError:
        return None
