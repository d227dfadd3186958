"""Runs one attempt of a task and says how it ended: the same on every backend."""

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from operator import index
from typing import Any, Generic, NamedTuple, TypeVar

from runtime.api import Key, Outcome, Resources, Segments
from runtime.errors import Cancelled, Lost, OutOfMemory, RuntimeFailure, TaskError, in_mib
from runtime.memory import Meter, Usage
from runtime.serialization import Encoded, decode, encode, in_memory

R = TypeVar("R")

_NO_THREAD = re.compile("can't start new thread|Failed to launch worker thread|Cannot allocate mem")


class Ended(NamedTuple, Generic[R]):
    """How an attempt ended: with a result or a failure, and what it took."""

    result: R | None
    failure: RuntimeFailure | None
    usage: Usage


def run_attempt(
    body: Callable[[], R], *, meter: Meter, granted_bytes: int, mapped_bytes: int = 0
) -> Ended[R]:
    """Run and measure `body`, which maps `mapped_bytes`; what it raises becomes a failure.

    KeyboardInterrupt passes: only the driver's own thread can get one.
    """
    meter.start()
    try:
        result = body()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the task raised is its result
        # The frames hold the task's tables: let go of them before anything else is allocated.
        text = _unwound(error)
        usage = meter.stop(mapped_bytes)
        return Ended(None, _failure(error, text, granted_bytes, usage), usage)
    return Ended(result, None, meter.stop(mapped_bytes))


def call(fn: Callable[..., object], inputs: Sequence[object]) -> object:
    """Call the function of a task in a worker, whose next task finds its own standard streams.

    A copy of the process that the task forked ends here, unheard.
    """
    pid, streams = os.getpid(), (sys.stdout, sys.stderr)
    try:
        return fn(*inputs)
    finally:
        for stream in (sys.stdout, sys.stderr):
            # Closed by the task or by the reader, or something that the task put there.
            with suppress(Exception):
                stream.flush()
        if os.getpid() != pid:
            os._exit(0)
        sys.stdout, sys.stderr = streams


def outcome_of(failure: RuntimeFailure | None) -> Outcome:
    """Return the word for how an attempt ended."""
    match failure:
        case None:
            return "done"
        case OutOfMemory():
            return "out-of-memory"
        case Lost():
            return "lost"
        case Cancelled():
            return "cancelled"
        case _:
            return "failed"


def required(
    memory: int | None, cpus: int | Resources, returns: int | None, *, key: Key | None
) -> Resources:
    """Return what a task asks for.

    Raises:
        TypeError: An amount is no integer, or the key is no pair of texts.
        ValueError: The request makes no sense.
    """
    if returns is not None and index(returns) < 1:
        raise ValueError(f"returns must be at least 1, not {returns}")
    if key is not None and not (isinstance(key, tuple) and list(map(type, key)) == [str, str]):
        raise TypeError(f"a key is (table, operation), not {key!r}")
    if not isinstance(cpus, Resources):
        return Resources(index(cpus), index(memory or 0))
    return Resources(index(cpus.cpus), index(cpus.memory_bytes or memory or 0), cpus.labels)


def as_segments(value: Any, returns: int | None) -> Any:
    """Return the result of a task that returns several values as the segments of one object.

    Raises:
        ValueError: They are more or fewer than it was submitted for.
    """
    if returns is None:
        return value
    values = list(value.values if isinstance(value, Segments) else value)
    if len(values) != returns:
        raise ValueError(f"the task returned {len(values)} values, {returns} were asked for")
    return Segments(values)


def encode_for_task(value: object, *, what: str) -> Encoded:
    """Encode something that the caller hands over.

    Raises:
        TaskError: It cannot be pickled; `what` names it in the message.
    """
    try:
        return encode(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # pickling runs the value's own code, which may raise anything
        raise TaskError(f"cannot ship {what}: {_one_line(error)}", cause=error) from error


def rebuild(load: Callable[[], R]) -> R:
    """Rebuild a result for the caller.

    Raises:
        TaskError: It cannot be rebuilt here: its class refuses, or cannot be imported.
    """
    try:
        return load()
    except (RuntimeFailure, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # unpickling runs the value's own code: it may raise anything
        message = f"the result cannot be rebuilt here: {_one_line(error)}"
        raise TaskError(message, cause=error) from error


def rebuild_failure(load: Callable[[], object]) -> RuntimeFailure:
    """Rebuild the failure of a task, or say why that cannot be done here."""
    try:
        failure = load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the exception's own class may raise anything
        return TaskError(f"the task failed, and its error cannot be rebuilt here: {error}")
    return failure if isinstance(failure, RuntimeFailure) else TaskError(str(failure))


def name_of(fn: object) -> str:
    """Return what to call a function in a message."""
    return str(getattr(fn, "__qualname__", None) or type(fn).__qualname__)


def _failure(error: BaseException, text: str, granted_bytes: int, usage: Usage) -> RuntimeFailure:
    if isinstance(error, RuntimeFailure):
        return error
    if any(_is_out_of_memory(link) for link in _chain(error)):
        return OutOfMemory(
            f"the task was refused memory: {_one_line(error)} (granted {in_mib(granted_bytes)},"
            f" used {in_mib(usage.anonymous_peak_bytes)})",
            granted_bytes=granted_bytes,
            used_bytes=usage.anonymous_peak_bytes,
        )
    return TaskError(_one_line(error), cause=_portable(error), remote_traceback=text)


def _unwound(error: BaseException) -> str:
    """Return the traceback as text, and let go of what its frames hold."""
    if isinstance(error, RuntimeFailure):
        return ""  # that of an input, which brings its own
    try:
        text = "".join(traceback.format_exception(error))
        traceback.clear_frames(error.__traceback__)
    except Exception:  # noqa: BLE001 - a broken exception must not hide the failure
        return "(no traceback)"
    return text


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_out_of_memory(error: BaseException) -> bool:
    # pyarrow's is a MemoryError; DuckDB's is not, and is told by its name without an import.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryException":
        return True
    # A thread whose stack the limit refuses: by Python, by Arrow, by the kernel.
    return isinstance(error, RuntimeError | OSError) and bool(_NO_THREAD.search(str(error)))


def _portable(error: BaseException) -> BaseException:
    """Return the exception as the driver will see it: rebuilt, or its text where it cannot be."""
    try:
        copy = decode(in_memory(encode(error)))
    except BaseException:  # noqa: BLE001 - the exception's own pickling may raise anything
        return RuntimeError(_one_line(error))
    return copy if isinstance(copy, BaseException) else RuntimeError(_one_line(error))


def _one_line(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - a broken __str__ must not hide the failure
        text = "(no text)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
