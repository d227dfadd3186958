"""What the driver knows of a task, of an actor, and of the seat of a worker."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.api import Key, Outcome, Profile, Resources, Retry
from runtime.errors import RuntimeFailure
from runtime.local.process import WorkerProcess
from runtime.local.protocol import Task
from runtime.local.refs import LocalRef
from runtime.local.store import Packed, SharedFile, Stored
from runtime.memory import Usage


class Argument:
    """A value on its way to one task; its file goes with it."""

    __slots__ = ("_file", "packed")

    def __init__(self, packed: Packed) -> None:
        self.packed: Packed = packed
        self._file = SharedFile(packed.path) if isinstance(packed, Stored) else None


class ShippedFunction(Argument):
    """A function, once for all tasks that call it."""

    __slots__ = ("id", "name")

    def __init__(self, id: int, name: str, packed: Packed) -> None:  # noqa: A002 - as in Ref
        super().__init__(packed)
        self.id = id
        self.name = name


@dataclass(slots=True, eq=False)
class LocalTask:
    """A task from submit to its end, over all its attempts.

    Attributes:
        missing: Inputs that have not ended.
        granted_bytes: Grant of the attempt that runs, or the escalated one of the next; 0 until
            the first is decided.
        seen_bytes: The most private memory sampled in the attempt that runs.
    """

    ref: LocalRef[Any]
    function: ShippedFunction
    inputs: Sequence[LocalRef[Any] | Argument]
    base_bytes: int
    key: Key | None = None
    cpus: int = 1
    retry: Retry = field(default_factory=Retry)
    actor: "ActorState | None" = None
    is_actor_start: bool = False
    missing: int = 0
    passed_over: int = 0
    attempt: int = 1
    predicted_bytes: int = 0
    granted_bytes: int = 0
    is_escalated: bool = False
    seen_bytes: int = 0
    stored_at: str = ""
    started_seconds: float = 0.0
    is_cancelled: bool = False
    is_overrun: bool = False

    @property
    def request(self) -> Resources:
        """What the attempt holds while it runs; the calls of an actor share what that holds."""
        if self.actor is not None and not self.is_actor_start:
            return Resources(0, 0)
        return Resources(self.cpus, self.granted_bytes)

    @property
    def input_bytes(self) -> int:
        """Size of all arguments as shipped."""
        return sum(a.packed.size_bytes for a in self.inputs if a.packed is not None)

    def message(self) -> Task:
        """Return the attempt as a worker is told of it, the function aside."""
        return Task(
            id=self.ref.id,
            function_id=self.function.id,
            function=None,
            inputs=tuple(a.packed for a in self.inputs if a.packed is not None),
            granted_bytes=self.granted_bytes,
            cpus=self.cpus,
            stored_at=self.stored_at,
        )

    def begin(self, stored_at: str) -> None:
        """Start the clock of an attempt."""
        self.stored_at = stored_at
        self.seen_bytes = 0
        self.is_overrun = False
        self.started_seconds = time.monotonic()

    def profile(self, outcome: Outcome, usage: Usage | None, output_bytes: int) -> Profile:
        """Return the attempt as measured; by the samples alone when its worker died."""
        if usage is None:
            duration = time.monotonic() - self.started_seconds
            usage = Usage(self.seen_bytes, self.seen_bytes, 0.0, duration)
        return Profile(
            key=self.key,
            attempt=self.attempt,
            outcome=outcome,
            base_bytes=self.base_bytes,
            predicted_bytes=self.predicted_bytes,
            granted_bytes=self.granted_bytes,
            anonymous_peak_bytes=max(self.seen_bytes, usage.anonymous_peak_bytes),
            hwm_bytes=max(self.seen_bytes, usage.hwm_bytes),
            input_bytes=self.input_bytes,
            output_bytes=output_bytes,
            cpu_seconds=usage.cpu_seconds,
            duration_seconds=usage.duration_seconds,
        )


@dataclass(slots=True, eq=False)
class Seat:
    """A worker process, the task that it runs and the actor that lives in it."""

    process: WorkerProcess
    task: LocalTask | None = None
    actor: "ActorState | None" = None


@dataclass(slots=True, eq=False)
class ActorState:
    """An actor: its calls in their order, its seat once it started, and what it holds.

    Attributes:
        start: The task that makes the object; what it is granted is held to the actor's end.
        ended_by: Why it takes no calls any more.
    """

    start: LocalTask | None = None
    calls: deque[LocalTask] = field(default_factory=deque)
    seat: Seat | None = None
    ended_by: RuntimeFailure | None = None
