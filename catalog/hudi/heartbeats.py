"""Signs of life: an empty file for each instant that is being carried out, written again and again.

Other writers look at when it was written last, and leave the instant alone as long as it beats.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime

from catalog.errors import CatalogError, ObjectNotFoundError
from catalog.location import Location
from catalog.storage import Storage

# Hudi's writers beat once a minute, and take for dead what has missed two beats.
_BEAT_SECONDS = 30.0
TOLERATED_SECONDS = 120.0
# Writers may be told to beat less often, and their clock and the store's may differ from ours.
_DEAD_SECONDS = 5 * TOLERATED_SECONDS

_LOG = logging.getLogger(__name__)


@contextmanager
def beating(
    storage: Storage, root: Location, instant: str, *, beat_seconds: float = _BEAT_SECONDS
) -> Iterator[None]:
    """Give signs of life for an instant while the block runs; none is left afterwards.

    Args:
        storage: where the table is.
        root: its directory.
        instant: time of the instant.
        beat_seconds: how often.

    Raises:
        CatalogError: the first one cannot be written.
    """
    location = _location(root, instant)
    storage.write(location, b"")
    ending = threading.Event()

    def beat() -> None:
        while not ending.wait(beat_seconds):
            try:
                storage.write(location, b"")
            except CatalogError as error:
                # Missing one beat is tolerated, and the next one may succeed.
                _LOG.warning("no sign of life for instant %s: %s", instant, error)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        storage.delete([location])


class Heartbeats:
    """The signs of life that this process gives on one table."""

    def __init__(self, storage: Storage, root: Location) -> None:
        """Give none yet.

        Args:
            storage: where the table is.
            root: its directory.
        """
        self._storage = storage
        self._root = root
        self._running: dict[str, ExitStack] = {}

    def __contains__(self, instant: str) -> bool:
        """Tell whether they are given for the instant of a time."""
        return instant in self._running

    def begin(self, instant: str) -> None:
        """Give them for the instant of a time from now on.

        Raises:
            CatalogError: the first one cannot be written.
        """
        if instant not in self._running:
            stack = ExitStack()
            stack.enter_context(beating(self._storage, self._root, instant))
            self._running[instant] = stack

    def end(self, instant: str) -> None:
        """Give no more of them for an instant; those of other processes stay."""
        if instant in self._running:
            self._running.pop(instant).close()

    def clear(self, instant: str) -> None:
        """Leave none of an instant that is completed, not of a process that died either."""
        if instant in self._running:
            self.end(instant)
        else:
            self._storage.delete([_location(self._root, instant)])


def is_beating(storage: Storage, root: Location, instant: str, *, now: datetime) -> bool:
    """Tell whether somebody is carrying out an instant, by the clock of the store.

    Args:
        storage: where the table is.
        root: its directory.
        instant: time of the instant.
        now: the moment, with time zone.
    """
    silence = _silence_seconds(storage, root, instant, now)
    return silence is not None and silence < TOLERATED_SECONDS


def has_died(storage: Storage, root: Location, instant: str, *, now: datetime) -> bool:
    """Tell whether whoever carried out an instant gave signs of life, and gives none any more.

    Not all writers give any: silence alone says nothing. What one that lives has written would be
    deleted, so that it must be long.

    Args:
        storage: where the table is.
        root: its directory.
        instant: time of the instant.
        now: the moment, with time zone.
    """
    silence = _silence_seconds(storage, root, instant, now)
    return silence is not None and silence >= _DEAD_SECONDS


def _silence_seconds(storage: Storage, root: Location, instant: str, now: datetime) -> float | None:
    """Return how long ago the last sign of life was given; None for never."""
    try:
        beat_at = storage.head(_location(root, instant)).modified_at
    except ObjectNotFoundError:
        return None
    return (now - beat_at).total_seconds()


def _location(root: Location, instant: str) -> Location:
    return root.child(".hoodie", ".heartbeat", instant)
