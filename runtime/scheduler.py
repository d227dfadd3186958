"""Decides what runs: admission, containment and escalation. Pure: values in, values out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runtime.api import Resources
from runtime.errors import Infeasible

WINDOW_TASKS_MAX = 64
"""How far behind a task that does not fit another one is looked for."""

PASSED_OVER_MAX = 64
"""A task that others overtook this often is next, so that a large one never starves."""

AVAILABLE_BYTES_MIN = 128 << 20
"""When the machine has less than this left, tasks beyond their grant are stopped."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that could run now.

    Attributes:
        request: What it needs.
        passed_over: How many later tasks were admitted before it.
    """

    request: Resources
    passed_over: int = 0


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


def infeasible(request: Resources, node: Resources) -> str | None:
    """Return why a request can never be met on a node, with the numbers; None when it can."""
    if request.memory_bytes > node.memory_bytes:
        return (
            f"the task asks for {request.memory_bytes} bytes of memory, at most"
            f" {node.memory_bytes} bytes can be granted"
        )
    if request.cpus > node.cpus:
        return f"the task asks for {request.cpus} CPU slots, there are {node.cpus}"
    for name, value in request.labels.items():
        if node.labels.get(name) != value:
            return f"no node has the label {name}={value}"
    return None


def require_feasible(request: Resources, node: Resources) -> None:
    """Refuse at submit what would wait for ever.

    Raises:
        Infeasible: The node is too small for the request.
        ValueError: The request makes no sense.
    """
    if request.cpus < 1:
        raise ValueError(f"cpus must be at least 1, not {request.cpus}")
    if request.memory_bytes < 0:
        raise ValueError(f"memory must not be negative, not {request.memory_bytes}")
    reason = infeasible(request, node)
    if reason is not None:
        raise Infeasible(
            reason, requested_bytes=request.memory_bytes, budget_bytes=node.memory_bytes
        )


def admit(waiting: Iterable[Waiting], free: Resources) -> list[int]:
    """Choose which of the waiting tasks start now; returns their places in the order given.

    First come, first served; a task that does not fit lets smaller ones by, but only so often.
    """
    admitted: list[int] = []
    cpus, memory_bytes = free.cpus, free.memory_bytes
    for place, task in enumerate(waiting):
        if cpus <= 0 or place >= WINDOW_TASKS_MAX:
            break
        request = task.request
        if request.cpus <= cpus and request.memory_bytes <= memory_bytes:
            admitted.append(place)
            cpus -= request.cpus
            memory_bytes -= request.memory_bytes
        elif task.passed_over >= PASSED_OVER_MAX:
            break
    return admitted


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
    """Return the grant of the next attempt after one ran out of memory; None at the cap."""
    if granted_bytes >= cap_bytes:
        return None
    return min(cap_bytes, max(2 * granted_bytes, used_bytes * 5 // 4))
