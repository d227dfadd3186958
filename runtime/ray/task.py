"""What the driver knows of a task, of its result, and of an actor on a cluster."""

import copy
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar

import ray

from runtime.api import Key, Outcome, Profile, Ref, Resources, Retry
from runtime.errors import RuntimeFailure
from runtime.ledger import base_bytes
from runtime.memory import Usage
from runtime.ray.objects import Payload
from runtime.ray.worker import Report, Size, Wanted, Work

T = TypeVar("T")

Object: TypeAlias = ray.ObjectRef | Payload
"""A payload in the cluster, or a small one that is shipped with each task that needs it."""


IN_OWNER_BYTES_MAX = 100 << 10
"""Results up to this size stay with their owner, in its private memory."""


class Result:
    """One of the values that a task ends with; the dispatcher's until `ended` is done.

    Attributes:
        ended: Done once everything else here is final.
        value: Where the payload is, or None when there is a failure.
        stored_bytes: Where objects of the cluster are accounted for as they come and go.
        segment_bytes: Sizes of the values in it that are read one by one; none: it is one value.
        dependents: Tasks that wait for it.
    """

    __slots__ = (
        "__weakref__",
        "dependents",
        "ended",
        "failure",
        "profile",
        "segment_bytes",
        "size_bytes",
        "stored_bytes",
        "task",
        "value",
    )

    def __init__(self) -> None:
        self.ended: Future[None] = Future()
        self.value: Object | None = None
        self.failure: RuntimeFailure | None = None
        self.profile: Profile | None = None
        self.size_bytes = 0
        self.segment_bytes: tuple[int, ...] = ()
        self.task: RayTask | None = None
        self.dependents: list[RayTask] = []
        self.stored_bytes: deque[int] | None = None

    def hold(self, value: Object, size: Size, stored_bytes: deque[int]) -> None:
        """Take over a value; what it takes of the cluster goes with the last ref."""
        self.value = value
        self.size_bytes = size_bytes = size.bytes
        self.segment_bytes = size.segment_bytes
        if not isinstance(value, Payload) and size_bytes > IN_OWNER_BYTES_MAX:
            self.stored_bytes = stored_bytes
            stored_bytes.append(size_bytes)

    def __del__(self) -> None:
        # No locks: a finalizer runs anywhere, even within a thread that holds them.
        if self.stored_bytes is not None:
            self.stored_bytes.append(-self.size_bytes)

    def read_bytes(self, segment: int | None) -> int:
        """Return the size of one segment; of the value if there are none or all are read."""
        if segment is None or not self.segment_bytes:
            return self.size_bytes
        return self.segment_bytes[segment]

    @property
    def has_ended(self) -> bool:
        """Whether the value or the failure is there."""
        return self.ended.done()

    def raise_failure(self) -> None:
        """Raise a copy of the failure, if there is one: raising ties the caller's frames to it."""
        if self.failure is not None:
            raise copy.copy(self.failure)


class RayRef(Ref[T]):
    """A result."""

    __slots__ = ("result",)

    def __init__(self, id: int, result: Result) -> None:  # noqa: A002 - as in Ref
        super().__init__(id)
        self.result = result


class Argument(NamedTuple):
    """One argument: the results it is made of, and which segment of each."""

    sources: tuple[Result, ...]
    segment: int | None = None
    is_list: bool = False


class ShippedFunction(NamedTuple):
    """A function, once for all tasks that call it."""

    id: str
    name: str
    value: Object


class Hook(NamedTuple):
    """How to split a task and join the results of its parts, shipped."""

    split_function: ShippedFunction
    split: Argument
    join_function: ShippedFunction
    join: Argument


@dataclass(slots=True, eq=False)
class RayTask:
    """A task from submit to its end, over all its attempts.

    Attributes:
        results: One, or as many as it `returns`; they end together.
        base_bytes: What the prediction multiplies; 0 until the inputs are there.
        returns: How many values the function returns, each an object of its own; None: one.
        method: For the call of an actor: what is called.
        hook: How it can be split.
        is_spread: It is a part of a task that was split: its argument is the tuple of all.
        parts: Tasks that run in its place.
        missing: Inputs that have not ended.
        report: What the attempt that Ray has will answer; None while there is none.
        values: Where its results will be.
    """

    results: tuple[Result, ...]
    function: ShippedFunction
    arguments: Sequence[Argument]
    request: Resources
    base_bytes: int = 0
    input_bytes: int = 0
    key: Key | None = None
    retry: Retry = field(default_factory=Retry)
    returns: int | None = None
    actor: "ActorState | None" = None
    method: str | None = None
    hook: Hook | None = None
    is_spread: bool = False
    parts: "Sequence[RayTask]" = ()
    missing: int = 0
    attempt: int = 1
    predicted_bytes: int = 0
    granted_bytes: int = 0
    is_escalated: bool = False
    is_cancelled: bool = False
    values: "Sequence[ray.ObjectRef]" = ()
    report: "ray.ObjectRef | None" = None

    @property
    def has_ended(self) -> bool:
        """Whether its results are there, or why there are none."""
        return self.results[0].has_ended

    def make_ready(self) -> None:
        """Take note of the size of its inputs, now that they are there."""
        read = {(s, arg.segment): None for arg in self.arguments for s in arg.sources}
        self.input_bytes = sum(source.read_bytes(segment) for source, segment in read)
        self.base_bytes = base_bytes(self.request.memory_bytes or None, self.input_bytes)

    def inputs(self) -> dict[Result, None]:
        """Return the results that it needs, each once, in their order."""
        return dict.fromkeys(source for arg in self.arguments for source in arg.sources)

    def work(self, paths: tuple[str, ...]) -> Work:
        """Return the attempt as a worker is told of it, the payloads aside."""
        places = {source: place for place, source in enumerate(self.inputs())}
        return Work(
            function_id=self.function.id,
            wanted=tuple(
                Wanted(tuple(places[s] for s in arg.sources), arg.segment, arg.is_list)
                for arg in self.arguments
            ),
            granted_bytes=self.granted_bytes,
            cpus=max(1, self.request.cpus),
            returns=self.returns,
            is_spread=self.is_spread,
            paths=paths,
        )

    def profile(self, outcome: Outcome, told: Report | None = None) -> Profile:
        """Return the attempt as measured; of a worker that died nothing is known."""
        usage = Usage() if told is None else told.usage
        return Profile(
            key=self.key,
            attempt=self.attempt,
            outcome=outcome,
            base_bytes=self.base_bytes,
            predicted_bytes=self.predicted_bytes,
            granted_bytes=self.granted_bytes,
            anonymous_peak_bytes=usage.anonymous_peak_bytes,
            hwm_bytes=usage.hwm_bytes,
            input_bytes=self.input_bytes,
            output_bytes=0 if told is None else told.output_bytes,
            input_rows=0 if told is None else told.input_rows,
            output_rows=0 if told is None else told.output_rows,
            cpu_seconds=usage.cpu_seconds,
            duration_seconds=usage.duration_seconds,
        )


@dataclass(slots=True, eq=False)
class ActorState:
    """An actor: its calls in their order, its Ray actor once it started, and what it holds.

    Attributes:
        running: The call that Ray has; there is one at a time, so their order is kept.
        ended_by: Why it takes no calls any more.
    """

    granted_bytes: int
    handle: Any = None
    calls: deque[RayTask] = field(default_factory=deque)
    running: RayTask | None = None
    ended_by: RuntimeFailure | None = None
