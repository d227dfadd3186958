"""The thread that owns all state of the Ray backend: what waits, what Ray has, what ended.

Other threads post events, Ray's own ones among them. A task is handed to Ray when all its inputs
have ended and only so many are in Ray's hands: its grant is predicted as late as possible, and a
task that is granted more after it ran out of memory is simply handed over again. Where a task
runs is Ray's choice; what it is granted, and whether it is tried again, is ours.
"""

import contextlib
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Set
from dataclasses import replace
from typing import Any

import ray
from ray import exceptions

from runtime.api import Profile, Resources, Stats
from runtime.attempt import outcome_of
from runtime.errors import Cancelled, Infeasible, Lost, OutOfMemory, RuntimeFailure
from runtime.ledger import Ledger
from runtime.ray import cluster
from runtime.ray.account import Account
from runtime.ray.capacity import Capacity
from runtime.ray.failures import translate
from runtime.ray.launcher import START, Launcher
from runtime.ray.objects import failure_of
from runtime.ray.splitting import become_join, parts_of, splitting
from runtime.ray.task import ActorState, RayTask, Result
from runtime.ray.worker import Report
from runtime.scheduler import escalated

_log = logging.getLogger(__name__)

TASKS_PER_CPU_MAX = 4
"""Handed to Ray at once, so that a worker has its next task when one ends."""

TASKS_SPARE = 12

NODES_SECONDS = 2.0
"""How old what is known of the nodes may be."""

EVENTS_PER_ROUND_MAX = 256
END_TIMEOUT_SECONDS = 10.0


