"""Tells what an error of Ray means for the task that got it."""

import errno

from ray import exceptions

from runtime.errors import (
    Cancelled,
    Infeasible,
    Lost,
    OutOfMemory,
    RuntimeFailure,
    TaskError,
    in_mib,
)

_LOST = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.RayActorError,
    exceptions.ObjectLostError,
)
_FULL = (exceptions.ObjectStoreFullError, exceptions.OutOfDiskError)
_UNSCHEDULABLE = (exceptions.TaskUnschedulableError, exceptions.ActorUnschedulableError)


def translate(error: BaseException, *, name: str, granted_bytes: int) -> RuntimeFailure:
    """Return the failure that an error of Ray stands for, about a task of this name."""
    cause = _cause(error)
    text = _first_line(cause)
    match cause:
        case RuntimeFailure():
            return cause
        case exceptions.TaskCancelledError():
            return Cancelled(f"{name} was cancelled while it ran")
        case exceptions.OutOfMemoryError():
            # Ray does not say what the task used: it was the node that was short.
            return OutOfMemory(
                f"{name} was stopped since its node was short of memory; it was granted"
                f" {in_mib(granted_bytes)} ({text})",
                granted_bytes=granted_bytes,
                used_bytes=granted_bytes,
            )
        case _ if isinstance(cause, _LOST):
            return Lost(f"{name} lost its worker or an input: {text}")
        case _ if isinstance(cause, _FULL):
            full = OSError(errno.ENOSPC, f"the object store is full: {text}")
            return TaskError(f"{name}: {full}", cause=full)
        case _ if isinstance(cause, _UNSCHEDULABLE):
            return Infeasible(f"{name} fits no node any more: {text}")
        case _:
            return TaskError(f"{name}: {type(cause).__name__}: {text}", cause=cause)


def _cause(error: BaseException) -> BaseException:
    """Return what happened to the task: an error of the attempt itself wraps it."""
    inner = getattr(error, "cause", None)
    return inner if isinstance(inner, BaseException) else error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
