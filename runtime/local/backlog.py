"""Tasks that are ready: the scheduler sees each, but of a crowd of tiny ones only the first few.

To place a task costs as much as a tiny one takes to run. So tasks of one kind line up, few of
them are known to the scheduler, and the one that is placed takes others of its line along to its
worker, which runs them one after the other within the same grant.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.api import Key
from runtime.local.task import LocalTask

TINY_SECONDS_MAX = 1e-3
"""A task that takes longer goes its own way."""

BATCH_SECONDS_MAX = 4e-3
BATCH_TASKS_MAX = 256
"""What a worker is sent at once: enough to hide the way there and back, and soon done."""

KNOWN_MAX = 64
"""Tasks of one line that the scheduler knows while nobody knows how long they take."""

MEAN_SHARE = 0.2
"""Weight of the newest duration in the mean."""

OUTLIER_MAX = 8
"""A duration counts as so many times the mean at most: where CPUs are scarce a tiny task is now
and then interrupted for longer than it runs. A function that did become slow is known to be after
some five calls."""

Kind = tuple[int, Key | None, int, frozenset[tuple[str, str]], int]


@dataclass(slots=True, eq=False)
class _Line:
    waiting: deque[LocalTask] = field(default_factory=deque)
    known: int = 0


class Backlog:
    """Passes ready tasks on to `submit`, which makes them known to the scheduler."""

    def __init__(self, submit: Callable[[LocalTask], None]) -> None:
        self._submit = submit
        self._lines: dict[Kind, _Line] = {}

    def add(self, task: LocalTask) -> None:
        """Take in a task."""
        if task.actor is not None or task.is_escalated or _is_long(task):
            self._submit(task)
            return
        line = self._lines.setdefault(_kind(task), _Line())
        line.waiting.append(task)
        self._feed(line)

    def placed(self, task: LocalTask) -> list[LocalTask]:
        """Return what starts with a task that was placed: itself and others like it."""
        line = self._lines.get(_kind(task))
        if line is None or task.actor is not None or task.is_escalated:
            return [task]
        line.known = max(0, line.known - 1)
        batch = [task]
        limit = _batch_limit(task)
        while line.waiting and len(batch) < limit and line.waiting[0].base_bytes <= task.base_bytes:
            other = line.waiting.popleft()
            if not other.has_ended:
                batch.append(other)
        self._feed(line)
        if not line.waiting and not line.known:
            del self._lines[_kind(task)]
        return batch

    def ended(self, task: LocalTask, seconds: float) -> None:
        """Learn how long a task took."""
        function = task.function
        mean = seconds if function.mean_seconds is None else function.mean_seconds
        function.mean_seconds = mean + MEAN_SHARE * (min(seconds, OUTLIER_MAX * mean) - mean)

    def _feed(self, line: _Line) -> None:
        while line.waiting and (line.known < KNOWN_MAX or _is_long(line.waiting[0])):
            task = line.waiting.popleft()
            if not task.has_ended:
                line.known += 1
                self._submit(task)


def _kind(task: LocalTask) -> Kind:
    labels = frozenset(task.labels.items())
    return task.function.id, task.key, task.cpus, labels, task.memory or 0


def _is_long(task: LocalTask) -> bool:
    mean_seconds = task.function.mean_seconds
    return mean_seconds is not None and mean_seconds > TINY_SECONDS_MAX


def _batch_limit(task: LocalTask) -> int:
    mean_seconds = task.function.mean_seconds
    if mean_seconds is None or mean_seconds > TINY_SECONDS_MAX:
        return 1
    return max(1, min(BATCH_TASKS_MAX, int(BATCH_SECONDS_MAX / max(mean_seconds, 1e-6))))
