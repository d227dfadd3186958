"""Refs of the local backend, and how threads wait for them to end."""

import copy
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from runtime.api import Profile, Ref
from runtime.attempt import rebuild
from runtime.errors import RuntimeFailure
from runtime.local.store import Packed, SharedFile, Stored, unpack

if TYPE_CHECKING:
    from runtime.local.task import LocalTask

T = TypeVar("T")


class LocalRef(Ref[T]):
    """A value in the pipe's or the store's form, or why there is none.

    `dependents` and `task` belong to the dispatcher's thread; the rest is written once, by
    `settle`, before `has_ended` is.
    """

    __slots__ = (
        "_file",
        "dependents",
        "failure",
        "has_ended",
        "packed",
        "profile",
        "task",
        "waiters",
    )

    def __init__(self, id: int) -> None:  # noqa: A002 - as in Ref
        super().__init__(id)
        self.has_ended = False
        self.packed: Packed | None = None
        self.failure: RuntimeFailure | None = None
        self.profile: Profile | None = None
        self.task: LocalTask | None = None
        self.dependents: list[LocalTask] = []
        self.waiters: list[_Waiter] = []
        self._file: SharedFile | None = None

    def hold(self, packed: Packed) -> None:
        """Take over an object; its file goes with this ref."""
        self.packed = packed
        self._file = SharedFile(packed.path) if isinstance(packed, Stored) else None

    def value(self) -> T:
        """Return the value of a ref that has ended, or raise its failure."""
        if self.failure is not None:
            # A copy: raising would tie the caller's frames to the ref.
            raise copy.copy(self.failure)
        packed = self.packed
        if packed is None:
            raise RuntimeError(f"{self!r} has not ended")
        return cast("T", rebuild(lambda: unpack(packed)))


class _Waiter:
    """One thread that waits for `missing` more refs to end."""

    __slots__ = ("event", "missing")

    def __init__(self, missing: int) -> None:
        self.missing = missing
        self.event = threading.Event()

    def count_one(self) -> None:
        self.missing -= 1
        if self.missing <= 0:
            self.event.set()


_lock = threading.Lock()


def settle(ref: LocalRef[Any], profile: Profile | None = None) -> None:
    """Let a ref end: what it holds is final, whoever waits for it goes on."""
    with _lock:
        ref.profile = profile
        ref.has_ended = True
        waiters, ref.waiters = ref.waiters, []
        for waiter in waiters:
            waiter.count_one()


def wait_for(refs: Sequence[LocalRef[Any]], count: int, timeout_seconds: float | None) -> bool:
    """Wait until `count` of the refs have ended; returns whether they have."""
    with _lock:
        pending = [ref for ref in refs if not ref.has_ended]
        missing = count - (len(refs) - len(pending))
        if missing <= 0:
            return True
        waiter = _Waiter(missing)
        for ref in pending:
            ref.waiters.append(waiter)
    try:
        return waiter.event.wait(timeout_seconds)
    finally:
        with _lock:
            for ref in pending:
                if waiter in ref.waiters:
                    ref.waiters.remove(waiter)
