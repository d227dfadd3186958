"""Nodes that got room since refused tasks were last looked at: all that is worth trying again."""

import heapq

from runtime.scheduling.nodes import Node, Pool
from runtime.scheduling.request import Need

LOOKED_AT_MAX = 16
"""Where more nodes than this got room they are not looked at one by one."""


class Grown:
    """Such nodes, the roomiest first. What has become of their room is found out when asked.

    Attributes:
        count: How many times a node got room, ever.
    """

    def __init__(self) -> None:
        self.count = 0
        self._numbers: dict[Node, int] = {}
        self._heap: list[tuple[int, int, Node]] = []

    def add(self, node: Node) -> None:
        """Take note of a node."""
        self.count += 1
        self._numbers.pop(node, None)
        self._numbers[node] = self.count
        heapq.heappush(self._heap, (-node.room_bytes, self.count, node))

    def discard(self, node: Node) -> None:
        """Forget a node."""
        self._numbers.pop(node, None)

    def clear(self) -> None:
        """Forget all: whoever could use them has been asked."""
        self._numbers.clear()
        self._heap.clear()

    def room_bytes(self, cpus: int) -> int:
        """Return the most room of any that has so many free CPU slots; 0 when none has."""
        while self._heap:
            room, number, node = self._heap[0]
            if self._numbers.get(node) == number and node.free_cpus >= cpus:
                if -room == node.room_bytes:
                    return node.room_bytes
                heapq.heapreplace(self._heap, (-node.room_bytes, number, node))
            else:
                heapq.heappop(self._heap)
        return 0

    def are_few(self, since: int) -> bool:
        """Tell whether those that got room since can be looked at one by one."""
        return min(self.count - since, len(self._numbers)) <= LOOKED_AT_MAX

    def fitting(self, wanted: Need, pool: Pool, *, since: int) -> Node | None:
        """Return one in this pool that got room since and has enough of it. Looks at each."""
        for node, number in reversed(self._numbers.items()):
            if number <= since:
                break
            if node.fits(wanted) and node.name in pool.nodes and not node.is_reserved:
                return node
        return None
