"""Decides what runs where, and what is stopped. Pure: events in, placements out, no clock.

    scheduler = Scheduler(ledger.rates)
    scheduler.add_node("local", Resources(cpus=8, memory_bytes=16 << 30))
    scheduler.submit(Request(task_id=7, base_bytes=200 << 20, key=("orders", "rewrite")))
    for placement in scheduler.place():     # start placement.id on placement.node
        ...
    scheduler.release(7)                    # its attempt ended, however it did

One machine is a cluster of one node. The rules, in the order in which they win:

1. A node is never filled beyond its memory, counted as the pooled sum of what its tasks are
   predicted to need (`pooled_bytes`), nor beyond its CPU slots. Needs are worked out when a task
   is placed: what the first tasks of a job taught holds for the rest.
2. Nothing waits for ever. What can run on no node is refused at submit. A task that stays first
   in its line while `PATIENCE_WAVES` waves of others pass claims a node, which then empties for
   it. Every 65th task of a lane is its oldest.
3. The job that holds the least (of CPU or memory, whichever it holds more of, by its weight) is
   next.
4. Among the tasks of a job the largest that fits goes first: a long one must not start last.
5. A task goes where most of its inputs are. Where that is full it lets others by, for
   `DEFERRED_WAVES` waves at most, and no room is left idle for its sake.

Everything but rare claims takes time independent of the number of nodes and tasks.
"""

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from runtime.api import Key, Resources
from runtime.predictor import AS_ASKED, Rates
from runtime.scheduling.choice import Choice, Chooser
from runtime.scheduling.cluster import Cluster
from runtime.scheduling.containment import AVAILABLE_BYTES_MIN, Running, escalated, overrun
from runtime.scheduling.feasibility import infeasible, require_feasible
from runtime.scheduling.grown import Grown
from runtime.scheduling.nodes import Node
from runtime.scheduling.order import Order
from runtime.scheduling.queues import Job, Lane, Queued, Refusal
from runtime.scheduling.request import Need, Placement, Request

JOBS_TRIED_MAX = 16
"""Jobs in a row whose tasks do not fit before a round ends; the next one starts with others."""

JOBS_ASKED_MAX = 256
"""The same, those included that were refused before and are asked about nodes with new room."""

PATIENCE_WAVES = 8
"""Waves of the whole cluster that may overtake a task before it claims a node."""

DEFERRED_WAVES = 2
"""Waves of the whole cluster that a task waits for the node of its inputs."""

LOCAL_SHARE_MAX = 0.1
"""A job may be ahead of the others by this share for the sake of locality."""

CLAIMS_SHARE = 8
"""At most one node in so many is kept free for claims, and always at least one."""

__all__ = [
    "AVAILABLE_BYTES_MIN",
    "Placement",
    "Request",
    "Running",
    "Scheduler",
    "escalated",
    "infeasible",
    "overrun",
    "require_feasible",
]


@dataclass(slots=True, eq=False)
class _Started:
    """A task that runs, or that waits apart from its lane: for its node or for a claimed one."""

    task: Queued
    node: Node
    until: int = 0


