"""Replaces a task that outgrew the whole budget by smaller ones, through the hook it came with.

One task calls `split` on the arguments and leaves the arguments of each part in a segment of its
result. When it is there, each part becomes a task, and the task that was split becomes the one
that joins their results: its refs, and all that waits for them, notice nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from runtime.api import Retry, Segments
from runtime.local.refs import LocalRef
from runtime.local.store import Inline, segment_count
from runtime.local.task import Argument, Gathered, LocalTask, RefArgument
from runtime.serialization import encode, in_memory

_ONCE = Retry(attempts=1)


def split_in_worker(
    split: Callable[..., Sequence[tuple[object, ...]]], is_spread: bool, /, *inputs: Any
) -> Segments:
    """Call the hook; returns the arguments of each part."""
    args = inputs[0] if is_spread else inputs
    return Segments([tuple(part) for part in split(*args)])


def join_in_worker(join: Callable[[list[Any]], object], values: list[Any]) -> object:
    """Call its counterpart."""
    return join(values)


def splitting(task: LocalTask, ref: LocalRef[Any]) -> LocalTask:
    """Return the task that splits another one; `ref` is for its result."""
    if task.hook is None:
        raise AssertionError("only a task with a hook can be split")
    is_spread = Argument(Inline((tuple(in_memory(encode(task.is_spread))),)), None)
    return LocalTask(
        refs=(ref,),
        function=task.hook.split_function,
        inputs=(task.hook.split, is_spread, *task.inputs),
        retry=_ONCE,
    )


def parts_of(task: LocalTask, pieces: LocalRef[Any], ids: Iterator[int]) -> list[LocalTask]:
    """Return the tasks that replace another one; `pieces` is what the splitting one returned."""
    if pieces.packed is None:
        return []
    count = segment_count(pieces.packed)
    parts = []
    for segment in range(count):
        args: LocalRef[Any] = LocalRef(next(ids), segment)
        args.hold(pieces.packed, pieces.file)
        args.has_ended = True
        part = LocalTask(
            refs=(LocalRef(next(ids)),),
            function=task.function,
            inputs=(RefArgument(args),),
            memory=None if task.memory is None else max(1, task.memory // count),
            key=task.key,
            cpus=task.cpus,
            labels=task.labels,
            retry=task.retry,
            is_spread=True,
            hook=task.hook,
        )
        parts.append(part)
    return parts


def become_join(task: LocalTask, parts: Sequence[LocalTask]) -> None:
    """Make of a task that was split the one that joins the results of its parts."""
    if task.hook is None:
        raise AssertionError("only a task with a hook can be split")
    task.function = task.hook.join_function
    task.inputs = (task.hook.join, Gathered([part.refs[0] for part in parts]))
    task.memory = task.key = task.hook = task.pieces = None
    task.attempt, task.granted_bytes = 1, 0
    task.is_spread = task.is_escalated = False
    task.parts = list(parts)
