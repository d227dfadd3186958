"""What waits: lanes of like tasks within jobs, the largest first and the oldest not forgotten.

All tasks of a lane have the same key, so they keep their order by size whatever is learned about
the key while they wait: their needs are worked out when they are placed.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from runtime.api import Key
from runtime.predictor import Rates
from runtime.scheduling.nodes import STEPS_MAX, STEPS_PER_OCTAVE, step
from runtime.scheduling.request import Need, Request

OVERTAKEN_MAX = 64
"""So many tasks of a lane are taken by size, then one by age: none waits behind later ones
for ever, and long tails are still avoided."""

_SIZES = [math.exp2(place / STEPS_PER_OCTAVE) - 1 for place in range(STEPS_MAX + 1)]

Labels = frozenset[tuple[str, str]]
LaneKey = tuple[Key | None, int, Labels]


@dataclass(slots=True, eq=False)
class Queued:
    """A task that waits.

    Attributes:
        is_queued: False once it was placed or withdrawn: what still lists it passes it by.
        is_deferred: It waited for the node of its inputs once already.
    """

    request: Request
    lane: "Lane"
    is_queued: bool = True
    is_deferred: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why none of a lane's tasks was placed: nobody had room for the smallest of them.

    Attributes:
        smallest: That task.
        wanted: Its need.
        rates: By which it was worked out.
        growths: How many times nodes had got room by then.
    """

    smallest: Queued
    wanted: Need
    rates: Rates
    growths: int


class Lane:
    """Tasks of one key, CPU need and labels in one job.

    Attributes:
        count: Tasks that wait in it.
        alive: Tasks that wait, in it or apart, or run.
        passed: How many of other lanes of its job went first since one of its own did.
        overtaken: How many were taken by size since the oldest became the oldest.
        blocked_since: The count of all placements when the first in line did not fit; None
            while it does.
        is_claiming: Whether a node is being kept free for one of its tasks.
        refusal: How it was refused when it was last looked at; None once its smallest task is
            another.
    """

    def __init__(self, job: "Job", key: LaneKey) -> None:
        self.job = job
        self.key = key
        self.kind, self.cpus, self.labels = key
        self.count = self.alive = self.passed = 0
        self.overtaken = 0
        self.blocked_since: int | None = None
        self.is_claiming = False
        self.refusal: Refusal | None = None
        self._mask = 0
        self._steps: dict[int, deque[Queued]] = {}
        self._by_age: OrderedDict[int, Queued] = OrderedDict()

    def add(self, task: Queued) -> None:
        """Queue a task."""
        if self.refusal and task.request.base_bytes < self.refusal.smallest.request.base_bytes:
            self.refusal = None
        place = step(task.request.base_bytes)
        self._steps.setdefault(place, deque()).append(task)
        self._mask |= 1 << place
        self._by_age[task.request.id] = task
        task.is_queued = True
        self.count += 1

    def refused(self, rates: Rates) -> Refusal | None:
        """Return how it was refused, if that still holds by the rates of now."""
        refusal = self.refusal
        if refusal is None or (refusal.rates is not rates and refusal.rates != rates):
            return None
        return refusal

    def take(self, task: Queued) -> None:
        """Remove a task that was chosen or withdrawn."""
        task.is_queued = False
        self.count -= 1
        if self.refusal and self.refusal.smallest is task:
            self.refusal = None
        is_oldest = next(iter(self._by_age.values())) is task
        self.overtaken = 0 if is_oldest else self.overtaken + 1
        del self._by_age[task.request.id]

    def first(self) -> Queued | None:
        """Return the task whose turn it is: the largest, or the oldest when that is overdue."""
        if self.overtaken >= OVERTAKEN_MAX and self._by_age:
            return next(iter(self._by_age.values()))
        return self.largest(math.inf)

    def largest(self, limit_bytes: float) -> Queued | None:
        """Return a task of the largest size whose base is within a limit."""
        place = self._mask.bit_length() - 1
        if limit_bytes != math.inf:
            place = self._below(step(limit_bytes))
        while place >= 0:
            task = self._head(place)
            if task is not None and task.request.base_bytes <= limit_bytes:
                return task
            place = self._below(place - 1)
        return None

    def smallest(self) -> Queued | None:
        """Return a task of the smallest size."""
        while self._mask:
            task = self._head((self._mask & -self._mask).bit_length() - 1)
            if task is not None:
                return task
        return None

    def least(self) -> float:
        """Return a lower bound of the bases of its tasks, in bytes."""
        return _SIZES[(self._mask & -self._mask).bit_length() - 1]

    def size(self, rates: Rates) -> float:
        """Return the expected peak of the first in line."""
        first = self.first()
        return rates.mean_bytes(first.request.base_bytes) if first is not None else 0.0

    def _below(self, place: int) -> int:
        """Return the highest step taken at or below another; -1 when none is."""
        return (self._mask & ((1 << (place + 1)) - 1)).bit_length() - 1 if place >= 0 else -1

    def _head(self, place: int) -> Queued | None:
        tasks = self._steps[place]
        while tasks and not tasks[0].is_queued:
            tasks.popleft()
        if tasks:
            return tasks[0]
        del self._steps[place]
        self._mask ^= 1 << place
        return None


@dataclass(slots=True, eq=False)
class Job:
    """The tasks of one owner and what they hold.

    Attributes:
        weight: Its share against that of others.
        stamp: That of its valid entry in the order of jobs; -1 without one.
    """

    name: str
    weight: float = 1.0
    held_cpus: int = 0
    held_bytes: int = 0
    lanes: dict[LaneKey, Lane] = field(default_factory=dict)
    stamp: int = -1

    def share(self, cpus: int, memory_bytes: int) -> float:
        """Return the part it holds of what it holds most of, by its weight."""
        by_cpus = self.held_cpus / (cpus or 1)
        by_memory = self.held_bytes / (memory_bytes or 1)
        return max(by_cpus, by_memory) / self.weight

    def lane(self, request: Request) -> Lane:
        """Return the lane of a request."""
        key = (request.key, request.cpus, frozenset(request.labels.items()))
        found = self.lanes.get(key)
        if found is None:
            found = self.lanes[key] = Lane(self, key)
        return found

    def waiting(self) -> Iterator[Lane]:
        """Return the lanes that have tasks."""
        return (lane for lane in self.lanes.values() if lane.count)

    def forget_refusals(self) -> None:
        """Let its tasks be looked at whatever was found before."""
        for lane in self.lanes.values():
            lane.refusal = None

    def in_turn(self, rates: Callable[[Lane], Rates]) -> list[Lane]:
        """Return the lanes that have tasks, that of the largest first, or one passed too often."""
        lanes = [lane for lane in self.lanes.values() if lane.count]
        if len(lanes) > 1:
            lanes.sort(key=lambda lane: (lane.passed >= OVERTAKEN_MAX, lane.size(rates(lane))))
            lanes.reverse()
        return lanes

    def passed(self, taken: Lane) -> None:
        """Note that a lane had its turn."""
        if len(self.lanes) > 1:
            for lane in self.waiting():
                lane.passed += 1
        taken.passed = 0
