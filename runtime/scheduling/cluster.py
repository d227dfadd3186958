"""All nodes together: which could run a task, which can run it now, how large a task may be."""

from dataclasses import dataclass

from runtime.api import Resources
from runtime.predictor import Rates
from runtime.scheduling.nodes import STEPS_PER_OCTAVE, Node, Pool
from runtime.scheduling.queues import Labels, Lane
from runtime.scheduling.request import Need, pooled_bytes


@dataclass(frozen=True, slots=True)
class Reach:
    """Where tasks of some CPU need and labels can run, and the memory of the largest node."""

    pool: Pool
    cap_bytes: int


class Cluster:
    """The nodes by name and by pool, one for each set of labels that tasks have asked for.

    So labels that nobody asks for cost nothing, be they other ones on each node.

    Attributes:
        nodes: All nodes.
        cpus: CPU slots of all nodes.
        memory_bytes: Memory of all nodes.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.cpus = self.memory_bytes = 0
        self._all = Pool()
        self._pools: dict[Labels, Pool] = {frozenset(): self._all}
        self._reaches: dict[tuple[int, Labels], Reach] = {}

    def add(self, name: str, total: Resources) -> None:
        """Take in a node.

        Raises:
            ValueError: There is a node of this name.
        """
        if name in self.nodes:
            raise ValueError(f"there is a node {name!r} already")
        node = self.nodes[name] = Node(name, total)
        for labels, pool in self._pools.items():
            if labels <= total.labels.items():
                node.join(pool)
        self._resize(total.cpus, total.memory_bytes)

    def remove(self, name: str) -> Node:
        """Forget a node and return it."""
        node = self.nodes.pop(name)
        node.leave()
        self._resize(-node.total.cpus, -node.total.memory_bytes)
        return node

    def reach(self, cpus: int, labels: Labels) -> Reach:
        """Return where tasks of this CPU need and these labels can run."""
        found = self._reaches.get((cpus, labels))
        if found is None:
            pool = self._pools.get(labels) or self._make_pool(labels)
            nodes = (node.total for node in pool.nodes.values())
            memory = (total.memory_bytes for total in nodes if total.cpus >= cpus)
            found = self._reaches[cpus, labels] = Reach(pool, max(memory, default=0))
        return found

    def match(self, lane: Lane, wanted: Need) -> Node | None:
        """Return the best node that can run a task of a lane now."""
        return self.reach(lane.cpus, lane.labels).pool.match(wanted)

    def roomiest_capable(self, lane: Lane, wanted: Need) -> Node | None:
        """Return the node, reserved ones aside, that is nearest to having room. Looks at each."""
        nodes = self.reach(lane.cpus, lane.labels).pool.nodes.values()
        capable = (node for node in nodes if not node.is_reserved and node.is_capable(wanted))
        return max(capable, key=lambda node: node.room_bytes, default=None)

    def limit_bytes(self, lane: Lane, rates: Rates) -> float:
        """Return the largest base of a lane's tasks that a node has room for; -1 for none."""
        node = self.reach(lane.cpus, lane.labels).pool.roomiest(lane.cpus)
        return -1.0 if node is None else node.limit_bytes(rates)

    def room_bytes(self, cpus: int) -> float:
        """Return what no room beside so many free CPU slots reaches; 0 where there is none."""
        highest = self._all.highest(cpus)
        return 2.0 ** ((highest + 1) / STEPS_PER_OCTAVE) if highest >= 0 else 0.0

    def held(self) -> Resources:
        """Return what is in use: CPU slots, and memory as pooled."""
        nodes = self.nodes.values()
        return Resources(
            sum(node.total.cpus - node.free_cpus for node in nodes),
            sum(pooled_bytes(node.mean_bytes, node.variance) for node in nodes),
        )

    def _make_pool(self, labels: Labels) -> Pool:
        """Make the pool of the nodes that have these labels; kept if there are any."""
        pool = Pool()
        for node in self.nodes.values():
            if labels <= node.total.labels.items():
                node.join(pool)
        if pool.nodes:
            self._pools[labels] = pool
        return pool

    def _resize(self, cpus: int, memory_bytes: int) -> None:
        self.cpus += cpus
        self.memory_bytes += memory_bytes
        self._reaches.clear()
