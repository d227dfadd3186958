"""What the nodes of a cluster can grant: to one task, to all, and what to ask of Ray for it.

Values in, values out: what is known of the nodes comes from the dispatcher.
"""

import math
from collections.abc import Mapping

from runtime.api import Resources
from runtime.scheduler import infeasible, require_feasible

REQUEST_STEPS = 16
"""Memory requests are rounded up to so many steps per doubling: Ray leases a worker for tasks of
one and the same request only."""


class Capacity:
    """The living nodes, and what of them may be used.

    Args:
        limit: What was allowed at connect, 0 meaning all there is.

    Attributes:
        nodes: What each node has, by its id.
        actor_bytes: Memory that living actors hold or wait for: tasks will not get it.
    """

    def __init__(self, limit: Resources) -> None:
        self.limit = limit
        self.nodes: Mapping[str, Resources] = {}
        self.actor_bytes = 0

    def total(self) -> Resources:
        """Return what all tasks together may use."""
        nodes = list(self.nodes.values())
        cpus = sum(node.cpus for node in nodes)
        memory_bytes = sum(node.memory_bytes for node in nodes)
        return Resources(
            min(cpus, self.limit.cpus or cpus),
            min(memory_bytes, self.limit.memory_bytes or memory_bytes),
        )

    def require_feasible(self, request: Resources, *, for_actor: bool = False) -> None:
        """Refuse what no node can ever run.

        Raises:
            Infeasible: The largest node is too small, or living actors hold too much.
        """
        require_feasible(request, *self._offers(self.actor_bytes if for_actor else 0))

    def is_feasible(self, request: Resources) -> bool:
        """Whether some node can run it."""
        return any(infeasible(request, offer) is None for offer in self._offers())

    def cap_bytes(self, request: Resources) -> int:
        """Return the most that one attempt can be granted; 0 when no node is left for it."""
        fitting = [o.memory_bytes for o in self._offers() if infeasible(request, o) is None]
        left = max(1, self.total().memory_bytes - self.actor_bytes)
        return min(max(fitting, default=0), left)

    def asked_bytes(self, request: Resources, *, expected_bytes: int, granted_bytes: int) -> int:
        """Return what to ask of Ray for a grant.

        Ray only adds requests up, while tasks seldom reach their grants together: k neighbours
        on a node share a margin of sqrt(k), not of k. Nothing is enforced by what is asked.
        """
        cap = max(self.cap_bytes(request), granted_bytes)
        expected = max(1, min(expected_bytes, granted_bytes))
        cpus = max((offer.cpus for offer in self._offers()), default=1)
        neighbours = max(1, min(cpus // max(1, request.cpus), cap // expected))
        margin = (granted_bytes - expected) / math.sqrt(neighbours)
        return rounded_up(expected + int(margin), cap)

    def _offers(self, held_bytes: int = 0) -> list[Resources]:
        """Return the nodes as far as they are ours to use."""
        left = self.total().memory_bytes - held_bytes
        return [
            Resources(
                min(node.cpus, self.limit.cpus or node.cpus),
                min(node.memory_bytes, left),
                node.labels,
            )
            for node in self.nodes.values()
        ]


def rounded_up(size_bytes: int, cap_bytes: int) -> int:
    """Return one of few sizes that is enough, at most the cap."""
    step = 1 << max(0, size_bytes.bit_length() - REQUEST_STEPS.bit_length())
    return min(-(-size_bytes // step) * step, cap_bytes)