class Scheduler:
    """Places tasks on nodes.

    Args:
        rates: What the base of a task of a key is multiplied by, asked at each placement.
    """

    def __init__(self, rates: Callable[[Key | None], Rates] = lambda _: AS_ASKED) -> None:
        self._rates = rates
        self._cluster = Cluster()
        self._jobs: dict[str, Job] = {}
        self._weights: dict[str, float] = {}
        self._order = Order(self._share)
        self._queued: dict[int, Queued] = {}
        self._running: dict[int, _Started] = {}
        self._deferred: OrderedDict[int, _Started] = OrderedDict()
        self._local: dict[Node, OrderedDict[int, Queued]] = {}
        self._freed: dict[Node, None] = {}
        self._claims: dict[Node, Queued] = {}
        self._chooser = Chooser(self._cluster, rates)
        self._grown = Grown()
        self._failed: WeakKeyDictionary[Lane, tuple[Queued, Need, int]] = WeakKeyDictionary()
        self._placed = self._holders = self._refusals = 0

    # ------------------------------------------------------------ nodes

    def add_node(self, name: str, total: Resources) -> None:
        """Take in a node; the next round uses it.

        Raises:
            ValueError: There is a node of this name.
        """
        self._cluster.add(name, total)
        self._list_all()

    def remove_node(self, name: str) -> list[int]:
        """Forget a node that is lost; return the tasks that ran there, to be submitted again.

        What waits and can run nowhere else is told by `stranded`.
        """
        node = self._cluster.nodes[name]
        lost = list(node.running)
        for task_id in lost:
            self.release(task_id)
        if node in self._claims:
            self._unclaim(node)
        for task_id in list(self._local.pop(node, ())):
            self._undefer(task_id)
        self._freed.pop(node, None)
        self._grown.discard(node)
        self._cluster.remove(name)
        self._list_all()
        return lost

    def stranded(self) -> list[int]:
        """Withdraw and return the tasks that no node can run, after nodes were lost."""
        found = []
        for job in list(self._jobs.values()):
            for lane in list(job.waiting()):
                cap_bytes = self._cluster.reach(lane.cpus, lane.labels).cap_bytes
                while (task := lane.largest(float("inf"))) is not None:
                    if 0 < cap_bytes >= task.request.base_bytes:
                        break
                    self.withdraw(task.request.id)
                    found.append(task.request.id)
        return found

    # ------------------------------------------------------------ tasks

    def weigh(self, job: str, weight: float) -> None:
        """Give a job a share of so many times that of others, from now on.

        Raises:
            ValueError: The weight is not positive.
        """
        if not weight > 0:
            raise ValueError(f"the weight of a job must be positive, not {weight}")
        self._weights[job] = weight
        if job in self._jobs:
            self._jobs[job].weight = weight
            self._list(self._jobs[job])

    def submit(self, request: Request) -> None:
        """Queue a task.

        Raises:
            Infeasible: No node can ever run it, by its base, its CPU slots or its labels.
            ValueError: A task of this id waits or runs.
        """
        if request.id in self._queued or request.id in self._running:
            raise ValueError(f"task {request.id} was submitted already")
        reach = self._cluster.reach(request.cpus, frozenset(request.labels.items()))
        if not 0 < reach.cap_bytes >= request.base_bytes:
            wanted = Resources(max(1, request.cpus), request.base_bytes, request.labels)
            require_feasible(wanted, *(node.total for node in self._cluster.nodes.values()))
        owner = request.owner
        job = self._jobs.get(owner)
        if job is None:
            job = self._jobs[owner] = Job(owner, self._weights.get(owner, 1.0))
        lane = job.lane(request)
        is_smallest = not lane.count or request.base_bytes < lane.least()
        lane.alive += 1
        task = Queued(request, lane)
        lane.add(task)
        self._queued[request.id] = task
        self._holders += not request.cpus
        if is_smallest or job.stamp < 0:
            self._list(job)

    def withdraw(self, task_id: int) -> bool:
        """Forget a task that waits; False when it runs or is not known."""
        task = self._queued.pop(task_id, None)
        if task is None:
            return False
        self._holders -= not task.request.cpus
        if task.is_queued:
            task.lane.take(task)
        elif task_id in self._deferred:
            self._local[self._deferred.pop(task_id).node].pop(task_id)
        else:
            self._end_claim(next(node for node, claim in self._claims.items() if claim is task))
        self._list(task.lane.job)
        self._forget(task.lane)
        return True

    def release(self, task_id: int) -> None:
        """Give back what a task held: its attempt ended."""
        started = self._running.pop(task_id)
        freed = started.node.free(task_id)
        self._freed[started.node] = None
        if not started.node.is_reserved:
            self._grown.add(started.node)
        job = started.task.lane.job
        job.held_cpus -= freed.cpus
        job.held_bytes -= freed.mean_bytes
        self._list(job)
        self._forget(started.task.lane)

    def place(self) -> list[Placement]:
        """Return what starts now. The caller starts all of it."""
        placed = [*self._serve_claims(), *self._serve_local(), *self._serve_jobs()]
        placed += self._serve_deferred()
        self._freed.clear()
        return placed

    # ------------------------------------------------------------ what it looks like

    @property
    def queued(self) -> int:
        """Tasks that wait."""
        return len(self._queued)

    @property
    def running(self) -> int:
        """Tasks that hold something."""
        return len(self._running)

    @property
    def granted(self) -> Resources:
        """What running tasks hold: CPU slots, and memory as pooled."""
        return self._cluster.held()

    def violations(self) -> list[str]:
        """Return what does not hold that must between any two events. For tests and simulation."""
        found = [
            f"{node.name}: {what}"
            for node in self._cluster.nodes.values()
            for what in node.faults()
        ]
        running = {task_id for node in self._cluster.nodes.values() for task_id in node.running}
        if running != set(self._running):
            found.append("the nodes run other tasks than were placed")
        if any(node.is_reserved != (node in self._claims) for node in self._cluster.nodes.values()):
            found.append("a node is reserved without a claim, or claimed and not reserved")
        lanes = [lane for job in self._jobs.values() for lane in job.lanes.values()]
        waiting = sum(lane.count for lane in lanes) + len(self._deferred) + len(self._claims)
        if waiting != len(self._queued):
            found.append(f"{len(self._queued)} tasks are queued, {waiting} wait somewhere")
        if any(job.stamp < 0 for job in self._jobs.values() if any(job.waiting())):
            found.append("a job with waiting tasks has no place in the order")
        return found

    # ------------------------------------------------------------ rounds

    def _serve_claims(self) -> Iterator[Placement]:
        for claimed, task in list(self._claims.items()):
            wanted = self._chooser.need(task)
            node = claimed if claimed.fits(wanted) else self._cluster.match(task.lane, wanted)
            if node is not None:
                self._end_claim(claimed)
                yield self._start(task, node, wanted)
            elif not claimed.is_capable(wanted):
                self._unclaim(claimed)

    def _serve_local(self) -> Iterator[Placement]:
        """Give nodes that got room to the tasks that wait for just them."""
        for node in self._freed:
            waiting = self._local.get(node)
            if not waiting or node.is_reserved:
                continue
            share_max = self._order.least_share() + LOCAL_SHARE_MAX
            for task in list(itertools.islice(waiting.values(), JOBS_TRIED_MAX)):
                wanted = self._chooser.need(task)
                if node.fits(wanted) and self._share(task.lane.job) <= share_max:
                    del self._deferred[task.request.id], waiting[task.request.id]
                    yield self._start(task, node, wanted)
                if not node.free_cpus:
                    break

    def _serve_jobs(self) -> Iterator[Placement]:
        failed: list[Job] = []
        refusals_max = self._refusals + JOBS_TRIED_MAX
        while self._refusals < refusals_max and len(failed) < JOBS_ASKED_MAX:
            job = self._next_job()
            if job is None:
                # All that the nodes with new room are of use to has been looked at.
                self._grown.clear()
                break
            placement = self._place_from(job)
            if placement is not None:
                yield placement
            else:
                failed.append(job)
        for job in failed:
            self._list(job)

    def _next_job(self) -> Job | None:
        """Take the job whose turn it is; None when no room is left that any could use."""
        cpus = 0 if self._holders else 1
        room_bytes = self._cluster.room_bytes(cpus)
        if not room_bytes:
            return None
        job = self._order.unvisited(self._placed - self._cluster.cpus, self._placed)
        if job is not None:
            job.forget_refusals()
            return job
        return self._order.next(room_bytes, grown_bytes=self._grown.room_bytes(cpus))

    def _serve_deferred(self) -> Iterator[Placement]:
        """Leave no room idle for the sake of locality, and let nobody wait too long for it."""
        for task_id, started in list(itertools.islice(self._deferred.items(), JOBS_TRIED_MAX)):
            task = started.task
            wanted = self._chooser.need(task)
            has_room = self._cluster.room_bytes(0 if self._holders else 1) > 0
            node = self._cluster.match(task.lane, wanted) if has_room else None
            if node is not None:
                del self._deferred[task_id], self._local[started.node][task_id]
                yield self._start(task, node, wanted)
            elif self._placed >= started.until:
                self._undefer(task_id)

    # ------------------------------------------------------------ choosing

    def _place_from(self, job: Job) -> Placement | None:
        for lane in job.in_turn(lambda lane: self._rates(lane.kind)):
            while (chosen := self._choose(lane)) is not None:
                task, wanted, node = chosen
                home = self._chooser.home(task, wanted)
                if home is not None and not home.is_reserved and home.fits(wanted):
                    node = home
                elif home is not None and not task.is_deferred:
                    self._defer(task, home)
                    continue
                lane.take(task)
                job.passed(lane)
                return self._start(task, node, wanted)
        return None

    def _choose(self, lane: Lane) -> Choice | None:
        """Return the first in line, or the largest behind it that fits somewhere, and where."""
        rates = self._rates(lane.kind)
        refusal = lane.refused(rates)
        if refusal and not self._is_overdue(lane) and self._grown.are_few(refusal.growths):
            return self._chooser.again(lane, refusal, self._grown)
        chosen = self._look_for(lane)
        smallest = lane.smallest() if chosen is None else None
        if smallest is not None:
            self._refusals += 1
            wanted = self._chooser.need(smallest)
            lane.refusal = Refusal(smallest, wanted, rates, self._grown.count)
        return chosen

    def _look_for(self, lane: Lane) -> Choice | None:
        first = lane.first()
        if first is None:
            return None
        wanted = self._chooser.need(first)
        attempt = (first, wanted, self._grown.count)
        # What fitted nowhere fits nowhere until a node gets room.
        if self._failed.get(lane) != attempt:
            node = self._cluster.match(lane, wanted)
            if node is not None:
                lane.blocked_since = None
                return first, wanted, node
            self._failed[lane] = attempt
        self._block(lane, first, wanted)
        return self._chooser.behind(lane)

    def _start(self, task: Queued, node: Node, wanted: Need) -> Placement:
        task_id = task.request.id
        del self._queued[task_id]
        self._holders -= not task.request.cpus
        self._running[task_id] = _Started(task, node)
        node.hold(task_id, wanted)
        self._placed += 1
        job = task.lane.job
        job.held_cpus += wanted.cpus
        job.held_bytes += wanted.mean_bytes
        self._list(job)
        return Placement(task_id, node.name, wanted.mean_bytes, wanted.granted_bytes)

    # ------------------------------------------------------------ waiting for a node

    def _defer(self, task: Queued, home: Node) -> None:
        task_id = task.request.id
        task.lane.take(task)
        task.is_deferred = True
        self._deferred[task_id] = _Started(
            task, home, self._placed + DEFERRED_WAVES * self._cluster.cpus
        )
        self._local.setdefault(home, OrderedDict())[task_id] = task

    def _undefer(self, task_id: int) -> None:
        started = self._deferred.pop(task_id)
        self._local.get(started.node, OrderedDict()).pop(task_id, None)
        self._return(started.task)

    def _block(self, lane: Lane, first: Queued, wanted: Need) -> None:
        """Note that the first in line does not fit; when it waited long enough, claim a node."""
        if lane.blocked_since is None:
            lane.blocked_since = self._placed
        if not self._is_overdue(lane):
            return
        if len(self._claims) >= max(1, len(self._cluster.nodes) // CLAIMS_SHARE):
            return
        node = self._cluster.roomiest_capable(lane, wanted)
        if node is not None:
            lane.take(first)
            lane.is_claiming = node.is_reserved = True
            self._claims[node] = first
            node.shelve()

    def _is_overdue(self, lane: Lane) -> bool:
        """Tell whether the first in line of a lane has waited long enough to claim a node."""
        if lane.blocked_since is None or lane.is_claiming:
            return False
        return self._placed - lane.blocked_since >= PATIENCE_WAVES * self._cluster.cpus

    def _end_claim(self, node: Node) -> None:
        lane = self._claims.pop(node).lane
        lane.is_claiming = node.is_reserved = False
        lane.blocked_since = None
        node.shelve()
        self._grown.add(node)

    def _unclaim(self, node: Node) -> None:
        """Put a claimant back in line: its node is gone or became too small for it."""
        task = self._claims[node]
        self._end_claim(node)
        task.lane.blocked_since = self._placed - PATIENCE_WAVES * self._cluster.cpus
        self._return(task)

    def _return(self, task: Queued) -> None:
        task.lane.add(task)
        self._list(task.lane.job)

    # ------------------------------------------------------------ the order of jobs

    def _list(self, job: Job) -> None:
        """Put a job where its share belongs, or off the list when none of its tasks waits."""
        least_bytes, is_refused = math.inf, True
        for lane in job.waiting():
            refusal = lane.refused(self._rates(lane.kind))
            is_refused = is_refused and refusal is not None
            lane_bytes = refusal.wanted.mean_bytes if refusal else self._chooser.least_bytes(lane)
            least_bytes = min(least_bytes, lane_bytes)
        if least_bytes == math.inf:
            self._order.drop(job)
        elif is_refused:
            self._order.put_refused(job, least_bytes, turn=self._placed)
        else:
            self._order.put(job, least_bytes, turn=self._placed)

    def _list_all(self) -> None:
        """List all jobs again: their shares are of another whole, and so are their chances."""
        self._failed.clear()
        for job in self._jobs.values():
            job.forget_refusals()
            self._list(job)

    def _share(self, job: Job) -> float:
        return job.share(self._cluster.cpus, self._cluster.memory_bytes)

    def _forget(self, lane: Lane) -> None:
        """Drop a lane whose last task ended, and a job without lanes."""
        lane.alive -= 1
        if not lane.alive:
            del lane.job.lanes[lane.key]
            if not lane.job.lanes:
                del self._jobs[lane.job.name]
