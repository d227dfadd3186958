"""Runs tasks in the calling thread at submit: for tests and debugging.

Functions, arguments and results are encoded and decoded exactly as for a worker, so what works
here works there; only limits and cancellation need a process of their own.
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from runtime.api import Actor, Key, Profile, Ref, Resources, Retry, Runtime, Stats
from runtime.attempt import encode_for_task, name_of, outcome_of, rebuild, run_attempt
from runtime.errors import Cancelled, RuntimeFailure
from runtime.ledger import Ledger, base_bytes
from runtime.memory import Meter
from runtime.scheduler import require_feasible
from runtime.serialization import Buffer, decode, encode, in_memory

T = TypeVar("T")

_UNPLANNED = Profile(
    key=None, attempt=1, outcome="done", base_bytes=0, predicted_bytes=0, granted_bytes=0
)


class InlineRef(Ref[T]):
    """A value in memory, or why there is none."""

    __slots__ = ("buffers", "failure", "profile")

    def __init__(self, id: int) -> None:  # noqa: A002 - as in Ref
        super().__init__(id)
        self.buffers: Sequence[Buffer] = ()
        self.failure: RuntimeFailure | None = None
        self.profile: Profile | None = None

    def value(self) -> T:
        """Return a fresh copy of the value, or raise."""
        if self.failure is not None:
            raise copy.copy(self.failure)  # raising ties the caller's frames to it
        return cast("T", rebuild(lambda: decode(self.buffers)))


class InlineRuntime(Runtime):
    """The calling thread as a runtime; a node of `total` resources for what is feasible."""

    def __init__(self, total: Resources, ledger: Ledger) -> None:
        self._total = total
        self._ledger = ledger
        self._meter = Meter()
        self._ids = itertools.count(1)
        self._finished = self._failed = self._peak_bytes = 0
        self._cpu_seconds = 0.0
        self._closed = False

    def submit(
        self,
        fn: Callable[..., T],
        *args: object,
        memory: int | None = None,
        key: Key | None = None,
        cpus: int = 1,
        retry: Retry | None = None,
    ) -> Ref[T]:
        """See `Runtime.submit`; the task has ended when this returns."""
        del retry  # nothing can be lost here
        self._check(Resources(cpus, memory or 0))
        function = _ship(fn, what=f"the function {name_of(fn)}")
        inputs = [_argument(arg) for arg in args]
        input_bytes = sum(len(part) for arg in inputs for part in arg.buffers)
        base = base_bytes(memory, input_bytes)
        predicted = self._ledger.predict(key, base)
        planned = Profile(
            key=key,
            attempt=1,
            outcome="done",
            base_bytes=base,
            predicted_bytes=predicted.predicted_bytes,
            granted_bytes=min(predicted.granted_bytes, self._total.memory_bytes),
            input_bytes=input_bytes,
        )
        return self.run(lambda: decode(function)(*(arg.value() for arg in inputs)), planned)

    def put(self, value: T) -> Ref[T]:
        """See `Runtime.put`."""
        self._check(Resources())
        ref: InlineRef[T] = InlineRef(next(self._ids))
        ref.buffers = _ship(value, what="the value")
        return ref

    def get(self, refs: Any, timeout_seconds: float | None = None) -> Any:
        """See `Runtime.get`."""
        if isinstance(refs, Ref):
            return _own(refs).value()
        return [_own(ref).value() for ref in refs]

    def wait(
        self, refs: Sequence[Ref[T]], count: int = 1, timeout_seconds: float | None = None
    ) -> tuple[list[Ref[T]], list[Ref[T]]]:
        """See `Runtime.wait`: everything has ended."""
        return list(refs), []

    def actor(self, cls: Callable[..., object], *args: object, memory: int | None = None) -> Actor:
        """See `Runtime.actor`: the object lives in this process."""
        self._check(Resources(1, memory or 0))
        shipped = _ship(cls, what=f"the class {name_of(cls)}")
        inputs = [_argument(arg) for arg in args]
        return _InlineActor(self, lambda: decode(shipped)(*(arg.value() for arg in inputs)))

    def cancel(self, ref: Ref[object]) -> bool:
        """See `Runtime.cancel`: everything has ended."""
        return False

    def profile(self, ref: Ref[object]) -> Profile | None:
        """See `Runtime.profile`."""
        return _own(ref).profile

    def stats(self) -> Stats:
        """See `Runtime.stats`."""
        return Stats(
            total=self._total,
            granted=Resources(0, 0),
            workers=0,
            queued=0,
            running=0,
            finished=self._finished,
            failed=self._failed,
            object_bytes=0,
            peak_memory_bytes=self._peak_bytes,
            cpu_seconds=self._cpu_seconds,
        )

    def shutdown(self) -> None:
        """See `Runtime.shutdown`."""
        if not self._closed:
            self._closed = True
            self._ledger.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    def _check(self, request: Resources) -> None:
        if self._closed:
            raise Cancelled("the runtime was shut down")
        require_feasible(request, self._total)

    def run(self, task: Callable[[], T], planned: Profile) -> InlineRef[T]:
        """Run something now, measured; its result or failure is in the ref."""
        ref: InlineRef[T] = InlineRef(next(self._ids))
        ended = run_attempt(
            lambda: in_memory(encode(task())),
            meter=self._meter,
            granted_bytes=planned.granted_bytes,
        )
        ref.buffers, ref.failure = ended.result or (), ended.failure
        ref.profile = replace(
            planned,
            outcome=outcome_of(ended.failure),
            output_bytes=sum(len(part) for part in ref.buffers),
            **ended.usage._asdict(),
        )
        self._ledger.record(ref.profile)
        self._finished += ended.failure is None
        self._failed += ended.failure is not None
        self._peak_bytes = max(self._peak_bytes, ended.usage.anonymous_peak_bytes)
        self._cpu_seconds += ended.usage.cpu_seconds
        return ref


class _InlineActor:
    """An object of this process whose calls run like tasks."""

    def __init__(self, runtime: InlineRuntime, start: Callable[[], object]) -> None:
        self._runtime = runtime
        self._instance: object = None
        self._ended: RuntimeFailure | None = None

        def started() -> None:
            self._instance = start()

        self._ended = runtime.run(started, _UNPLANNED).failure

    def call(self, method: str, *args: object) -> Ref[object]:
        """See `Actor.call`."""
        inputs = [_argument(arg) for arg in args]

        def called() -> object:
            if self._ended is not None:
                raise self._ended
            return getattr(self._instance, method)(*(arg.value() for arg in inputs))

        return self._runtime.run(called, _UNPLANNED)

    def stop(self) -> None:
        """See `Actor.stop`."""
        self._instance = None
        self._ended = Cancelled("the actor was stopped")


def _own(ref: Ref[T]) -> InlineRef[T]:
    if not isinstance(ref, InlineRef):
        raise TypeError(f"{ref!r} was not made by this runtime")
    return ref


def _ship(value: object, *, what: str) -> list[bytes]:
    return in_memory(encode_for_task(value, what=what))


def _argument(arg: object) -> InlineRef[Any]:
    """Return an argument as what a task will read it from."""
    if isinstance(arg, Ref):
        return _own(arg)
    ref: InlineRef[Any] = InlineRef(0)
    ref.buffers = _ship(arg, what=f"an argument of type {type(arg).__qualname__}")
    return ref
