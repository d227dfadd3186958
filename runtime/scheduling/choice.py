"""Which task of a lane goes where: what it needs, the largest that fits, the node of its inputs."""

from collections.abc import Callable, Iterator

from runtime.api import Key
from runtime.predictor import Rates
from runtime.scheduling.cluster import Cluster
from runtime.scheduling.grown import Grown
from runtime.scheduling.nodes import Node
from runtime.scheduling.queues import Lane, Queued, Refusal
from runtime.scheduling.request import Need, need

LOCAL_BYTES_MIN = 16 << 20
"""Inputs smaller than this are fetched sooner than waited for."""

# More than what rounding up adds to the need of a task.
ROUNDING, ROUNDING_BYTES = 1e-6, 8

Choice = tuple[Queued, Need, Node]
"""A task, its need, and the node that has room for it."""


class Chooser:
    """Chooses by what is known at the moment; changes nothing but notes on waiting.

    Args:
        cluster: The nodes.
        rates: What the base of a task of a key is multiplied by.
    """

    def __init__(self, cluster: Cluster, rates: Callable[[Key | None], Rates]) -> None:
        self._cluster = cluster
        self._rates = rates

    def need(self, task: Queued) -> Need:
        """Return what a task is charged if it is placed now."""
        lane = task.lane
        cap_bytes = self._cluster.reach(lane.cpus, lane.labels).cap_bytes
        rates = self._rates(lane.kind)
        return need(lane.cpus, task.request.base_bytes, rates=rates, cap_bytes=cap_bytes)

    def least_bytes(self, lane: Lane) -> float:
        """Return what no task of a lane needs less of."""
        cap_bytes = self._cluster.reach(lane.cpus, lane.labels).cap_bytes
        return min(self._rates(lane.kind).mean_bytes(lane.least()), cap_bytes)

    def behind(self, lane: Lane) -> Choice | None:
        """Return the largest task of a lane that fits somewhere, and where."""
        limit_bytes = self._cluster.limit_bytes(lane, self._rates(lane.kind))
        for task, wanted in self._largest(lane, limit_bytes):
            node = self._cluster.match(lane, wanted)
            if node is not None:
                return task, wanted, node
        return None

    def again(self, lane: Lane, refusal: Refusal, grown: Grown) -> Choice | None:
        """Choose from a lane that was refused: only nodes that got room since are of use."""
        pool = self._cluster.reach(lane.cpus, lane.labels).pool
        node = grown.fitting(refusal.wanted, pool, since=refusal.growths)
        first = lane.first()
        if node is None or first is None:
            return None
        wanted = self.need(first)
        if node.fits(wanted):
            lane.blocked_since = None
            return first, wanted, node
        for task, less in self._largest(lane, node.limit_bytes(refusal.rates)):
            if node.fits(less):
                return task, less, node
        return None

    def home(self, task: Queued, wanted: Need) -> Node | None:
        """Return the node of most of the task's inputs, if they are worth staying with."""
        located = task.request.located
        if not located or len(self._cluster.nodes) == 1:
            return None
        name = max(located, key=lambda name: located[name])
        node = self._cluster.nodes.get(name)
        if node is None or located[name] < LOCAL_BYTES_MIN or not node.is_capable(wanted):
            return None
        pool = self._cluster.reach(task.lane.cpus, task.lane.labels).pool
        return node if name in pool.nodes else None

    def _largest(self, lane: Lane, limit_bytes: float) -> Iterator[tuple[Queued, Need]]:
        """Yield the largest task within a limit, and then one that is surely within it.

        Needs are rounded up: the very largest may be a few bytes too large after all.
        """
        for limit in (limit_bytes, limit_bytes * (1 - ROUNDING) - ROUNDING_BYTES):
            task = lane.largest(limit) if limit >= 0 else None
            if task is not None:
                yield task, self.need(task)
