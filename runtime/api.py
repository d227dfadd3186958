"""The programming model: tasks, actors and objects, the same on every backend.

    import runtime

    with runtime.connect("local") as rt:
        table = rt.put(pa.table({"n": [1, 2, 3]}))
        ref = rt.submit(count, table, memory=200 << 20, key=("orders", "count"))
        done, pending = rt.wait([ref], timeout_seconds=5)
        print(rt.get(ref), rt.profile(ref))

Rules that keep the backends equal:

* A task is a function and positional arguments. Only a `Ref` that is itself an argument is
  replaced by its value; a `Ref` inside a container is refused at `submit`.
* Values are read-only for whoever gets them. Arrow tables, batches and arrays (wherever they sit
  inside an argument or a result) travel as Arrow IPC and are mapped, not copied; buffers of
  NumPy arrays likewise. A slice ships its own rows only.
* A function is shipped once: what it closes over is taken at its first `submit`.
* A task that returns `Segments` makes one object of many values, each of which can be read alone:
  `Gather(refs, 3)` as an argument is the list of the fourth segments of all refs.
* A task may run more than once (its worker died, it outgrew its grant): effects are idempotent.
* A task neither submits nor waits for tasks: it returns work instead.
* The order in which tasks run is not promised; the calls of one actor run in their order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Literal, NoReturn, Protocol, Self, TypeVar, overload

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Key = tuple[str, str]
"""(table, operation): tasks of one key are expected to need memory in one proportion."""

Outcome = Literal["done", "failed", "out-of-memory", "lost", "cancelled"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a task asks for, or what a node has.

    Attributes:
        cpus: CPU slots, at least 1 for a task.
        memory_bytes: Private (anonymous) memory.
        labels: What a node is; a request's labels must all be the node's.
    """

    cpus: int = 1
    memory_bytes: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a task is tried when its worker dies or it outgrows its grant.

    Exceptions of the task's own code are never retried. After an `OutOfMemory` attempt the next
    one is granted max(2 x grant, 1.25 x what was seen), at most the budget.

    A task that fails with the whole budget granted has one way left: `split` makes several tasks
    of it, each with its share of the memory, and `join` makes one result of theirs. Pieces that
    are still too large are split again; the ref, and what waits for it, notice nothing.

    Attributes:
        attempts: All attempts, the first included; 1 means never again.
        split: Called in a worker with the arguments of the task; returns the arguments of each of
            the tasks that shall replace it, or fewer than two if it cannot be split.
        join: Called in a worker with the list of their results, in the order of `split`; returns
            the result of the task.
    """

    attempts: int = 3
    split: Callable[..., Sequence[tuple[object, ...]]] | None = None
    join: Callable[[list[Any]], object] = list

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {self.attempts}")


@dataclass(frozen=True, slots=True)
class Profile:
    """One attempt, measured.

    Attributes:
        key: (table, operation) as submitted, or None.
        attempt: 1 for the first.
        outcome: How the attempt ended.
        base_bytes: The estimate that the prediction multiplies: `memory` as submitted, or else
            a constant plus the size of the arguments.
        predicted_bytes: The expected peak of anonymous memory.
        granted_bytes: What was reserved for the attempt.
        anonymous_peak_bytes: Peak of the worker's private memory: the charge.
        hwm_bytes: Peak resident memory with mapped tables and libraries: the upper bound.
        input_bytes: Size of the arguments as shipped, references included.
        output_bytes: Size of the result as shipped.
        input_rows: Arrow rows among the arguments.
        output_rows: Arrow rows in the result.
        cpu_seconds: User and system time of the attempt, all its threads.
        duration_seconds: Wall time in the worker, shipping included.
    """

    key: Key | None
    attempt: int
    outcome: Outcome
    base_bytes: int
    predicted_bytes: int
    granted_bytes: int
    anonymous_peak_bytes: int = 0
    hwm_bytes: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    input_rows: int = 0
    output_rows: int = 0
    cpu_seconds: float = 0.0
    duration_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Stats:
    """A moment of a runtime.

    Attributes:
        total: What the runtime may use: its CPU slots and its memory budget.
        granted: What running tasks and living actors hold of it.
        workers: Living worker processes.
        queued: Tasks that wait for inputs, memory or a CPU slot.
        running: Tasks that run now.
        finished: Tasks that ended with a result.
        failed: Tasks that ended with an error.
        object_bytes: Shared memory held by objects; it counts against the budget.
        spilled_bytes: Objects that were moved to disk so far, in bytes of shared memory.
        nodes: Machines: what one of them holds costs the others a copy.
        peak_memory_bytes: The largest anonymous memory of any attempt so far.
        cpu_seconds: CPU time of all attempts so far, but those whose worker died.
        is_in_process: Whether attempts run in this very process, whose CPU time includes theirs.
    """

    total: Resources
    granted: Resources
    workers: int
    queued: int
    running: int
    finished: int
    failed: int
    object_bytes: int
    peak_memory_bytes: int
    cpu_seconds: float
    spilled_bytes: int = 0
    nodes: int = 1
    is_in_process: bool = False


class Ref(Generic[T_co]):
    """A value that may not exist yet.

    It belongs to the runtime that made it. Dropping the last `Ref` frees the value; a task whose
    `Ref` is dropped still runs. Refs are hashable and compare by identity.
    """

    __slots__ = ("__weakref__", "id")

    def __init__(self, id: int) -> None:  # noqa: A002 - the public name of the attribute
        self.id = id

    def __repr__(self) -> str:
        return f"<Ref {self.id}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Ref can only be an argument of a task itself, not a part of one")


@dataclass(frozen=True, slots=True)
class Segments:
    """What a task returns to make one object of many values that are read one by one.

    A shuffle has one such object per map task instead of one per map and reduce task. `get` of
    the whole object gives the list of values.

    Attributes:
        values: The segments, any values; None costs next to nothing.
    """

    values: Sequence[object]


@dataclass(frozen=True, slots=True)
class Gather:
    """An argument of a task: the list of one segment of each of many objects.

    Attributes:
        refs: Objects made of `Segments`, all with the same number of them; or any objects.
        segment: Which segment of each; None: the whole values.
        frees: Give back the memory of the segments once the task has ended with a result: then
            they cannot be read again (`Lost`).
    """

    refs: Sequence[Ref[Any]]
    segment: int | None = None
    frees: bool = False


class Actor(Protocol):
    """An object that lives in a worker of its own; its calls run one after the other.

    An actor is not restarted: when its worker dies, its calls fail with `Lost`.
    """

    def call(self, method: str, *args: object) -> Ref[object]:
        """Queue a call of a method; an exception in it fails the call, not the actor."""
        ...

    def stop(self) -> None:
        """End the actor and give back its memory; queued calls fail with `Cancelled`."""
        ...


class Runtime(Protocol):
    """Runs tasks within a budget of memory and CPU slots. All methods are safe to call from
    several threads. Leaving the context shuts it down.
    """  # noqa: D205

    @overload
    def submit(
        self,
        fn: Callable[..., T],
        *args: object,
        memory: int | None = None,
        key: Key | None = None,
        cpus: int | Resources = 1,
        retry: Retry | None = None,
    ) -> Ref[T]: ...
    @overload
    def submit(
        self,
        fn: Callable[..., Sequence[T]],
        *args: object,
        memory: int | None = None,
        key: Key | None = None,
        cpus: int | Resources = 1,
        retry: Retry | None = None,
        returns: int,
    ) -> list[Ref[T]]: ...
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
        """Queue `fn(*args)` and return at once (`inline` runs it first).

        Args:
            fn: Any picklable callable; functions of `__main__`, lambdas and closures as well.
            args: Values, or Refs and Gathers whose values the task receives in their place.
            memory: Expected peak memory in bytes. With a `key` it is the base that what was
                learned about the key multiplies; without one it is the grant itself. None: a
                small constant plus the size of the arguments.
            key: (table, operation) under which the attempt is profiled and predicted.
            cpus: CPU slots; or `Resources` to ask for labels of the node too (its
                `memory_bytes`, unless 0, stands for `memory`).
            retry: None means `Retry()`.
            returns: `fn` returns this many values, and each gets a ref of its own: the result is
                the list of them. On one machine they share one object, which lives as long as
                any of them; on a cluster each is an object that is moved alone.

        Raises:
            Infeasible: `memory`, `cpus` or labels exceed what this runtime can ever grant.
            TaskError: The function or an argument cannot be pickled.
            TypeError: An amount is no integer, or a ref is that of another runtime.
            Cancelled: The runtime was shut down.
        """
        ...

    def put(self, value: T) -> Ref[T]:
        """Store a value once, to be an argument of many tasks. For the driver only.

        Raises:
            TaskError: The value cannot be pickled.
            OSError: The object store is full: no memory, and no disk to spill to.
        """
        ...

    @overload
    def get(self, refs: Ref[T], timeout_seconds: float | None = None) -> T: ...
    @overload
    def get(self, refs: Sequence[Ref[T]], timeout_seconds: float | None = None) -> list[T]: ...
    def get(self, refs: object, timeout_seconds: float | None = None) -> object:
        """Wait for one value, or for a list of values in the order given.

        Raises:
            RuntimeFailure: The first error among the refs: `TaskError`, `OutOfMemory`, `Lost`
                or `Cancelled`; that of its input when an input of the task failed.
            TimeoutError: Not all were there in time; the tasks go on.
        """
        ...

    def wait(
        self, refs: Sequence[Ref[T]], count: int = 1, timeout_seconds: float | None = None
    ) -> tuple[list[Ref[T]], list[Ref[T]]]:
        """Wait until at least `count` of the refs have ended, with a value or an error.

        Returns:
            (done, pending), each in the order given: all that have ended, which may be more than
            `count`, or fewer when the time is over. Never raises for a failed task.
        """
        ...

    def actor(self, cls: Callable[..., object], *args: object, memory: int | None = None) -> Actor:
        """Start an actor: `cls(*args)` in a worker of its own.

        Its memory (in bytes) is granted as long as it lives. An exception of the constructor
        fails every call.

        Raises:
            Infeasible: `memory` exceeds the budget, or living actors already hold too much.
            TaskError: The class or an argument cannot be pickled.
        """
        ...

    def cancel(self, ref: Ref[object]) -> bool:
        """Stop a task: a queued one never starts, a running one is killed with its worker.

        Its ref ends with `Cancelled`, as do those of tasks that need it. The cleanup code of a
        killed task does not run; it is sure not to run any more when this returns. To stop many
        tasks, cancel the last submitted first: else each slot that gets free starts another.

        Returns:
            False when the task had already ended (nothing happens).
        """
        ...

    def profile(self, ref: Ref[object]) -> Profile | None:
        """Return what the last attempt of a task took; None before it ended and for `put`."""
        ...

    def stats(self) -> Stats:
        """Return the state of this moment."""
        ...

    def shutdown(self) -> None:
        """Cancel what has not ended, end all workers, remove all objects. Idempotent.

        Values that were got stay valid.
        """
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
