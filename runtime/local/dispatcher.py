"""The thread that owns all state of the local backend: queue, workers, grants.

Other threads post events; answers and deaths of workers arrive on their sockets. Each round takes
in what happened, then starts what fits. Nothing here is locked and no event can interrupt another
one, ^C included, since signals are handled in the main thread.
"""

import contextlib
import os
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from runtime.api import Profile, Resources, Stats
from runtime.attempt import outcome_of
from runtime.errors import Cancelled, Lost, OutOfMemory, RuntimeFailure, TaskError
from runtime.ledger import Ledger
from runtime.local.process import WorkerProcess
from runtime.local.protocol import Done
from runtime.local.refs import LocalRef, settle
from runtime.local.session import Session
from runtime.local.store import Packed
from runtime.local.task import ActorState, LocalTask, Seat
from runtime.memory import anonymous_bytes, available_bytes
from runtime.scheduler import (
    WINDOW_TASKS_MAX,
    Running,
    Waiting,
    admit,
    escalated,
    overrun,
)
from runtime.serialization import decode

SAMPLE_SECONDS = 0.06

RETAINED_BYTES_MAX = 256 << 20
"""A worker that keeps more private memory between tasks is replaced."""


class Dispatcher:
    """Runs tasks on worker processes within `total`.

    Attributes:
        actor_bytes: Memory that actors hold or wait for: tasks will not get it.
    """

    def __init__(self, total: Resources, session: Session, ledger: Ledger) -> None:
        self._total = total
        self._session = session
        self._ledger = ledger
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_fd, selectors.EVENT_READ)
        self._queue: deque[LocalTask] = deque()
        self._unended: dict[int, LocalTask] = {}
        self._seats: dict[int, Seat] = {}
        self._idle: list[Seat] = []
        self._actors: list[ActorState] = []
        self._used_cpus = self._granted_bytes = self.actor_bytes = 0
        self._finished = self._failed = self._peak_bytes = 0
        self._cpu_seconds = 0.0
        self._sampled_seconds = 0.0
        self._is_stopped = self._is_ended = self._is_asleep = False
        self._thread = threading.Thread(target=self._run, name="runtime", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ from other threads

    def post(self, event: Callable[[], None]) -> None:
        """Have the dispatcher call something in its own thread, soon and in order."""
        self._inbox.append(event)
        if self._is_asleep:
            os.eventfd_write(self._wake_fd, 1)
        if self._is_ended:
            self._take_events()

    def stop(self) -> None:
        """End everything and wait for it. Idempotent."""
        self.post(self._stop)
        self._thread.join()

    def stats(self) -> Stats:
        """Return the state of this moment; numbers may be of neighbouring moments."""
        running = sum(seat.task is not None for seat in list(self._seats.values()))
        return Stats(
            total=self._total,
            granted=Resources(self._used_cpus, self._granted_bytes),
            workers=len(self._seats),
            queued=max(0, len(self._unended) - running),
            running=running,
            finished=self._finished,
            failed=self._failed,
            object_bytes=self._session.size_bytes(),
            peak_memory_bytes=self._peak_bytes,
            cpu_seconds=self._cpu_seconds,
        )

    # ------------------------------------------------------------ events, in the own thread

    def submit(self, task: LocalTask) -> None:
        """Take in a task: it runs when its inputs are there."""
        self._unended[task.ref.id] = task
        if task.is_actor_start and task.actor is not None:
            self._actors.append(task.actor)
            self.actor_bytes += task.granted_bytes
        if self._is_stopped:
            self._fail(task, Cancelled("the runtime was shut down"))
            return
        for ref in task.inputs:
            if not isinstance(ref, LocalRef):
                continue
            if ref.failure is not None:
                self._fail(task, ref.failure)
                return
            if not ref.has_ended:
                ref.dependents.append(task)
                task.missing += 1
        if task.actor is not None and not task.is_actor_start:
            self._call(task.actor, task)
        elif not task.missing:
            self._queue.append(task)

    def cancel(self, task: LocalTask) -> None:
        """Fail a task that waits; kill one that runs, which then fails."""
        if task.ref.has_ended:
            return
        seat = self._seat_of(task)
        if seat is None:
            self._fail(task, Cancelled(f"{task.function.name} was cancelled before it started"))
        else:
            task.is_cancelled = True
            seat.process.kill()

    def end_actor(self, actor: ActorState, reason: RuntimeFailure) -> None:
        """End an actor: what it runs is killed, what waits fails for the reason."""
        if actor.ended_by is not None:
            return
        actor.ended_by = reason
        self._actors.remove(actor)
        start, seat = actor.start, actor.seat
        if start is not None:
            self.actor_bytes -= start.granted_bytes
            if seat is not None:
                self._granted_bytes -= start.granted_bytes
            elif not start.ref.has_ended:
                self._fail(start, reason)
        if seat is not None:
            if seat.task is not None:
                seat.task.is_cancelled = True
            seat.process.kill()
        while actor.calls:
            self._fail(actor.calls.popleft(), reason)

    def _call(self, actor: ActorState, task: LocalTask) -> None:
        if actor.ended_by is not None:
            self._fail(task, actor.ended_by)
        else:
            actor.calls.append(task)

    def _stop(self) -> None:
        self._is_stopped = True

    # ------------------------------------------------------------ the loop

    def _run(self) -> None:
        # Workers inherit the mask; they unblock it once they ignore the signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            while not self._is_stopped:
                self._listen()
                self._take_events()
                self._start_calls()
                self._start_tasks()
                self._sample()
        finally:
            self._end_all()

    def _listen(self) -> None:
        self._is_asleep = True
        timeout = 0 if self._inbox else SAMPLE_SECONDS if self._is_busy() else None
        events = self._selector.select(timeout)
        self._is_asleep = False
        for key, _ in events:
            if key.fd == self._wake_fd:
                os.eventfd_read(self._wake_fd)
                continue
            seat = self._seats[key.fd]
            message = seat.process.answer()
            if isinstance(message, Done):
                self._answered(seat, message)
            else:
                self._died(key.fd, seat)

    def _take_events(self) -> None:
        while self._inbox:
            try:
                event = self._inbox.popleft()
            except IndexError:
                return  # after the end, posting threads take their own
            event()

    def _is_busy(self) -> bool:
        return any(seat.task is not None for seat in self._seats.values())

    def _end_all(self) -> None:
        self._is_stopped = True
        for seat in self._seats.values():
            seat.process.kill()
        for seat in self._seats.values():
            seat.process.close()
        self._seats.clear()
        self._selector.close()
        for task in list(self._unended.values()):
            self._fail(task, Cancelled("the runtime was shut down before the task ended"))
        self._is_ended = True
        self._take_events()
        self._ledger.flush()

    # ------------------------------------------------------------ starting

    def _start_tasks(self) -> None:
        while self._queue and self._used_cpus < self._total.cpus:
            taken = list(islice(self._queue, WINDOW_TASKS_MAX))
            window = [task for task in taken if not task.ref.has_ended]
            places = admit(self._waiting(window), self._free())
            if window and not places:
                return
            for _ in taken:
                self._queue.popleft()
            admitted = [window[place] for place in places]
            rest = [task for task in window if task not in admitted]
            for task in rest[: places[-1] + 1 - len(places)] if places else ():
                task.passed_over += 1
            self._queue.extendleft(reversed(rest))
            for task in admitted:
                self._start_in_any(task)

    def _start_calls(self) -> None:
        for actor in self._actors:
            while actor.calls and actor.calls[0].ref.has_ended:
                actor.calls.popleft()
            seat = actor.seat
            is_free = seat is not None and seat.task is None
            if seat is not None and is_free and actor.calls and not actor.calls[0].missing:
                self._start(actor.calls.popleft(), seat)

    def _waiting(self, tasks: Iterable[LocalTask]) -> Iterator[Waiting]:
        for task in tasks:
            self._decide_grant(task)
            yield Waiting(task.request, task.passed_over)

    def _decide_grant(self, task: LocalTask) -> None:
        """Predict at the last moment: the first tasks of a job teach the rest."""
        if task.is_actor_start:
            return
        cap = self._cap_bytes()
        if not task.is_escalated:
            prediction = self._ledger.predict(task.key, task.base_bytes)
            task.predicted_bytes = prediction.predicted_bytes
            task.granted_bytes = prediction.granted_bytes
        task.granted_bytes = min(task.granted_bytes, cap)

    def _cap_bytes(self) -> int:
        return self._total.memory_bytes - self.actor_bytes

    def _free(self) -> Resources:
        return Resources(
            self._total.cpus - self._used_cpus, self._total.memory_bytes - self._granted_bytes
        )

    def _start_in_any(self, task: LocalTask) -> None:
        if self._idle:
            self._start(task, self._idle.pop())
            return
        try:
            seat = Seat(WorkerProcess(self._session.directory))
        except OSError as error:
            self._fail(task, Lost(f"no worker could be started: {error}"))
            return
        self._seats[seat.process.fd] = seat
        self._selector.register(seat.process.fd, selectors.EVENT_READ)
        self._start(task, seat)

    def _start(self, task: LocalTask, seat: Seat) -> None:
        """Send an attempt; a worker that is found dead is seen on its socket like any other."""
        seat.task, seat.actor = task, task.actor
        if task.actor is not None:
            task.actor.seat = seat
        self._used_cpus += task.request.cpus
        self._granted_bytes += task.request.memory_bytes
        task.begin(self._session.path(f"r{task.ref.id}-{task.attempt}"))
        with contextlib.suppress(OSError):
            seat.process.run(task.message(), task.function.packed)

    # ------------------------------------------------------------ ending

    def _answered(self, seat: Seat, done: Done) -> None:
        task = self._leave(seat)
        if task is None:
            return
        failure = None if done.failure is None else _decoded(done.failure)
        output_bytes = done.result.size_bytes if done.result is not None else 0
        profile = task.profile(outcome_of(failure), done.usage, output_bytes)
        self._record(profile)
        if task.actor is None and not (task.is_cancelled or task.is_overrun):
            self._reuse(seat, done.retained_bytes)
        if done.result is not None:
            self._succeed(task, done.result, profile)
        elif failure is not None and not self._retry(task, failure):
            self._fail(task, failure, profile)

    def _died(self, fd: int, seat: Seat) -> None:
        self._selector.unregister(fd)
        del self._seats[fd]
        if seat in self._idle:
            self._idle.remove(seat)
        pid, how = seat.process.pid, seat.process.close()
        task, actor = self._leave(seat), seat.actor
        if task is not None:
            Path(task.stored_at).unlink(missing_ok=True)
            failure = _why(task, f"process {pid} ended with {how}")
            profile = task.profile(outcome_of(failure), None, 0)
            self._record(profile)
            if not self._retry(task, failure):
                self._fail(task, failure, profile)
        if actor is not None:
            self.end_actor(actor, Lost(f"the actor's worker, process {pid}, ended with {how}"))

    def _leave(self, seat: Seat) -> LocalTask | None:
        """Take the task from a seat and what it held from the books."""
        task, seat.task = seat.task, None
        if task is not None:
            self._used_cpus -= task.request.cpus
            if not task.is_actor_start:
                self._granted_bytes -= task.request.memory_bytes
        return task

    def _reuse(self, seat: Seat, retained_bytes: int) -> None:
        if retained_bytes <= RETAINED_BYTES_MAX:
            self._idle.append(seat)
        else:
            seat.process.kill()  # its end is seen on its socket

    def _record(self, profile: Profile) -> None:
        self._peak_bytes = max(self._peak_bytes, profile.anonymous_peak_bytes)
        self._cpu_seconds += profile.cpu_seconds
        self._ledger.record(profile)

    def _retry(self, task: LocalTask, failure: RuntimeFailure) -> bool:
        """Queue another attempt, first in line, if one is left and can help."""
        is_last = task.attempt >= task.retry.attempts
        if is_last or task.is_cancelled or task.actor is not None:
            return False
        if isinstance(failure, OutOfMemory):
            granted_bytes = escalated(
                granted_bytes=task.granted_bytes,
                used_bytes=failure.used_bytes,
                cap_bytes=self._cap_bytes(),
            )
            if granted_bytes is None:
                return False
            task.granted_bytes, task.is_escalated = granted_bytes, True
        elif not isinstance(failure, Lost):
            return False
        task.attempt += 1
        self._queue.appendleft(task)
        return True

    def _succeed(self, task: LocalTask, result: Packed, profile: Profile) -> None:
        self._finished += 1
        self._forget(task)
        task.ref.hold(result)
        dependents, task.ref.dependents = task.ref.dependents, []
        settle(task.ref, profile)
        for dependent in dependents:
            dependent.missing -= 1
            is_call = dependent.actor is not None and not dependent.is_actor_start
            if not dependent.missing and not is_call:
                self._queue.append(dependent)

    def _fail(
        self, task: LocalTask, failure: RuntimeFailure, profile: Profile | None = None
    ) -> None:
        """End a task with a failure, and all that need it with the same."""
        failing = [task]
        while failing:
            task = failing.pop()
            if task.ref.has_ended:
                continue
            self._failed += 1
            self._forget(task)
            task.ref.failure = failure
            failing += task.ref.dependents
            task.ref.dependents = []
            settle(task.ref, profile)
            profile = None
            if task.is_actor_start and task.actor is not None:
                self.end_actor(task.actor, failure)

    def _forget(self, task: LocalTask) -> None:
        self._unended.pop(task.ref.id, None)
        task.ref.task = None
        task.inputs = ()

    # ------------------------------------------------------------ watching

    def _sample(self) -> None:
        now = time.monotonic()
        if now - self._sampled_seconds < SAMPLE_SECONDS or not self._is_busy():
            return
        self._sampled_seconds = now
        seen = {seat.process.pid: seat for seat in self._seats.values()}
        running = [_seen(seat) for seat in seen.values()]
        worst = overrun(
            running, budget_bytes=self._total.memory_bytes, available_bytes=available_bytes()
        )
        if worst is not None and (task := seen[worst].task) is not None:
            task.is_overrun = True
            seen[worst].process.kill()

    def _seat_of(self, task: LocalTask) -> Seat | None:
        return next((seat for seat in self._seats.values() if seat.task is task), None)


def _seen(seat: Seat) -> Running:
    """Sample a worker; between tasks whatever it holds is within its rights."""
    used_bytes = anonymous_bytes(seat.process.pid)
    if seat.task is None:
        return Running(seat.process.pid, used_bytes, used_bytes)
    seat.task.seen_bytes = max(seat.task.seen_bytes, used_bytes)
    return Running(seat.process.pid, seat.task.granted_bytes, used_bytes)


def _why(task: LocalTask, how: str) -> RuntimeFailure:
    name = task.function.name
    if task.is_cancelled:
        return Cancelled(f"{name} was cancelled while it ran")
    if task.is_overrun or task.seen_bytes > task.granted_bytes:
        return OutOfMemory(
            f"{name} was stopped at {task.seen_bytes} bytes, it was granted"
            f" {task.granted_bytes} bytes ({how})",
            granted_bytes=task.granted_bytes,
            used_bytes=task.seen_bytes,
        )
    return Lost(f"{name} lost its worker in attempt {task.attempt}: {how}")


def _decoded(parts: tuple[bytes, ...]) -> RuntimeFailure:
    try:
        failure = decode(parts)
    except Exception as error:  # noqa: BLE001 - classes of the task's exception run code of theirs
        return TaskError(f"the task failed, and its error cannot be rebuilt here: {error}")
    return failure if isinstance(failure, RuntimeFailure) else TaskError(str(failure))
