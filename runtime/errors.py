"""What can go wrong with a task, ordered by what the caller can do about it.

Every error survives pickling with all it carries, has a `code` (kebab-case, stable), says
whether trying the very same thing again can help (`retryable`) and what to do next (`hint`).
"""

from typing import ClassVar


def _restore(kind: type["RuntimeFailure"], state: dict[str, object]) -> "RuntimeFailure":
    failure = kind.__new__(kind, state["message"])
    failure.__dict__.update(state)
    failure.__cause__ = state.get("cause")  # type: ignore[assignment]  # as it was
    return failure


def in_mib(size_bytes: int) -> str:
    """Return a size as messages tell it."""
    return f"{size_bytes / (1 << 20):,.1f} MiB"


class RuntimeFailure(Exception):  # noqa: N818 - the base is a failure, its children are named by kind
    """Base of everything that this package raises about a task.

    Attributes:
        message: What happened, with the numbers.
        hint: The next step, one sentence.
    """

    code: ClassVar[str] = "runtime-failure"
    retryable: ClassVar[bool] = False
    hint: str = "run the task with connect('inline') to see it in this process"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if hint is not None:
            self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), dict(self.__dict__))

    def __str__(self) -> str:
        return self.message


class TaskError(RuntimeFailure):
    """The task's own code raised, or its function, arguments or result cannot be shipped.

    Attributes:
        cause: The original exception (also `__cause__`); a plain `RuntimeError` that carries its
            type and text where the original cannot be pickled.
        remote_traceback: The traceback as text, as the worker saw it ("" when nothing ran).
    """

    code = "task-failed"
    hint = "see the cause and the remote traceback; the same task will fail the same way again"

    def __init__(
        self, message: str, *, cause: BaseException | None = None, remote_traceback: str = ""
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.remote_traceback = remote_traceback
        self.__cause__ = cause


class OutOfMemory(RuntimeFailure):
    """The task needed more memory than it could be granted; its neighbours were not touched.

    Attributes:
        granted_bytes: The grant of the last attempt.
        used_bytes: The most anonymous memory seen in that attempt (what was asked for beyond it
            was refused, so the real need is larger).
    """

    code = "out-of-memory"
    hint = "give the task a larger `memory`, or split it into smaller ones"

    def __init__(self, message: str, *, granted_bytes: int, used_bytes: int) -> None:
        super().__init__(message)
        self.granted_bytes = granted_bytes
        self.used_bytes = used_bytes


class Lost(RuntimeFailure):
    """The worker died under the task (or its actor is gone) in each attempt that it was given."""

    code = "worker-lost"
    retryable = True
    hint = "submit again, or allow more attempts with Retry(attempts=...)"


class Infeasible(RuntimeFailure):
    """The request can never be met: it is refused at submit, never queued for ever.

    Attributes:
        requested_bytes: The memory asked for.
        budget_bytes: The most that one task can be granted here.
    """

    code = "infeasible"
    hint = "ask for less, split the task, or connect with a larger memory_bytes or more workers"

    def __init__(self, message: str, *, requested_bytes: int = 0, budget_bytes: int = 0) -> None:
        super().__init__(message)
        self.requested_bytes = requested_bytes
        self.budget_bytes = budget_bytes


class Cancelled(RuntimeFailure):
    """The task was cancelled, or the runtime was shut down before it finished."""

    code = "cancelled"
    hint = "submit the task again if its result is still wanted"
