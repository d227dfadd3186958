"""The nodes and what is free on them, found by room without looking at each.

The nodes that have the labels some tasks ask for form a pool: a node is in as many as there are
such demands that it meets. A pool keeps its nodes on shelves: by how many CPU slots are free
(powers of two), then by room in steps of an eighth of an octave. A bit mask says which steps are
taken, so the roomiest node, or the tightest one that is wide enough, is one shift away.

A node that is reserved lies on no shelf: nothing is put there but what it is reserved for.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator

from runtime.api import Resources
from runtime.predictor import Rates
from runtime.scheduling.request import Need, base_limit, pooled_bytes

STEPS_PER_OCTAVE = 8
STEPS_MAX = 64 * STEPS_PER_OCTAVE
SIZE_MAX = 2.0**64

PROBES_MAX = 8
"""Nodes of one step looked at: those have about the same room, so one is as good as another."""

SHELVES = 17
"""By the bit length of the free CPU slots of a node: up to 65,535 of them."""


Places = tuple[int, int, int]
"""The shelves of a node by its free CPU slots, the step of its room, that of its room per slot."""


def step(size_bytes: float) -> int:
    """Return the step that a size lies on."""
    if size_bytes <= 1:
        return 0
    if size_bytes >= SIZE_MAX:
        return STEPS_MAX
    return int(math.log2(size_bytes) * STEPS_PER_OCTAVE)


class Node:
    """A node and what runs on it.

    Attributes:
        pools: Those that it is in.
        mean_bytes: Sum of the expected peaks of what runs.
        variance: Sum of their squared deviations.
        room_bytes: What a task of no deviation could still get.
        running: Needs by task.
        is_reserved: Whether it is kept free for one task.
    """

    __slots__ = (
        "_places",
        "free_cpus",
        "is_reserved",
        "mean_bytes",
        "name",
        "pools",
        "room_bytes",
        "running",
        "total",
        "variance",
    )

    def __init__(self, name: str, total: Resources) -> None:
        self.name = name
        self.total = total
        self.pools: list[Pool] = []
        self.free_cpus = total.cpus
        self.mean_bytes = self.variance = 0
        self.room_bytes = total.memory_bytes
        self.running: dict[int, Need] = {}
        self.is_reserved = False
        self._places: Places | None = None
        self.shelve()

    def is_capable(self, need: Need) -> bool:
        """Tell whether the task could run here if nothing else did."""
        return need.cpus <= self.total.cpus and need.alone_bytes <= self.total.memory_bytes

    def fits(self, need: Need) -> bool:
        """Tell whether the task can run beside what runs: the rule of admission."""
        if need.cpus > self.free_cpus or need.mean_bytes > self.room_bytes:
            return False
        pooled = pooled_bytes(
            self.mean_bytes + need.mean_bytes, self.variance + need.spread_bytes**2
        )
        return pooled <= self.total.memory_bytes

    def limit_bytes(self, rates: Rates) -> float:
        """Return the largest base that there is room for; negative for none."""
        return base_limit(rates, self.total.memory_bytes - self.mean_bytes, self.variance)

    def hold(self, task_id: int, need: Need) -> None:
        """Charge a task."""
        self.running[task_id] = need
        self.free_cpus -= need.cpus
        self.mean_bytes += need.mean_bytes
        self.variance += need.spread_bytes**2
        self.shelve()

    def free(self, task_id: int) -> Need:
        """Give back what a task held."""
        need = self.running.pop(task_id)
        self.free_cpus += need.cpus
        self.mean_bytes -= need.mean_bytes
        self.variance -= need.spread_bytes**2
        self.shelve()
        return need

    def faults(self) -> Iterator[str]:
        """Return what is wrong with its books."""
        needs = self.running.values()
        if sum(need.cpus for need in needs) != self.total.cpus - self.free_cpus:
            yield "CPU slots do not add up"
        if self.free_cpus < 0:
            yield "more CPU slots are held than there are"
        if self.mean_bytes != sum(need.mean_bytes for need in needs):
            yield "means do not add up"
        if self.variance != sum(need.spread_bytes**2 for need in needs):
            yield "variances do not add up"
        if self.room_bytes != self.total.memory_bytes - pooled_bytes(
            self.mean_bytes, self.variance
        ):
            yield "the room is not what is left"
        if self.room_bytes < 0:
            yield f"filled {-self.room_bytes} bytes beyond its memory"

    def shelve(self) -> None:
        """Put the node where its room belongs, or nowhere while it is reserved."""
        room = self.total.memory_bytes - pooled_bytes(self.mean_bytes, self.variance)
        self.room_bytes = room
        places = None
        if not self.is_reserved:
            cpus = self.free_cpus
            places = (cpus.bit_length(), step(room), step(room / cpus) if cpus else 0)
        if places != self._places:
            for pool in self.pools:
                self._move(pool, self._places, places)
            self._places = places

    def join(self, pool: "Pool") -> None:
        """Become one of a pool."""
        self.pools.append(pool)
        pool.nodes[self.name] = self
        self._move(pool, None, self._places)

    def leave(self) -> None:
        """Be in no pool any more."""
        for pool in self.pools:
            self._move(pool, self._places, None)
            del pool.nodes[self.name]
        self.pools.clear()

    def _move(self, pool: "Pool", old: Places | None, new: Places | None) -> None:
        if old is not None:
            pool.by_room[old[0]].remove(old[1], self)
            pool.by_slot[old[0]].remove(old[2], self)
        if new is not None:
            pool.by_room[new[0]].add(new[1], self)
            pool.by_slot[new[0]].add(new[2], self)


class Shelf:
    """Nodes by step, first come, first served (an ordered dictionary finds its first at once).

    Attributes:
        mask: The steps taken, a bit for each.
    """

    __slots__ = ("_steps", "mask")

    def __init__(self) -> None:
        self.mask = 0
        self._steps: dict[int, OrderedDict[Node, None]] = {}

    def add(self, step: int, node: Node) -> None:
        """Put a node on a step."""
        nodes = self._steps.get(step)
        if nodes is None:
            self._steps[step] = OrderedDict(((node, None),))
            self.mask |= 1 << step
        else:
            nodes[node] = None

    def remove(self, step: int, node: Node) -> None:
        """Take a node off its step."""
        nodes = self._steps[step]
        del nodes[node]
        if not nodes:
            del self._steps[step]
            self.mask ^= 1 << step

    def highest(self) -> Iterator[Node]:
        """Return all nodes on the highest step: a task that needs a whole node may fit just one."""
        return iter(self._steps[self.mask.bit_length() - 1])

    def first(self, step: int, cpus: int) -> Node | None:
        """Return a node on a step that has so many free CPU slots."""
        for count, node in enumerate(self._steps[step]):
            if node.free_cpus >= cpus:
                return node
            if count == PROBES_MAX:
                break
        return None


class Pool:
    """Nodes that some tasks may run on, shelved by room and by room for each free CPU slot."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.by_room = [Shelf() for _ in range(SHELVES)]
        self.by_slot = [Shelf() for _ in range(SHELVES)]

    def highest(self, cpus: int) -> int:
        """Return the highest step with a node of so many free CPU slots; -1 for none."""
        taken = 0
        for shelf in self.by_room[cpus.bit_length() :]:
            taken |= shelf.mask
        return taken.bit_length() - 1

    def roomiest(self, cpus: int) -> Node | None:
        """Return the node with the most room among those with so many free CPU slots."""
        best, best_step = None, -1
        for shelf in self.by_room[cpus.bit_length() :]:
            if shelf.mask >> (best_step + 1):
                highest = shelf.mask.bit_length() - 1
                found = shelf.first(highest, cpus)
                if found is not None:
                    best, best_step = found, highest
        return best

    def match(self, need: Need) -> Node | None:
        """Return the node whose memory for each free slot is the least that will do.

        So nodes with much memory per slot are left to the tasks that need it. Where there is
        none, the roomiest node gives a task more than its share, if it can.
        """
        wanted = step(need.alone_bytes / max(1, need.cpus)) + 1
        best, best_step = None, STEPS_MAX + 1
        for shelf in self.by_slot[need.cpus.bit_length() :]:
            above = shelf.mask >> wanted
            if above:
                lowest = wanted + (above & -above).bit_length() - 1
                if lowest < best_step:
                    found = shelf.first(lowest, need.cpus)
                    if found is not None and found.fits(need):
                        best, best_step = found, lowest
        if best is not None:
            return best
        # A node has room for no task whose mean is on a higher step than its room.
        above = step(need.mean_bytes)
        shelves = [shelf for shelf in self.by_room[need.cpus.bit_length() :] if shelf.mask >> above]
        shelves.sort(key=lambda shelf: shelf.mask, reverse=True)
        return next(
            (node for shelf in shelves for node in shelf.highest() if node.fits(need)), None
        )
