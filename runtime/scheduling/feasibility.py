"""Refuses at submit what would wait for ever, with the numbers."""

from collections.abc import Sequence

from runtime.api import Resources
from runtime.errors import Infeasible, in_mib


def infeasible(request: Resources, node: Resources) -> str | None:
    """Return why a request can never be met on a node, with the numbers; None when it can."""
    if request.memory_bytes > node.memory_bytes:
        return (
            f"the task asks for {in_mib(request.memory_bytes)} of memory, at most"
            f" {in_mib(node.memory_bytes)} can be granted"
        )
    if request.cpus > node.cpus:
        return f"the task asks for {request.cpus} CPU slots, there are {node.cpus}"
    for name, value in request.labels.items():
        if node.labels.get(name) != value:
            return f"no node has the label {name}={value}"
    return None


def require_feasible(request: Resources, *nodes: Resources) -> None:
    """Refuse at submit what none of the nodes can ever run.

    Raises:
        Infeasible: Each node is too small for the request, or lacks a label. The message speaks
            of the largest one among those that have the labels.
        ValueError: The request makes no sense.
    """
    if request.cpus < 1:
        raise ValueError(f"cpus must be at least 1, not {request.cpus}")
    if request.memory_bytes < 0:
        raise ValueError(f"memory must not be negative, not {request.memory_bytes}")
    if not any(infeasible(request, node) is None for node in nodes):
        raise _refusal(request, nodes)


def _refusal(request: Resources, known: Sequence[Resources]) -> Infeasible:
    labelled = [n for n in known if request.labels.items() <= n.labels.items()]
    largest = max(labelled or known, key=lambda n: n.memory_bytes, default=Resources(0, 0))
    reason = infeasible(request, largest) if known else "there is no node"
    if len(known) > 1:
        reason = f"{reason} (on the largest of {len(known)} nodes)"
    return Infeasible(
        reason or "", requested_bytes=request.memory_bytes, budget_bytes=largest.memory_bytes
    )
