"""The thread that owns all state of the local backend: queue, workers, grants.

Other threads post events; answers and deaths of workers arrive on their sockets. Each round takes
in what happened, then starts what fits. Nothing here is locked and no event can interrupt another
one, ^C included, since signals are handled in the main thread.

A task waits for its inputs (`missing`), then in the backlog, then in the scheduler, which places
it (both in `placing`). Then it sits with a worker. A call of an
actor waits for its inputs in the actor's own line.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from runtime.api import Profile, Resources, Stats
from runtime.attempt import rebuild_failure
from runtime.errors import Cancelled, Infeasible, Lost, OutOfMemory, RuntimeFailure, in_mib
from runtime.ledger import Ledger
from runtime.local.account import Account
from runtime.local.crew import Crew
from runtime.local.mailbox import Mailbox
from runtime.local.objects import ObjectStore
from runtime.local.placing import Placing
from runtime.local.protocol import Done
from runtime.local.refs import LocalRef, settle
from runtime.local.session import Session
from runtime.local.splitting import become_join, parts_of, splitting
from runtime.local.store import Stored, remove
from runtime.local.task import ActorState, LocalTask, Seat
from runtime.memory import available_bytes
from runtime.scheduler import escalated, overrun
from runtime.serialization import decode

SAMPLE_SECONDS = 0.06


class Dispatcher:
    """Runs tasks on worker processes within `total`.

    Attributes:
        objects: The account of stored objects.
        placing: What is ready to run, and what actors hold.
    """

    def __init__(
        self, total: Resources, session: Session, *, ledger: Ledger, ids: Iterator[int]
    ) -> None:
        self.objects = ObjectStore(session, lambda: self.post(_nothing))
        self._total = total
        self._ids = ids
        self._mailbox = Mailbox()
        self.placing = Placing(total, ledger=ledger, objects=self.objects)
        self._account = Account(ledger)
        self._sampled_seconds = 0.0
        self._is_stopped = self._is_ended = False
        # From here on the session has somebody who removes it, however this process ends.
        self._crew = Crew(session, self._mailbox.fd)
        self._thread = threading.Thread(target=self._run, name="runtime", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ from other threads

    def post(self, event: Callable[[], None]) -> None:
        """Have the dispatcher call something in its own thread, soon and in order."""
        self._mailbox.post(event)

    def stop(self) -> None:
        """End everything and wait for it. Idempotent."""
        self.post(self._stop)
        self._thread.join()

    def stats(self) -> Stats:
        """Return the state of this moment; numbers may be of neighbouring moments."""
        running = self._crew.running
        is_ended, account = self._is_ended, self._account
        return Stats(
            total=self._total,
            granted=Resources(0, 0) if is_ended else self.placing.granted,
            workers=self._crew.size,
            queued=max(0, len(account.unended) - running),
            running=running,
            finished=account.finished,
            failed=account.failed,
            object_bytes=0 if is_ended else self.objects.resident_bytes,
            peak_memory_bytes=account.peak_bytes,
            cpu_seconds=account.cpu_seconds,
            spilled_bytes=self.objects.spilled_bytes,
        )

    # ------------------------------------------------------------ events, in the own thread

    def submit(self, task: LocalTask) -> None:
        """Take in a task: it runs when its inputs are there."""
        self._account.unended[task.id] = task
        if self._is_stopped:
            self._fail(task, Cancelled("the runtime was shut down"))
            return
        for ref in [ref for argument in task.inputs for ref in argument.refs()]:
            if ref.failure is not None:
                self._fail(task, ref.failure)
                return
            if not ref.has_ended:
                ref.dependents.append(task)
                task.missing += 1
        if task.actor is not None:
            self._call(task.actor, task)
        elif not task.missing:
            self._make_ready(task)

    def start_actor(self, actor: ActorState, start: LocalTask) -> None:
        """Take in an actor: it starts when there is memory for it."""
        self.placing.hold(actor)
        self.submit(start)

    def cancel(self, task: LocalTask) -> None:
        """Fail a task that waits; kill one that runs, which then fails."""
        if task.has_ended:
            return
        for part in task.parts:
            self.cancel(part)
        seat = self._crew.seat_of(task)
        if seat is not None and task is not seat.tasks[0]:
            for other in seat.take_back():
                self.placing.add(other)
        if seat is None or task not in seat.tasks:
            self._fail(task, Cancelled(f"{task.function.name} was cancelled before it started"))
        else:
            task.is_cancelled = True
            seat.process.kill()

    def end_actor(self, actor: ActorState, reason: RuntimeFailure) -> None:
        """End an actor: what it runs is killed, what waits fails for the reason."""
        if actor.ended_by is not None:
            return
        actor.ended_by = reason
        self.placing.let_go(actor)
        if actor.seat is not None:
            for task in actor.seat.tasks:
                task.is_cancelled = True
            actor.seat.process.kill()
        waiting = [actor.asked] if actor.asked is not None else []
        for call in [*waiting, *actor.calls]:
            self._fail(call, reason)
        actor.calls.clear()

    def _call(self, actor: ActorState, task: LocalTask) -> None:
        if actor.ended_by is not None:
            self._fail(task, actor.ended_by)
            return
        actor.calls.append(task)
        self._ask(actor)

    def _ask(self, actor: ActorState) -> None:
        """Ask for a CPU slot for the next call of an actor, if it can run now."""
        while actor.calls and actor.calls[0].has_ended:
            actor.calls.popleft()
        seat, calls = actor.seat, actor.calls
        if seat is None or seat.tasks or actor.asked is not None:
            return
        if calls and not calls[0].missing:
            actor.asked = calls.popleft()
            self._make_ready(actor.asked)

    def _stop(self) -> None:
        self._is_stopped = True

    # ------------------------------------------------------------ the loop

    def _run(self) -> None:
        try:
            while not self._is_stopped:
                self._listen()
                self._mailbox.take()
                self._place()
                self._sample()
        finally:
            self._end_all()

    def _listen(self) -> None:
        with self._mailbox.asleep():
            answered = list(self._crew.listen(self._patience_seconds()))
        for seat, answers in answered:
            if answers is None:
                self._died(seat)
            for done in answers or ():
                self._answered(seat, done)

    def _patience_seconds(self) -> float | None:
        """Return how long to wait for an answer; None for as long as it takes."""
        if not self._mailbox.is_empty:
            return 0
        return SAMPLE_SECONDS if self._crew.is_busy else None

    def _end_all(self) -> None:
        self._is_stopped = True
        self._crew.close()
        self.objects.close()
        for task in list(self._account.unended.values()):
            self._fail(task, Cancelled("the runtime was shut down before the task ended"))
        self._is_ended = True
        self._mailbox.close()
        self._account.close()

    # ------------------------------------------------------------ starting

    def _make_ready(self, task: LocalTask) -> None:
        """Queue a task whose inputs are there; of one that is being split, queue the parts."""
        if task.pieces is not None:
            self._spread(task, task.pieces)
            return
        try:
            task.make_ready()
            self.placing.add(task)
        except (Lost, Infeasible) as failure:
            self._fail(task, failure)

    def _place(self) -> None:
        while (actors := self.placing.place()) is not None:
            for actor in actors:
                self._seat_actor(actor)
            self._start_placed()
        self._start_placed()

    def _start_placed(self) -> None:
        while (popped := self.placing.pop(is_busy=self._crew.is_busy)) is not None:
            task, failure = popped
            if failure is not None:
                self._fail(task, failure)
            if task.has_ended:
                self.placing.release(task.id)
            else:
                self._start(task)

    def _seat_actor(self, actor: ActorState) -> None:
        try:
            actor.seat = self._crew.take_seat()
        except OSError as error:
            self.end_actor(actor, Lost(f"no worker could be started: {error}"))
        else:
            actor.seat.actor = actor
            self._ask(actor)

    def _start(self, task: LocalTask) -> None:
        """Start what was placed, with those that share its grant."""
        try:
            seat = self._seat_for(task)
        except OSError as error:
            self.placing.release(task.id)
            self._fail(task, Lost(f"no worker could be started: {error}"))
            return
        seat.batch_id = task.id
        for other, failure in self._crew.send(seat, self.placing.batch(task)):
            self._fail(other, failure)
        if not seat.tasks:
            self._leave(seat, 0)

    def _seat_for(self, task: LocalTask) -> Seat:
        actor = task.actor
        if actor is None or actor.seat is None:
            return self._crew.take_seat()
        actor.asked = None
        return actor.seat

    # ------------------------------------------------------------ ending

    def _answered(self, seat: Seat, done: Done) -> None:
        task = seat.tasks.popleft()
        told = done.failure
        failure = None if told is None else rebuild_failure(lambda: decode(told))
        self.placing.learn(task, done.usage.duration_seconds)
        profile = self._account.record(task, failure, done)
        if not seat.tasks and not (task.is_cancelled or task.is_overrun):
            self._leave(seat, done.retained_bytes)
        elif seat.tasks:
            seat.tasks[0].started_seconds = time.monotonic()
        if done.result is not None:
            self._succeed(task, done, profile)
        elif failure is not None and not self._retry(task, failure):
            self._fail(task, failure, profile)

    def _died(self, seat: Seat) -> None:
        """Charge the task that ran with the death.

        Those behind it have not started, those before it have ended unheard: they run again.
        """
        actor, waiting = seat.actor, seat.take_back()
        started = list(seat.tasks)
        seat.tasks.clear()
        how = self._crew.remove(seat)
        self._release(seat)
        for task in waiting:
            self.placing.add(task)
        if actor is not None:
            actor.seat = None
        is_wanted = any(task.is_cancelled or task.is_overrun for task in started)
        for place, task in enumerate(started, 1):
            is_charged = place == len(started) and not is_wanted
            if is_charged or task.is_cancelled or task.is_overrun:
                self._charge(task, how)
            else:
                self.placing.add(task)
        if actor is not None:
            self.end_actor(actor, Lost(f"the actor's worker, {how}"))

    def _charge(self, task: LocalTask, how: str) -> None:
        remove(task.stored_at)
        failure = _why(task, how)
        profile = self._account.record(task, failure, None)
        if not self._retry(task, failure):
            self._fail(task, failure, profile)

    def _leave(self, seat: Seat, retained_bytes: int) -> None:
        """Take note that a worker is through with its batch."""
        self._release(seat)
        if seat.actor is None:
            self._crew.keep(seat, retained_bytes)
        else:
            self._ask(seat.actor)

    def _release(self, seat: Seat) -> None:
        if seat.batch_id is not None:
            self.placing.release(seat.batch_id)
            seat.batch_id = None

    def _retry(self, task: LocalTask, failure: RuntimeFailure) -> bool:
        """Queue another attempt, or the parts of the task, if that can help."""
        if task.is_cancelled or task.actor is not None:
            return False
        is_last = task.attempt >= task.retry.attempts
        if isinstance(failure, OutOfMemory):
            granted_bytes = escalated(
                granted_bytes=task.granted_bytes,
                used_bytes=max(task.seen_bytes, failure.used_bytes),
                cap_bytes=self.placing.cap_bytes,
            )
            if granted_bytes is None:
                return self._split(task, failure)
            task.granted_bytes, task.is_escalated = granted_bytes, True
        elif not isinstance(failure, Lost):
            return False
        if is_last:
            return False
        task.attempt += 1
        self.placing.add(task)
        return True

    def _split(self, task: LocalTask, failure: RuntimeFailure) -> bool:
        """Let the hook of a task make smaller ones of it, if it has one."""
        if task.hook is None:
            return False
        task.pieces, task.failure = LocalRef(next(self._ids)), failure
        splitter = splitting(task, task.pieces)
        task.parts = [splitter]
        task.missing = 1
        task.pieces.dependents.append(task)
        self.submit(splitter)
        return True

    def _spread(self, task: LocalTask, pieces: LocalRef[Any]) -> None:
        parts = parts_of(task, pieces, self._ids)
        if len(parts) < 2 and task.failure is not None:
            self._fail(task, task.failure)
            return
        become_join(task, parts)
        task.missing = len(parts)
        for part in parts:
            part.refs[0].dependents.append(task)
            self.submit(part)

    def _succeed(self, task: LocalTask, done: Done, profile: Callable[[], Profile]) -> None:
        packed = done.result
        if packed is None:
            raise AssertionError("a task succeeds with a result")
        for ref, segment in task.gathered():
            if ref.file is not None and isinstance(ref.packed, Stored):
                self.objects.give_back(ref.file, ref.packed, segment)
        refs = self._account.end(task, is_failed=False)
        file = self.objects.hold(packed) if isinstance(packed, Stored) else None
        for ref in refs:
            ref.hold(packed, file)
            dependents, ref.dependents = ref.dependents, []
            settle(ref, profile)
            for dependent in dependents:
                dependent.missing -= 1
                if not dependent.missing and dependent.actor is not None:
                    self._ask(dependent.actor)
                elif not dependent.missing:
                    self._make_ready(dependent)

    def _fail(
        self,
        task: LocalTask,
        failure: RuntimeFailure,
        profile: Callable[[], Profile] | None = None,
    ) -> None:
        """End a task with a failure, and all that need it with the same."""
        failing = [task]
        while failing:
            task = failing.pop()
            if task.has_ended:
                continue
            self.placing.withdraw(task)
            for ref in self._account.end(task, is_failed=True):
                ref.failure = failure
                failing += ref.dependents
                ref.dependents = []
                settle(ref, profile)
            profile = None
            if task.actor is not None:
                self._fail_call(task.actor, task, failure)

    def _fail_call(self, actor: ActorState, task: LocalTask, failure: RuntimeFailure) -> None:
        if actor.asked is task:
            actor.asked = None
        if task.id == actor.start_id:
            self.end_actor(actor, failure)
        else:
            self._ask(actor)

    # ------------------------------------------------------------ watching

    def _sample(self) -> None:
        now = time.monotonic()
        if now - self._sampled_seconds < SAMPLE_SECONDS or not self._crew.is_busy:
            return
        self._sampled_seconds = now
        worst = overrun(
            self._crew.sample(),
            budget_bytes=self._total.memory_bytes - self.objects.resident_bytes,
            available_bytes=available_bytes(),
        )
        seat = None if worst is None else self._crew.seat_at(worst)
        if seat is not None and seat.tasks:
            seat.tasks[0].is_overrun = True
            seat.process.kill()


def _nothing() -> None:
    """Be the event of which only the round after it counts."""


def _why(task: LocalTask, how: str) -> RuntimeFailure:
    name = task.function.name
    if task.is_cancelled:
        return Cancelled(f"{name} was cancelled while it ran")
    if task.is_overrun or task.seen_bytes > task.granted_bytes:
        return OutOfMemory(
            f"{name} was stopped at {in_mib(task.seen_bytes)}, it was granted"
            f" {in_mib(task.granted_bytes)} ({how})",
            granted_bytes=task.granted_bytes,
            used_bytes=task.seen_bytes,
        )
    return Lost(f"{name} lost its worker in attempt {task.attempt}: {how}")
