"""Runs tasks in the calling thread at submit: for tests and debugging.

Functions, arguments and results are encoded and decoded exactly as for a worker, so what works
here works there; only limits and cancellation need a process of their own.
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any, TypeVar, cast

from runtime.api import (
    Actor,
    Gather,
    Key,
    Profile,
    Ref,
    Resources,
    Retry,
    Runtime,
    Segments,
    Stats,
)
from runtime.attempt import (
    as_segments,
    encode_for_task,
    name_of,
    outcome_of,
    rebuild,
    required,
    run_attempt,
)
from runtime.errors import Cancelled, Lost, OutOfMemory, RuntimeFailure
from runtime.handing import own
from runtime.ledger import Ledger, base_bytes
from runtime.memory import IDLE_WORKER_BYTES, Meter
from runtime.scheduler import require_feasible
from runtime.serialization import decode, encode, in_memory, rows_of

T = TypeVar("T")

_UNPLANNED = Profile(
    key=None, attempt=1, outcome="done", base_bytes=0, predicted_bytes=0, granted_bytes=0
)


@dataclass(slots=True, eq=False)
class _Object:
    """A value as the parts of its segments; None where one was given back."""

    segments: list[list[bytes] | None]
    is_list: bool = False

    def size_bytes(self, segment: int | None = None) -> int:
        chosen = self.segments if segment is None else [self.segments[segment]]
        return sum(len(part) for parts in chosen for part in parts or ())

    def value(self, segment: int | None) -> Any:
        if segment is None and self.is_list:
            return [self.value(place) for place in range(len(self.segments))]
        parts = self.segments[segment or 0]
        if parts is None:
            raise Lost("this segment was given back by the task that used it")
        return decode(parts)


class InlineRef(Ref[T]):
    """A value in memory, or a segment of one, or why there is none."""

    __slots__ = ("failure", "object", "profile", "segment")

    def __init__(self, id: int, segment: int | None = None) -> None:  # noqa: A002 - as in Ref
        super().__init__(id)
        self.segment = segment
        self.object = _Object([])
        self.failure: RuntimeFailure | None = None
        self.profile: Profile | None = None

    def size_bytes(self, segment: int | None = None) -> int:
        """Return the size of the value, or of one of its segments."""
        return self.object.size_bytes(self._place(segment))

    def value(self, segment: int | None = None) -> T:
        """Return a fresh copy of the value, or of one of its segments, or raise."""
        if self.failure is not None:
            raise copy.copy(self.failure)  # raising ties the caller's frames to it
        place = self._place(segment)
        return cast("T", rebuild(lambda: self.object.value(place)))

    def _place(self, segment: int | None) -> int | None:
        if self.segment is not None:
            return self.segment
        return segment if self.object.is_list else None


@dataclass(frozen=True, slots=True)
class _Input:
    """An argument of a task: a value, or the list of the values of several refs."""

    refs: Sequence[InlineRef[Any]]
    gather: Gather | None = None

    def size_bytes(self) -> int:
        segment = None if self.gather is None else self.gather.segment
        return sum(ref.size_bytes(segment) for ref in self.refs)

    def value(self) -> Any:
        if self.gather is None:
            return self.refs[0].value()
        return [ref.value(self.gather.segment) for ref in self.refs]

    def free(self) -> None:
        """Give back the segments that only this task was to read."""
        if self.gather is not None and self.gather.frees and self.gather.segment is not None:
            for ref in self.refs:
                if ref.object.is_list:
                    ref.object.segments[self.gather.segment] = None


@dataclass(frozen=True, slots=True)
class _Work:
    """A task: how to run it, and what is planned for it."""

    body: Callable[[], object]
    planned: Profile
    returns: int | None = None


@dataclass(frozen=True, slots=True)
class _Split:
    """How to make several tasks of one."""

    fn: Callable[..., Any]
    inputs: Sequence[_Input]
    retry: Retry

    def parts(self) -> Segments:
        """Return the arguments of each part."""
        if self.retry.split is None:
            return Segments([])
        return Segments(
            [tuple(part) for part in self.retry.split(*(i.value() for i in self.inputs))]
        )


class InlineRuntime(Runtime):
    """The calling thread as a runtime; a node of `total` resources for what is feasible."""

    def __init__(self, total: Resources, ledger: Ledger) -> None:
        self._total = total
        self._ledger = ledger
        # The caller's own memory is no part of a task's.
        self._meter = Meter(idle_bytes=IDLE_WORKER_BYTES)
        self._ids = itertools.count(1)
        self._finished = self._failed = self._peak_bytes = 0
        self._cpu_seconds = 0.0
        self._closed = False

    def submit(
        self,
        fn: Callable[..., Any],
        *args: object,
        memory: int | None = None,
        key: Key | None = None,
        cpus: int | Resources = 1,
        retry: Retry | None = None,
        returns: int | None = None,
    ) -> Any:
        """See `Runtime.submit`; the task has ended when this returns."""
        wanted = required(memory, cpus, returns, key=key)
        self._check(wanted)
        function = _ship(fn, what=f"the function {name_of(fn)}")
        inputs = [_argument(arg) for arg in args]
        planned = self._plan(inputs, wanted.memory_bytes or memory, key)
        work = _Work(lambda: decode(function)(*(i.value() for i in inputs)), planned, returns)
        ref = self.run(work)
        if isinstance(ref.failure, OutOfMemory) and retry is not None and retry.split is not None:
            ref = self._run_split(ref, _Split(fn, inputs, retry), work)
        if ref.failure is None:
            for each in inputs:
                each.free()
        return ref if returns is None else [self._segment(ref, i) for i in range(returns)]

    def put(self, value: T) -> Ref[T]:
        """See `Runtime.put`."""
        self._check(Resources())
        ref: InlineRef[T] = InlineRef(next(self._ids))
        ref.object = _Object([_ship(value, what="the value")])
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
        return [_own(ref) for ref in refs], []

    def actor(self, cls: Callable[..., object], *args: object, memory: int | None = None) -> Actor:
        """See `Runtime.actor`: the object lives in this process."""
        self._check(Resources(1, index(memory or 0)))
        shipped = _ship(cls, what=f"the class {name_of(cls)}")
        inputs = [_argument(arg) for arg in args]
        return _InlineActor(self, lambda: decode(shipped)(*(each.value() for each in inputs)))

    def cancel(self, ref: Ref[object]) -> bool:
        """See `Runtime.cancel`: everything has ended."""
        _own(ref)
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
            is_in_process=True,
        )

    def shutdown(self) -> None:
        """See `Runtime.shutdown`."""
        if not self._closed:
            self._closed = True
            self._ledger.flush()

    def _check(self, request: Resources) -> None:
        if self._closed:
            raise Cancelled("the runtime was shut down")
        require_feasible(request, self._total)

    def run(self, work: _Work) -> InlineRef[Any]:
        """Run something now, measured; its result or failure is in the ref."""
        ref: InlineRef[Any] = InlineRef(next(self._ids))
        rows = 0

        def body() -> _Object:
            nonlocal rows
            value = as_segments(work.body(), work.returns)
            is_list = isinstance(value, Segments)
            values = value.values if is_list else [value]
            rows = rows_of(values)
            return _Object([in_memory(encode(each)) for each in values], is_list)

        granted_bytes = work.planned.granted_bytes
        ended = run_attempt(body, meter=self._meter, granted_bytes=granted_bytes)
        ref.object, ref.failure = ended.result or ref.object, ended.failure
        ref.profile = replace(
            work.planned,
            outcome=outcome_of(ended.failure),
            output_bytes=ref.object.size_bytes(),
            output_rows=rows,
            **ended.usage._asdict(),
        )
        self._ledger.record(ref.profile)
        self._finished += ended.failure is None
        self._failed += ended.failure is not None
        self._peak_bytes = max(self._peak_bytes, ended.usage.anonymous_peak_bytes)
        self._cpu_seconds += ended.usage.cpu_seconds
        return ref

    def _plan(self, inputs: Sequence[_Input], memory: int | None, key: Key | None) -> Profile:
        input_bytes = sum(each.size_bytes() for each in inputs)
        base = base_bytes(memory, input_bytes)
        predicted = self._ledger.predict(key, base)
        return Profile(
            key=key,
            attempt=1,
            outcome="done",
            base_bytes=base,
            predicted_bytes=predicted.predicted_bytes,
            granted_bytes=min(predicted.granted_bytes, self._total.memory_bytes),
            input_bytes=input_bytes,
        )

    def _run_split(self, failed: InlineRef[Any], split: _Split, work: _Work) -> InlineRef[Any]:
        """Run a task that ran out of memory as several smaller ones, if it can be split."""
        parts = self.run(_Work(split.parts, _UNPLANNED))
        if parts.failure is not None:
            return parts
        count = len(parts.object.segments)
        if count < 2:
            return failed
        refs = [
            self.submit(
                split.fn,
                *parts.object.value(place),
                memory=max(1, work.planned.base_bytes // count),
                key=work.planned.key,
                retry=split.retry,
            )
            for place in range(count)
        ]
        joined = _Input([_own(ref) for ref in refs], Gather(refs))
        return self.run(_Work(lambda: split.retry.join(joined.value()), _UNPLANNED, work.returns))

    def _segment(self, ref: InlineRef[Any], segment: int) -> InlineRef[Any]:
        one: InlineRef[Any] = InlineRef(next(self._ids), segment)
        one.object, one.failure, one.profile = ref.object, ref.failure, ref.profile
        return one


class _InlineActor:
    """An object of this process whose calls run like tasks."""

    def __init__(self, runtime: InlineRuntime, start: Callable[[], object]) -> None:
        self._runtime = runtime
        self._instance: object = None
        self._ended: RuntimeFailure | None = None

        def started() -> None:
            self._instance = start()

        self._ended = runtime.run(_Work(started, _UNPLANNED)).failure

    def call(self, method: str, *args: object) -> Ref[object]:
        """See `Actor.call`."""
        inputs = [_argument(arg) for arg in args]

        def called() -> object:
            if self._ended is not None:
                raise self._ended
            return getattr(self._instance, method)(*(each.value() for each in inputs))

        return self._runtime.run(_Work(called, _UNPLANNED))

    def stop(self) -> None:
        """See `Actor.stop`."""
        self._instance = None
        self._ended = Cancelled("the actor was stopped")


def _own(ref: Ref[T]) -> InlineRef[T]:
    return own(ref, InlineRef)


def _ship(value: object, *, what: str) -> list[bytes]:
    return in_memory(encode_for_task(value, what=what))


def _argument(arg: object) -> _Input:
    """Return an argument as what a task will read it from."""
    if isinstance(arg, Ref):
        return _Input([_own(arg)])
    if isinstance(arg, Gather):
        return _Input([_own(ref) for ref in arg.refs], arg)
    ref: InlineRef[Any] = InlineRef(0)
    ref.object = _Object([_ship(arg, what=f"an argument of type {type(arg).__qualname__}")])
    return _Input([ref])
