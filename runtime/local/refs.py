"""Refs of the local backend, and how threads wait for them to end."""

import copy
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from runtime.api import Profile, Ref
from runtime.attempt import rebuild
from runtime.errors import Lost, RuntimeFailure
from runtime.local.objects import SharedFile
from runtime.local.store import Packed, Piece, unpack

if TYPE_CHECKING:
    from runtime.local.task import LocalTask

T = TypeVar("T")


class LocalRef(Ref[T]):
    """A value in the pipe's or the store's form, or why there is none.

    `owner` is the session of the runtime that handed it out; `dependents` and `task` belong to
    the dispatcher's thread; the rest is written once, by `settle`, before `has_ended` is.
    """

    __slots__ = (
        "_profile",
        "_segment",
        "dependents",
        "failure",
        "file",
        "has_ended",
        "owner",
        "packed",
        "task",
        "waiters",
    )

    def __init__(
        self,
        id: int,  # noqa: A002 - as in Ref
        segment: int | None = None,
        *,
        owner: object = None,
    ) -> None:
        super().__init__(id)
        self.owner = owner
        self.has_ended = False
        self.packed: Packed | None = None
        self.file: SharedFile | None = None
        self.failure: RuntimeFailure | None = None
        self.task: LocalTask | None = None
        self.dependents: list[LocalTask] = []
        self.waiters: list[_Waiter] = []
        self._segment = segment
        self._profile: Callable[[], Profile | None] = _no_profile

    def hold(self, packed: Packed, file: SharedFile | None) -> None:
        """Take over an object, of which this ref may be one segment."""
        self.packed, self.file = packed, file

    def piece(self, segment: int | None = None) -> Piece:
        """Return what a task reads, of a list one segment if that is asked for.

        Raises:
            Lost: The segment was given back, or there is no value.
        """
        packed = self.packed
        if packed is None:
            raise Lost(f"{self!r} has no value")
        own = self._segment
        if own is None and packed.is_list:
            own = segment
        if self.file is not None and self.file.freed and (own is None or own in self.file.freed):
            raise Lost(f"{self!r}: a segment was given back by the task that used it")
        return Piece(packed, own)

    def value(self) -> T:
        """Return the value of a ref that has ended, or raise its failure."""
        if self.failure is not None:
            # A copy: raising would tie the caller's frames to the ref.
            raise copy.copy(self.failure)
        piece = self.piece()
        return cast("T", rebuild(lambda: unpack(piece)))

    @property
    def profile(self) -> Profile | None:
        """What the last attempt took."""
        return self._profile() if self.has_ended else None


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


def settle(ref: LocalRef[Any], profile: Callable[[], Profile] | None = None) -> None:
    """Let a ref end: what it holds is final, whoever waits for it goes on."""
    with _lock:
        if profile is not None:
            ref._profile = profile  # noqa: SLF001 - the ref is ours
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


def _no_profile() -> None:
    return None
