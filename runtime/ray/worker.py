"""What runs inside a Ray task: one attempt, limited and measured like any other.

Ray does not enforce what a task was granted. The same limit and the same measuring as on one
machine do; how the attempt ended is returned as a value, so that the errors are the same too.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from runtime.api import Segments
from runtime.attempt import Ended, as_segments, call, run_attempt
from runtime.errors import TaskError
from runtime.local.worker import use_cpus
from runtime.memory import (
    ArrowPools,
    Meter,
    Usage,
    limit_private_memory,
    unlimit_private_memory,
)
from runtime.ray.objects import Payload, pack, pack_failure, pack_segments, unpack
from runtime.serialization import rows_of

FUNCTIONS_MAX = 256


class Wanted(NamedTuple):
    """One argument: which of the payloads, or the list of several, and which segment of each."""

    places: tuple[int, ...]
    segment: int | None = None
    is_list: bool = False


class Work(NamedTuple):
    """One attempt.

    Attributes:
        function_id: Functions of one id are unpacked once per worker.
        wanted: The arguments, made from the payloads that come with the task.
        returns: How many values the function returns, each an object of its own; None: one.
        is_spread: The only argument is the tuple of all: a part of a task that was split.
        paths: Where the driver imports from, beyond what is installed.
    """

    function_id: str
    wanted: tuple[Wanted, ...]
    granted_bytes: int
    cpus: int
    returns: int | None = None
    is_spread: bool = False
    paths: tuple[str, ...] = ()


class Size(NamedTuple):
    """The size of a value, and of each of its segments if it is segmented."""

    bytes: int
    segment_bytes: tuple[int, ...] = ()


class Report(NamedTuple):
    """How an attempt ended.

    Attributes:
        failure: None when there are results.
        sizes: Those of the results.
        lost_attempts: How often Ray tried before, and the worker died.
    """

    failure: Payload | None
    usage: Usage
    sizes: tuple[Size, ...]
    input_rows: int
    output_rows: int
    lost_attempts: int

    @property
    def output_bytes(self) -> int:
        """Size of all results."""
        return sum(size.bytes for size in self.sizes)


class _Made(NamedTuple):
    payloads: tuple[Payload, ...]
    input_rows: int
    output_rows: int


Answer = tuple[Payload | Report, ...]
"""The results, or the failure in the place of each, and then the report."""


_meter = Meter(ArrowPools())
_functions: dict[str, Callable[..., object]] = {}


def run(work: Work, function: Payload, *payloads: Payload) -> Answer:
    """Run a task."""
    return _run(work, payloads, lambda: _function(work, function))


class Host:
    """What Ray knows of an actor: a process for one object, made by the first call."""

    def __init__(self) -> None:
        self._instance: object = None

    def start(self, work: Work, cls: Payload, *payloads: Payload) -> Answer:
        """Make the object; what that is worth to others is None."""

        def construct(*args: object) -> None:
            self._instance = _function(work, cls)(*args)

        return _run(work, payloads, lambda: construct)

    def call(self, work: Work, method: Payload, *payloads: Payload) -> Answer:
        """Call a method of the object."""
        return _run(work, payloads, lambda: getattr(self._instance, unpack(method)))


def lost_attempts() -> int:
    """Return how often Ray has tried the task of this worker before."""
    from ray._private.worker import global_worker

    return int(global_worker.core_worker.get_current_task_attempt_number())


def is_inside_attempt() -> bool:
    """Return whether this process is running a task: it must not start others."""
    return _is_running


_is_running = False


def _run(
    work: Work, payloads: tuple[Payload, ...], function: Callable[[], Callable[..., object]]
) -> Answer:
    global _is_running  # noqa: PLW0603 - a worker process runs one task at a time
    _is_running = True
    try:
        ended = run_attempt(
            lambda: _body(work, payloads, function),
            meter=_meter,
            granted_bytes=work.granted_bytes,
            mapped_bytes=sum(payload.size_bytes for payload in payloads),
        )
    finally:
        _is_running = False
    return _answer(ended, work.returns or 1)


def _answer(ended: Ended[_Made], returns: int) -> Answer:
    if ended.result is None:
        failure = ended.failure or TaskError("the task ended with neither a result nor an error")
        payload = pack_failure(failure)
        return *[payload] * returns, Report(payload, ended.usage, (), 0, 0, lost_attempts())
    payloads, input_rows, output_rows = ended.result
    return *payloads, Report(
        failure=None,
        usage=ended.usage,
        sizes=tuple(map(_size, payloads)),
        input_rows=input_rows,
        output_rows=output_rows,
        lost_attempts=lost_attempts(),
    )


def _size(payload: Payload) -> Size:
    segments = payload.segments if payload.is_segmented else ()
    return Size(payload.size_bytes, tuple(sum(map(len, parts)) for parts in segments))


def _body(
    work: Work, payloads: tuple[Payload, ...], function: Callable[[], Callable[..., object]]
) -> _Made:
    limit_private_memory(work.granted_bytes)
    try:
        use_cpus(work.cpus)
        _import_like_driver(work.paths)
        args = [_argument(wanted, payloads) for wanted in work.wanted]
        input_rows = rows_of(args)
        value = as_segments(call(function(), args[0] if work.is_spread else args), work.returns)
        del args
        output_rows = rows_of(list(value.values) if isinstance(value, Segments) else value)
        if work.returns is not None:
            return _Made(tuple(map(pack, value.values)), input_rows, output_rows)
        payload = pack_segments(value) if isinstance(value, Segments) else pack(value)
        return _Made((payload,), input_rows, output_rows)
    finally:
        unlimit_private_memory()


def _argument(wanted: Wanted, payloads: tuple[Payload, ...]) -> Any:
    values = [unpack(payloads[place], wanted.segment) for place in wanted.places]
    return values if wanted.is_list else values[0]


def _function(work: Work, function: Payload) -> Callable[..., object]:
    if work.function_id not in _functions:
        if len(_functions) >= FUNCTIONS_MAX:
            _functions.clear()
        _functions[work.function_id] = unpack(function)
    return _functions[work.function_id]


def _import_like_driver(paths: tuple[str, ...]) -> None:
    sys.path += [path for path in paths if path not in sys.path]
