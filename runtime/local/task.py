"""What the driver knows of a task, of an actor, and of the seat of a worker."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.api import Key, Outcome, Profile, Retry
from runtime.errors import RuntimeFailure
from runtime.ledger import base_bytes
from runtime.local.objects import SharedFile
from runtime.local.process import WorkerProcess
from runtime.local.protocol import Done, Task
from runtime.local.refs import LocalRef
from runtime.local.store import Packed, Piece, Pieces, Stored
from runtime.memory import Usage
from runtime.predictor import Rates
from runtime.scheduler import Request


class Argument:
    """A value on its way to one task; its file goes with it."""

    __slots__ = ("file", "packed")

    def __init__(self, packed: Packed, file: SharedFile | None) -> None:
        self.packed = packed
        self.file = file

    def refs(self) -> Sequence[LocalRef[Any]]:
        """No task makes it."""
        return ()

    def pieces(self) -> Sequence[Piece]:
        """Return what a task reads."""
        return (Piece(self.packed),)


class RefArgument:
    """The value of one ref."""

    __slots__ = ("_refs",)

    def __init__(self, ref: LocalRef[Any]) -> None:
        self._refs = (ref,)

    def refs(self) -> Sequence[LocalRef[Any]]:
        """Return the refs that must have ended."""
        return self._refs

    def pieces(self) -> Sequence[Piece]:
        """Return what a task reads."""
        return (self._refs[0].piece(),)


class Gathered:
    """The list of the values of many refs, or of one segment of each."""

    __slots__ = ("_refs", "frees", "segment")

    def __init__(
        self, refs: Sequence[LocalRef[Any]], segment: int | None = None, *, frees: bool = False
    ) -> None:
        self._refs = refs
        self.segment = segment
        self.frees = frees

    def refs(self) -> Sequence[LocalRef[Any]]:
        """Return the refs that must have ended."""
        return self._refs

    def pieces(self) -> Sequence[Piece]:
        """Return what a task reads."""
        return [ref.piece(self.segment) for ref in self._refs]


Input = Argument | RefArgument | Gathered


class ShippedFunction(Argument):
    """A function, once for all tasks that call it.

    Attributes:
        mean_seconds: How long it took lately; None before it was called.
    """

    __slots__ = ("id", "mean_seconds", "name")

    def __init__(self, id: int, name: str, argument: Argument) -> None:  # noqa: A002 - as in Ref
        super().__init__(argument.packed, argument.file)
        self.id = id
        self.name = name
        self.mean_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SplitHook:
    """How to split a task and join the results of its parts, shipped."""

    split_function: ShippedFunction
    split: Argument
    join_function: ShippedFunction
    join: Argument


@dataclass(slots=True, eq=False)
class LocalTask:
    """A task from submit to its end, over all its attempts.

    Attributes:
        id: Its number, that of its first ref.
        refs: Its results: one, or as many as it `returns`; none once it has ended, since they
            keep it for its profile.
        memory: As submitted.
        base_bytes: What the prediction multiplies; 0 until the inputs are there.
        missing: Inputs that have not ended.
        granted_bytes: Grant of the attempt that runs, or the escalated one of the next; 0 until
            the first is decided.
        seen_bytes: The most private memory sampled in the attempt that runs.
        hook: How it can be split.
        failure: Why it is being split.
        pieces: What the task that splits it will return.
        parts: Tasks that run in its place: the one that splits it, then those that replace it.
    """

    refs: tuple[LocalRef[Any], ...]
    function: ShippedFunction
    inputs: Sequence[Input]
    memory: int | None = None
    key: Key | None = None
    cpus: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    retry: Retry = field(default_factory=Retry)
    returns: int | None = None
    id: int = 0
    has_ended: bool = False
    actor: "ActorState | None" = None
    is_spread: bool = False
    base_bytes: int = 0
    input_bytes: int = 0
    missing: int = 0
    attempt: int = 1
    predicted_bytes: int = 0
    granted_bytes: int = 0
    is_escalated: bool = False
    seen_bytes: int = 0
    stored_at: str = ""
    started_seconds: float = 0.0
    is_cancelled: bool = False
    is_overrun: bool = False
    hook: SplitHook | None = None
    failure: RuntimeFailure | None = None
    pieces: LocalRef[Any] | None = None
    parts: list["LocalTask"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = self.refs[0].id

    def make_ready(self) -> None:
        """Take note of the size of its inputs, now that they are there."""
        self.input_bytes = sum(piece.size_bytes for each in self.inputs for piece in each.pieces())
        self.base_bytes = base_bytes(self.memory, self.input_bytes)

    def request(self, cap_bytes: int, rates: Rates) -> Request:
        """Return what to ask the scheduler for, at most the cap."""
        is_own = self.is_escalated or rates.grant_bytes(self.base_bytes) > cap_bytes
        wanted_bytes = self.granted_bytes if self.is_escalated else cap_bytes
        return Request(
            id=self.id,
            base_bytes=min(wanted_bytes, cap_bytes) if is_own else self.base_bytes,
            key=None if is_own else self.key,
            job=self.key[0] if self.key is not None else "",
            cpus=self.cpus,
            labels=self.labels,
        )

    def message(self) -> Task:
        """Return the attempt as a worker is told of it, the function aside.

        Raises:
            Lost: An input is gone.
        """
        return Task(
            id=self.id,
            function_id=self.function.id,
            function=None,
            inputs=tuple(map(_message, self.inputs)),
            granted_bytes=self.granted_bytes,
            cpus=self.cpus,
            stored_at=self.stored_at,
            returns=self.returns,
            is_spread=self.is_spread,
        )

    def begin(self, stored_at: str) -> None:
        """Start the clock of an attempt."""
        self.stored_at = stored_at
        self.seen_bytes = 0
        self.is_overrun = False
        self.started_seconds = time.monotonic()

    def profile(self, outcome: Outcome, done: Done | None) -> Profile:
        """Return the attempt as measured; by the samples alone when its worker died."""
        if done is None:
            duration = time.monotonic() - self.started_seconds
            done = Done(
                self.id, None, None, Usage(self.seen_bytes, self.seen_bytes, 0.0, duration), 0, 0, 0
            )
        usage = done.usage
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
            output_bytes=0 if done.result is None else done.result.size_bytes,
            input_rows=done.input_rows,
            output_rows=done.output_rows,
            cpu_seconds=usage.cpu_seconds,
            duration_seconds=usage.duration_seconds,
        )

    def gathered(self) -> Iterator[tuple[LocalRef[Any], int]]:
        """Yield the segments whose memory goes with this task."""
        for each in self.inputs:
            if isinstance(each, Gathered) and each.frees and each.segment is not None:
                for ref in each.refs():
                    if isinstance(ref.packed, Stored):
                        yield ref, each.segment


@dataclass(slots=True, eq=False)
class Seat:
    """A worker process, the tasks it was sent (the first one runs) and the actor that lives in it.

    Attributes:
        batch_id: The scheduler's number of what it holds; None between batches.
    """

    process: WorkerProcess
    tasks: deque[LocalTask] = field(default_factory=deque)
    actor: "ActorState | None" = None
    batch_id: int | None = None

    def take_back(self) -> list[LocalTask]:
        """Take the tasks back that have not started, but the first: it is as good as started."""
        count = self.process.take_back(max(0, len(self.tasks) - 1))
        return [self.tasks.pop() for _ in range(count)]


@dataclass(slots=True, eq=False)
class ActorState:
    """An actor: its calls in their order, its seat once it has one, and what it holds.

    Attributes:
        start_id: The task that makes the object.
        calls: Tasks that wait, that one first.
        asked: The call that waits for a CPU slot.
        is_placed: Whether it holds its memory.
        ended_by: Why it takes no calls any more.
    """

    id: int
    start_id: int
    granted_bytes: int
    calls: deque[LocalTask] = field(default_factory=deque)
    asked: LocalTask | None = None
    is_placed: bool = False
    seat: Seat | None = None
    ended_by: RuntimeFailure | None = None


def _message(each: Input) -> Piece | Pieces:
    pieces = tuple(piece.trimmed() for piece in each.pieces())
    return Pieces(pieces) if isinstance(each, Gathered) else pieces[0]
