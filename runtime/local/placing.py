"""What is ready to run: the backlog, the scheduler, and what waits for objects to make room.

Grants and objects share the budget. A task that was placed is held back while objects are on
their way to disk for its sake.
"""

from collections import deque

from runtime.api import Resources
from runtime.errors import TaskError
from runtime.ledger import Ledger
from runtime.local.backlog import Backlog
from runtime.local.objects import ObjectStore
from runtime.local.task import ActorState, LocalTask
from runtime.scheduler import Placement, Request, Scheduler

NODE = "local"


class Placing:
    """Decides what starts next on this machine.

    Attributes:
        actor_bytes: Memory that actors hold or wait for: tasks will not get it.
    """

    def __init__(self, total: Resources, *, ledger: Ledger, objects: ObjectStore) -> None:
        self.actor_bytes = 0
        self._total = total
        self._ledger = ledger
        self._objects = objects
        self._scheduler = Scheduler(ledger.rates)
        self._scheduler.add_node(NODE, total)
        self._backlog = Backlog(self._schedule)
        self._waiting: dict[int, LocalTask] = {}
        self._actors: dict[int, ActorState] = {}
        self._placed: deque[LocalTask] = deque()

    @property
    def cap_bytes(self) -> int:
        """The most that one task can be granted."""
        return self._total.memory_bytes - self.actor_bytes

    @property
    def granted(self) -> Resources:
        """What running tasks and living actors hold, as pooled."""
        return self._scheduler.granted

    def add(self, task: LocalTask) -> None:
        """Take in a task that could run now.

        Raises:
            Infeasible: It can never run.
        """
        self._backlog.add(task)

    def withdraw(self, task: LocalTask) -> None:
        """Forget a task that waits, if it does."""
        if self._waiting.pop(task.id, None) is not None:
            self._scheduler.withdraw(task.id)

    def release(self, task_id: int) -> None:
        """Take note that what was placed under this number has ended."""
        self._scheduler.release(task_id)

    def learn(self, task: LocalTask, seconds: float) -> None:
        """Learn how long a task took."""
        self._backlog.ended(task, seconds)

    def hold(self, actor: ActorState) -> None:
        """Ask for the memory of an actor; what tasks can be granted becomes less."""
        self._actors[actor.id] = actor
        self.actor_bytes += actor.granted_bytes
        self._scheduler.submit(Request(id=actor.id, base_bytes=actor.granted_bytes, cpus=0))
        for task in list(self._waiting.values()):
            if self._scheduler.withdraw(task.id):
                self._schedule(task)

    def let_go(self, actor: ActorState) -> None:
        """Give back what an actor holds or waits for. Idempotent."""
        if self._actors.pop(actor.id, None) is None:
            return
        self.actor_bytes -= actor.granted_bytes
        if actor.is_placed:
            self._scheduler.release(actor.id)
        else:
            self._scheduler.withdraw(actor.id)

    def place(self) -> list[ActorState] | None:
        """Place what fits; returns the actors that got their memory, None if nothing fits."""
        placements = self._scheduler.place()
        actors = []
        for placement in placements:
            actor = self._actors.get(placement.id)
            if actor is None:
                self._placed.append(self._granted(placement))
            else:
                actor.is_placed = True
                actors.append(actor)
        return actors if placements else None

    def pop(self, *, is_busy: bool) -> tuple[LocalTask, TaskError | None] | None:
        """Return the next placed task that has room beside the objects, or why it never will.

        Args:
            is_busy: Whether tasks run now, which may let go of objects.
        """
        if not self._placed:
            self._relieve(self._over_bytes())
            return None
        over_bytes = self._over_bytes()
        failure = self._objects.failure
        if over_bytes <= 0 or self._placed[0].has_ended:
            return self._placed.popleft(), None
        if failure is None:
            # Nothing left to spill is as good as it gets: mapped files are read in place.
            return None if self._relieve(over_bytes) else (self._placed.popleft(), None)
        if is_busy:
            return None
        self._objects.failure = None
        error = TaskError(f"the object store is full: {failure}", cause=failure)
        return self._placed.popleft(), error

    def batch(self, task: LocalTask) -> list[LocalTask]:
        """Return what starts with a task that was popped: itself and tiny ones of its kind."""
        batch = self._backlog.placed(task)
        for other in batch:
            other.predicted_bytes, other.granted_bytes = task.predicted_bytes, task.granted_bytes
        return batch

    def _schedule(self, task: LocalTask) -> None:
        self._waiting[task.id] = task
        if task.actor is not None:
            request = Request(id=task.id, base_bytes=0, cpus=task.cpus)
        else:
            request = task.request(self.cap_bytes, self._ledger.rates(task.key))
        self._scheduler.submit(request)

    def _granted(self, placement: Placement) -> LocalTask:
        task = self._waiting.pop(placement.id)
        if task.actor is None:
            if not task.is_escalated:
                task.predicted_bytes = placement.predicted_bytes
            task.granted_bytes = placement.granted_bytes
        return task

    def _over_bytes(self) -> int:
        """Return how far grants and objects together are beyond the budget."""
        used_bytes = self._scheduler.granted.memory_bytes + self._objects.resident_bytes
        return used_bytes - self._total.memory_bytes

    def _relieve(self, over_bytes: int) -> bool:
        return self._objects.failure is None and self._objects.relieve(over_bytes)
