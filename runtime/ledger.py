"""Keeps account of attempts: grants come out of it, profiles go in.

Used by one thread at a time. The store is read when an operation is first seen and written in
batches, off the path of single tasks.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from runtime.api import Key, Profile
from runtime.predictor import (
    AS_ASKED,
    BASE_BYTES,
    NOTHING_KNOWN,
    Observation,
    Prediction,
    Predictor,
    Prior,
    Rates,
)

if TYPE_CHECKING:
    from runtime.profiles import ProfileStore

A = TypeVar("A")
R = TypeVar("R")

_log = logging.getLogger(__name__)

UNWRITTEN_MAX = 128
"""Profiles that a killed driver may lose."""

ProfileSink = Callable[[Profile], None]


class Experience(NamedTuple):
    """What grants are learned from before the first task.

    Attributes:
        profiles: SQLite file of the profiles of earlier attempts; None: there are none to keep.
        priors: By operation, how the data that tasks hold compares with what is expected of them
            (mean and variance of the logarithm between tables), while few tables are known.
    """

    profiles: str | Path | None = None
    priors: Mapping[str, Prior] = NOTHING_KNOWN


class Ledger:
    """Predicts grants, and learns from, passes on and stores the profiles of attempts.

    Args:
        sink: Called with every profile.
        path: The profile store (SQLite), or None to learn within this process alone.
        priors: What is known of operations before they have run on a few tables.
    """

    def __init__(
        self,
        sink: ProfileSink | None,
        path: str | Path | None,
        priors: Mapping[str, Prior] = NOTHING_KNOWN,
    ) -> None:
        self._sink = sink
        self._store = None if path is None else _store(path)
        self._predictor = Predictor(priors)
        self._operations_read: set[str] = set()
        self._unwritten: list[Profile] = []

    def predict(self, key: Key | None, base_bytes: int) -> Prediction:
        """Return what a task is expected to need; without a key that is its base."""
        if key is None:
            return Prediction(base_bytes, base_bytes)
        self._read(key[1])
        return self._predictor.predict(key, base_bytes)

    def rates(self, key: Key | None) -> Rates:
        """Return what the base of a task of this key is multiplied by, as known by now."""
        if key is None:
            return AS_ASKED
        self._read(key[1])
        return self._predictor.rates(key)

    def wants(self, key: Key | None) -> bool:
        """Return whether anybody wants the profile of a task of this key."""
        return key is not None or self._sink is not None

    def record(self, profile: Profile) -> None:
        """Take in one attempt."""
        if self._sink is not None:
            _guarded(self._sink, profile)
        if profile.key is None:
            return
        self._read(profile.key[1])
        self._learn(profile.key, profile)
        if self._store is not None:
            self._unwritten.append(profile)
            if len(self._unwritten) >= UNWRITTEN_MAX:
                self.flush()

    def flush(self) -> None:
        """Write what the store does not have yet."""
        if self._store is not None:
            _guarded(self._store.append, self._unwritten)
            self._unwritten = []

    def _read(self, operation: str) -> None:
        if operation in self._operations_read:
            return
        self._operations_read.add(operation)
        if self._store is not None:
            for profile in _guarded(self._store.history, operation) or ():
                if profile.key is not None:
                    self._learn(profile.key, profile)

    def _learn(self, key: Key, profile: Profile) -> None:
        if profile.outcome == "done" and profile.anonymous_peak_bytes:
            seen = Observation(profile.anonymous_peak_bytes, profile.base_bytes)
            self._predictor.observe(key, seen)


def base_bytes(memory: int | None, input_bytes: int) -> int:
    """Return the estimate that a prediction multiplies."""
    return BASE_BYTES + input_bytes if memory is None else max(1, memory)


def _guarded(function: Callable[[A], R], argument: A) -> R | None:
    """Call out; a profile is never worth a task, so a failure is logged and no more."""
    try:
        return function(argument)
    except Exception:  # noqa: BLE001 - a sink is the caller's code, a store may be on a full disk
        name = getattr(function, "__qualname__", type(function).__qualname__)
        _log.exception("the profile of an attempt is lost, the attempt is not: %s failed", name)
        return None


def _store(path: str | Path) -> "ProfileStore":
    from runtime.profiles import ProfileStore

    return ProfileStore(path)