class Dispatcher:
    """Runs tasks on a cluster.

    Attributes:
        account: What came of them.
    """

    def __init__(self, limit: Resources, ledger: Ledger, paths: tuple[str, ...]) -> None:
        self._capacity = Capacity(limit)
        self._ledger = ledger
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._queue: deque[RayTask] = deque()
        self._unended: dict[RayTask, None] = {}
        self._in_flight: dict[RayTask, None] = {}
        self._actors: list[ActorState] = []
        self._nodes_seconds = -math.inf
        self._launcher = Launcher(self._capacity, paths)
        self._used_cpus = self._granted_bytes = 0
        self.account = Account(ledger)
        self._is_stopped = False
        self._look_at_nodes()
        self._watched: Set[str] = self._capacity.nodes.keys()
        self._thread = threading.Thread(target=self._run, name="runtime", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ from other threads

    def post(self, event: Callable[[], None]) -> None:
        """Have the dispatcher call something in its own thread, soon and in order."""
        self._events.put(event)
        if not self._thread.is_alive():
            self._take_events(None)

    def stop(self) -> None:
        """End everything that was started from here, and wait for it. Idempotent."""
        self.post(self._stop)
        self._thread.join()
        self._take_events(None)

    def require_feasible(self, request: Resources, *, for_actor: bool = False) -> None:
        """Refuse what no node can ever run.

        Raises:
            Infeasible: The largest node is too small, or living actors hold too much.
        """
        try:
            self._capacity.require_feasible(request, for_actor=for_actor)
        except Infeasible:
            self._look_at_nodes()  # one may have come
            self._capacity.require_feasible(request, for_actor=for_actor)

    def stats(self) -> Stats:
        """Return the state of this moment; numbers may be of neighbouring moments."""
        total = self._capacity.total()
        is_open = self._thread.is_alive()
        running = min(len(self._in_flight), total.cpus)
        return Stats(
            total=total,
            granted=Resources(self._used_cpus, self._granted_bytes),
            workers=total.cpus if is_open else 0,
            queued=max(0, len(self._unended) - running),
            running=running,
            finished=self.account.finished,
            failed=self.account.failed,
            object_bytes=self.account.object_bytes(),
            peak_memory_bytes=self.account.peak_bytes,
            cpu_seconds=self.account.cpu_seconds,
            nodes=len(self._capacity.nodes),
        )

    # ------------------------------------------------------------ events, in the own thread

    def submit(self, task: RayTask) -> None:
        """Take in a task: it is handed over when its inputs are there."""
        self._unended[task] = None
        if task.method == START and task.actor is not None:
            self._actors.append(task.actor)
            self._capacity.actor_bytes += task.actor.granted_bytes
        if self._is_stopped:
            self._fail(task, Cancelled("the runtime was shut down"))
            return
        self._await(task)

    def _await(self, task: RayTask) -> None:
        for source in task.inputs():
            if source.failure is not None:
                self._fail(task, source.failure)
                return
            if not source.has_ended:
                source.dependents.append(task)
                task.missing += 1
        if task.actor is not None:
            self._call(task.actor, task)
        elif not task.missing:
            self._make_ready(task)

    def cancel(self, task: RayTask) -> None:
        """Fail a task that waits; have Ray kill one that it has, which then fails."""
        if task.has_ended:
            return
        if task not in self._in_flight:
            self._fail(task, Cancelled(f"{task.function.name} was cancelled before it started"))
            for part in task.parts:
                self.cancel(part)
            return
        task.is_cancelled = True
        if task.actor is not None:
            ray.kill(task.actor.handle)
        else:
            ray.cancel(task.report, force=True)

    def end_actor(self, actor: ActorState, reason: RuntimeFailure) -> None:
        """End an actor: what it runs is killed, what waits fails for the reason."""
        if actor.ended_by is not None:
            return
        actor.ended_by = reason
        self._actors.remove(actor)
        self._capacity.actor_bytes -= actor.granted_bytes
        if actor.running is not None:
            actor.running.is_cancelled = True
        if actor.handle is not None:
            ray.kill(actor.handle)
        while actor.calls:
            self._fail(actor.calls.popleft(), reason)

    def _make_ready(self, task: RayTask) -> None:
        task.make_ready()
        self._queue.append(task)

    def _call(self, actor: ActorState, task: RayTask) -> None:
        if actor.ended_by is not None:
            self._fail(task, actor.ended_by)
        else:
            actor.calls.append(task)

    def _stop(self) -> None:
        self._is_stopped = True

    # ------------------------------------------------------------ the loop

    def _run(self) -> None:
        try:
            while not self._is_stopped:
                self._take_events(NODES_SECONDS if self._in_flight or self._queue else math.inf)
                self._start_calls()
                self._start_tasks()
                self._watch_nodes()
        finally:
            self._end_all()

    def _take_events(self, timeout_seconds: float | None) -> None:
        """Handle what happened; None: what happened by now, else wait for the first event."""
        try:
            if timeout_seconds is not None:
                wait = None if math.isinf(timeout_seconds) else timeout_seconds
                self._events.get(timeout=wait)()
            for _ in range(EVENTS_PER_ROUND_MAX):
                self._events.get_nowait()()
        except queue.Empty:
            return

    def _end_all(self) -> None:
        self._is_stopped = True
        for task in self._in_flight:
            with contextlib.suppress(exceptions.RayError, ValueError):
                if task.actor is None:
                    ray.cancel(task.report, force=True)
        for actor in list(self._actors):
            self.end_actor(actor, Cancelled("the runtime was shut down"))
        running = [task.report for task in self._in_flight]
        if running:
            ray.wait(running, num_returns=len(running), timeout=END_TIMEOUT_SECONDS)
        for task in list(self._unended):
            self._fail(task, Cancelled("the runtime was shut down before the task ended"))
        self._in_flight.clear()
        self._used_cpus = self._granted_bytes = 0
        self._ledger.flush()

    # ------------------------------------------------------------ handing over

    def _start_tasks(self) -> None:
        while self._queue:
            task = self._queue[0]
            if not task.has_ended:
                if len(self._in_flight) >= self._in_flight_max():
                    return
                if not self._decide_grant(task):
                    self._fail(task, self._infeasible(task))
                elif not self._has_room(task):
                    return
                else:
                    self._start(task)
            self._queue.popleft()

    def _start_calls(self) -> None:
        for actor in list(self._actors):
            while actor.calls and actor.calls[0].has_ended:
                actor.calls.popleft()
            if actor.running is None and actor.calls and not actor.calls[0].missing:
                task = actor.running = actor.calls.popleft()
                task.make_ready()
                task.base_bytes = task.predicted_bytes = task.granted_bytes = actor.granted_bytes
                self._start(task)

    def _start(self, task: RayTask) -> None:
        self._in_flight[task] = None
        self._used_cpus += task.request.cpus
        self._granted_bytes += task.granted_bytes if task.actor is None else 0
        try:
            task.values, report = self._launcher.launch(task)
        except (exceptions.RayError, ValueError, TypeError) as error:
            self._leave(task)
            self._fail(task, self._why(task, error))
            return
        task.report = report
        report.future().add_done_callback(
            lambda future: self.post(lambda: self._ended(task, report, future))
        )

    # ------------------------------------------------------------ grants

    def _decide_grant(self, task: RayTask) -> bool:
        """Predict at the last moment: the first tasks of a job teach the rest."""
        cap = self._capacity.cap_bytes(task.request)
        if not task.is_escalated:
            prediction = self._ledger.predict(task.key, task.base_bytes)
            task.predicted_bytes = prediction.predicted_bytes
            task.granted_bytes = prediction.granted_bytes
        task.granted_bytes = min(task.granted_bytes, cap)
        return cap > 0

    def _has_room(self, task: RayTask) -> bool:
        """Whether the limits that were set at connect, not the cluster's, allow another one."""
        limit = self._capacity.limit
        held_bytes = self._granted_bytes + self._capacity.actor_bytes
        return (not limit.cpus or self._used_cpus + task.request.cpus <= limit.cpus) and (
            not limit.memory_bytes or held_bytes + task.granted_bytes <= limit.memory_bytes
        )

    def _in_flight_max(self) -> int:
        return TASKS_PER_CPU_MAX * self._capacity.total().cpus + TASKS_SPARE

    # ------------------------------------------------------------ nodes

    def _look_at_nodes(self) -> None:
        self._capacity.nodes = cluster.nodes()
        self._nodes_seconds = time.monotonic()

    def _watch_nodes(self) -> None:
        """Take back what no living node can run any more: with Ray it would wait for ever."""
        if time.monotonic() - self._nodes_seconds < NODES_SECONDS:
            return
        try:
            self._look_at_nodes()
        except (exceptions.RayError, RuntimeError) as error:  # the head may be back soon
            _log.warning("the nodes of the cluster cannot be listed: %s", error)
            self._nodes_seconds = time.monotonic()
            return
        before, self._watched = self._watched, self._capacity.nodes.keys()
        if before <= self._watched:
            return
        for task in [task for task in self._in_flight if task.actor is None]:
            asked = replace(task.request, memory_bytes=task.granted_bytes)
            if not self._capacity.is_feasible(asked):
                ray.cancel(task.report, force=True)
                self._leave(task)
                self._queue.appendleft(task)

    def _infeasible(self, task: RayTask) -> RuntimeFailure:
        try:
            self._capacity.require_feasible(task.request)
        except Infeasible as failure:
            return failure
        return Lost(f"{task.function.name} had no node for a moment")

    # ------------------------------------------------------------ ending

    def _ended(self, task: RayTask, report: Any, future: Any) -> None:
        if task not in self._in_flight or task.report is not report:
            return  # taken back before
        self._leave(task)
        error = future.exception()
        if error is not None:
            failure = self._why(task, error)
            profile = self.account.record(task.profile(outcome_of(failure)))
        else:
            told: Report = future.result()
            self._count_lost(task, told.lost_attempts)
            found = None if told.failure is None else failure_of(told.failure)
            profile = self.account.record(task.profile(outcome_of(found), told))
            if found is None:
                self._succeed(task, told, profile)
                return
            failure = found
        if not self._retry(task, failure):
            self._fail(task, failure, profile)
        if task.actor is not None and (error is not None or task.method == START):
            self.end_actor(task.actor, failure)

    def _leave(self, task: RayTask) -> None:
        """Take a task from the books of what Ray has."""
        del self._in_flight[task]
        task.report = None
        self._used_cpus -= task.request.cpus
        self._granted_bytes -= task.granted_bytes if task.actor is None else 0
        if task.actor is not None:
            task.actor.running = None

    def _why(self, task: RayTask, error: BaseException) -> RuntimeFailure:
        if task.is_cancelled:
            return Cancelled(f"{task.function.name} was cancelled while it ran")
        return translate(error, name=task.function.name, granted_bytes=task.granted_bytes)

    def _count_lost(self, task: RayTask, lost_attempts: int) -> None:
        """Account for what Ray tried by itself, to which nobody can tell what it took."""
        for _ in range(lost_attempts):
            self.account.record(task.profile("lost"))
            task.attempt += 1

    def _retry(self, task: RayTask, failure: RuntimeFailure) -> bool:
        """Queue another attempt, first in line; of workers that died Ray has retried the task."""
        if task.is_cancelled or task.actor is not None or not isinstance(failure, OutOfMemory):
            return False
        granted_bytes = escalated(
            granted_bytes=task.granted_bytes,
            used_bytes=failure.used_bytes,
            cap_bytes=self._capacity.cap_bytes(task.request),
        )
        if granted_bytes is None:
            return self._split(task, failure)
        if task.attempt >= task.retry.attempts:
            return False
        task.granted_bytes, task.is_escalated = granted_bytes, True
        task.attempt += 1
        self._queue.appendleft(task)
        return True

    def _split(self, task: RayTask, failure: RuntimeFailure) -> bool:
        """Let the hook of a task make smaller ones of it, if it has one."""
        if task.hook is None:
            return False
        splitter = splitting(task, task.hook)
        task.parts = [splitter]
        (pieces,) = splitter.results
        pieces.ended.add_done_callback(
            lambda _: self.post(lambda: self._spread(task, pieces, failure))
        )
        self.submit(splitter)
        return True

    def _spread(self, task: RayTask, pieces: Result, failure: RuntimeFailure) -> None:
        if task.has_ended or task.hook is None:
            return
        if pieces.failure is not None or len(pieces.segment_bytes) < 2:
            self._fail(task, pieces.failure or failure)
            return
        task.parts = parts_of(task, pieces)
        become_join(task, task.hook)
        for part in task.parts:
            self.submit(part)
        self._await(task)

    def _succeed(self, task: RayTask, told: Report, profile: Profile) -> None:
        self.account.finished += 1
        for result, value, size in zip(task.results, task.values, told.sizes, strict=True):
            result.hold(value, size, self.account.stored_bytes)
        for dependent in self._settle(task, profile):
            dependent.missing -= 1
            if not dependent.missing and dependent.actor is None:
                self._make_ready(dependent)

    def _fail(self, task: RayTask, failure: RuntimeFailure, profile: Profile | None = None) -> None:
        """End a task with a failure, and all that need it with the same."""
        failing = [task]
        while failing:
            task = failing.pop()
            if task.has_ended:
                continue
            self.account.failed += 1
            for result in task.results:
                result.failure = failure
            failing += self._settle(task, profile)
            profile = None

    def _settle(self, task: RayTask, profile: Profile | None) -> list[RayTask]:
        """Let results be final, and whoever waits for them go on; returns the tasks among them."""
        self._unended.pop(task, None)
        task.arguments = task.parts = task.values = ()
        dependents = []
        for result in task.results:
            result.task, result.profile = None, profile
            dependents += result.dependents
            result.dependents = []
            result.ended.set_result(None)
        return dependents
