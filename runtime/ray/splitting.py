"""Replaces a task that outgrew the largest node by smaller ones, through the hook it came with.

One task calls `split` on the arguments and leaves the arguments of each part in a segment of its
result. When it is there, each part becomes a task, and the task that was split becomes the one
that joins their results: its refs, and all that waits for them, notice nothing.
"""

from dataclasses import replace

from runtime.api import Retry
from runtime.ray.objects import pack
from runtime.ray.task import Argument, Hook, RayTask, Result

_ONCE = Retry(attempts=1)


def splitting(task: RayTask, hook: Hook) -> RayTask:
    """Return the task that splits another one."""
    is_spread = Result()
    is_spread.value = pack(task.is_spread)
    is_spread.ended.set_result(None)
    return RayTask(
        results=(Result(),),
        function=hook.split_function,
        arguments=(hook.split, Argument((is_spread,)), *task.arguments),
        request=replace(task.request, memory_bytes=0),
        retry=_ONCE,
    )


def parts_of(task: RayTask, pieces: Result) -> list[RayTask]:
    """Return the tasks that replace another one; `pieces` is what the splitting one made."""
    count = len(pieces.segment_bytes)
    memory_bytes = task.request.memory_bytes // max(1, count)
    return [
        RayTask(
            results=(Result(),),
            function=task.function,
            arguments=(Argument((pieces,), segment),),
            request=replace(task.request, memory_bytes=memory_bytes),
            key=task.key,
            retry=task.retry,
            hook=task.hook,
            is_spread=True,
        )
        for segment in range(count)
    ]


def become_join(task: RayTask, hook: Hook) -> None:
    """Make of a task whose parts run the one that joins their results."""
    task.function = hook.join_function
    results = Argument(tuple(part.results[0] for part in task.parts), is_list=True)
    task.arguments = (hook.join, results)
    task.request = replace(task.request, memory_bytes=0)
    task.key = task.hook = None
    task.attempt, task.granted_bytes = 1, 0
    task.is_spread = task.is_escalated = False
