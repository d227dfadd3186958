"""What happens to a task that needs more than its grant: stopped, tried again, or split."""

from collections.abc import Sequence
from dataclasses import dataclass

AVAILABLE_BYTES_MIN = 128 << 20
"""When the machine has less than this left, tasks beyond their grant are stopped."""


@dataclass(frozen=True, slots=True)
class Running:
    """A task that runs: its grant and the private memory last seen, in bytes."""

    id: int
    granted_bytes: int
    used_bytes: int

    @property
    def excess_bytes(self) -> int:
        """How far it is beyond its grant."""
        return self.used_bytes - self.granted_bytes


def overrun(running: Sequence[Running], *, budget_bytes: int, available_bytes: int) -> int | None:
    """Return the id of the task to stop, or None.

    While the node has memory a task may exceed its grant. When it is short, the one that is
    furthest beyond its grant goes; a task within its grant never does.
    """
    used_bytes = sum(task.used_bytes for task in running)
    if used_bytes <= budget_bytes and available_bytes >= AVAILABLE_BYTES_MIN:
        return None
    worst = max(running, key=lambda task: task.excess_bytes, default=None)
    return worst.id if worst is not None and worst.excess_bytes > 0 else None


def escalated(*, granted_bytes: int, used_bytes: int, cap_bytes: int) -> int | None:
    """Return the grant of the next attempt after one ran out of memory.

    None at the cap: more of the same cannot help, the task must be split or it fails.
    """
    if granted_bytes >= cap_bytes:
        return None
    return min(cap_bytes, max(2 * granted_bytes, used_bytes * 5 // 4))
