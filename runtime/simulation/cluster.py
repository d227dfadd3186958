"""A cluster in virtual time: the runtime's own scheduler, escalation and containment on it.

Each table submits its next job when the one before has ended. A task is at its peak as long as it
runs, which is the worst it can do. An attempt ends early where the runtime would end it: at some
point of its duration when it is beyond the limit that its grant sets, or at once when its node is
over its memory and it is the one furthest beyond its grant. What fits no node is split. Nodes are
lost and come back.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from runtime.api import Resources
from runtime.memory import LIMIT_FACTOR, LIMIT_SLACK_BYTES
from runtime.scheduler import (
    AVAILABLE_BYTES_MIN,
    Placement,
    Request,
    Running,
    Scheduler,
    escalated,
    overrun,
)
from runtime.simulation.figures import Books, Figures
from runtime.simulation.population import History, Job, SimulatedTask, tasks_of
from runtime.simulation.rules import Rule


class InvariantError(AssertionError):
    """Something that must hold at every step did not; the seed tells which run to repeat."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong: nodes lost in the whole run, each back after a while."""

    nodes_lost: int = 0
    lost_within_seconds: float = 600.0
    back_after_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went.

    Attributes:
        figures: As for single grants; a grant is what the attempt was charged on its node.
        node_utilisation: Used memory of all nodes over their memory while tasks waited.
        makespan_seconds: Until the last task ended.
        bound_seconds: No schedule could be shorter: memory, CPU slots, the longest chain.
        placements: Attempts that were started.
        lost: Attempts that were lost with their node.
    """

    figures: Figures
    node_utilisation: float
    makespan_seconds: float
    bound_seconds: float
    placements: int
    lost: int


@dataclass(slots=True)
class _Attempt:
    """A task while it waits or runs."""

    task: SimulatedTask
    table: int
    escalated_bytes: int = 0
    is_first: bool = True
    node: str = ""
    granted_bytes: int = 0
    started: float = 0.0


@dataclass(slots=True)
class _Table:
    """The jobs that a table has left, and what is open of the current one."""

    jobs: deque[Job]
    open: int = 0
    was_hit: bool = False


@dataclass(slots=True)
class _NodeState:
    """What really runs on a node."""

    total: Resources
    used_bytes: int = 0
    running: dict[int, _Attempt] = field(default_factory=dict)


class Simulation:
    """One run of a history under a rule. The same seed gives the same run."""

    def __init__(
        self, history: History, rule: Rule, nodes: dict[str, Resources], *, seed: int
    ) -> None:
        self._rule = rule
        self._random = Random(seed)
        self._scheduler = Scheduler(rule.rates)
        self._nodes: dict[str, _NodeState] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        self._now = 0.0
        self._attempts: dict[int, _Attempt] = {}
        self._tables = [_Table(deque(jobs)) for jobs in history]
        self._books = Books()
        self._placements = self._lost = 0
        self._used_bytes = 0
        self._watched = self._used_integral = self._memory_integral = 0.0
        self._largest_bytes = max(total.memory_bytes for total in nodes.values())
        for name, total in nodes.items():
            self._join(name, total)
        self._bound = bound(history, nodes)

    def run(self, faults: Faults, *, check_every: int) -> Outcome:
        """Run to the end; every so many events all invariants are checked.

        Raises:
            InvariantError: The scheduler broke a rule, or a task never ended.
        """
        for _ in range(faults.nodes_lost):
            at = self._random.uniform(0, faults.lost_within_seconds)
            self._at(at, lambda: self._lose(faults.back_after_seconds))
        for number in range(len(self._tables)):
            self._next_job(number)
        self._place()
        steps = 0
        while self._events and (self._attempts or any(t.jobs for t in self._tables)):
            at, _, event = heapq.heappop(self._events)
            self._pass(at)
            event()
            self._place()
            steps += 1
            if steps % check_every == 0:
                self._check()
        self._check()
        if self._attempts:
            raise InvariantError(f"{len(self._attempts)} tasks never ended")
        return self._outcome()

    # ------------------------------------------------------------ events

    def _next_job(self, number: int) -> None:
        table = self._tables[number]
        if not table.jobs:
            return
        table.was_hit = False
        job = table.jobs.popleft()
        table.open = len(job)
        self._books.jobs += 1
        for task in job:
            self._submit(_Attempt(task, number))

    def _submit(self, attempt: _Attempt) -> None:
        self._numbers += 1
        key, base_bytes = self._rule.ask(attempt.task)
        if attempt.escalated_bytes:
            key, base_bytes = None, attempt.escalated_bytes
        base_bytes = min(base_bytes, self._largest_bytes)
        self._attempts[self._numbers] = attempt
        job = attempt.task.key[0]
        self._scheduler.submit(Request(self._numbers, base_bytes, key, job=job))

    def _place(self) -> None:
        for placement in self._scheduler.place():
            self._start(placement)

    def _start(self, placement: Placement) -> None:
        attempt, state = self._attempts[placement.id], self._nodes[placement.node]
        attempt.node, attempt.started = placement.node, self._now
        attempt.granted_bytes = placement.granted_bytes
        state.running[placement.id] = attempt
        state.used_bytes += attempt.task.peak_bytes
        self._used_bytes += attempt.task.peak_bytes
        self._placements += 1
        self._books.first += attempt.is_first
        seconds = attempt.task.duration_seconds
        limit_bytes = LIMIT_FACTOR * placement.granted_bytes + LIMIT_SLACK_BYTES
        if attempt.task.peak_bytes > limit_bytes:
            seconds *= self._random.random()
            self._at(self._now + seconds, lambda: self._fail(placement.id, attempt))
        else:
            self._at(self._now + seconds, lambda: self._succeed(placement.id, attempt))
        self._contain(state)

    def _contain(self, state: _NodeState) -> None:
        """Stop what the watchdog would stop."""
        while state.used_bytes > state.total.memory_bytes:
            seen = [
                Running(number, attempt.granted_bytes, attempt.task.peak_bytes)
                for number, attempt in state.running.items()
            ]
            worst = overrun(
                seen,
                budget_bytes=state.total.memory_bytes,
                available_bytes=AVAILABLE_BYTES_MIN,
            )
            if worst is None:
                return  # all are within their grants: the pooled rule took the risk, swap takes it
            self._fail(worst, state.running[worst])

    def _succeed(self, number: int, attempt: _Attempt) -> None:
        if not self._leave(number, attempt):
            return
        seconds = self._now - attempt.started
        self._books.succeeded(attempt.task.peak_bytes, attempt.granted_bytes, seconds)
        self._rule.learn(attempt.task)
        table = self._tables[attempt.table]
        table.open -= 1
        if not table.open:
            self._books.jobs_hit += table.was_hit
            self._next_job(attempt.table)

    def _fail(self, number: int, attempt: _Attempt) -> None:
        if not self._leave(number, attempt):
            return
        self._books.failed(attempt.granted_bytes, self._now - attempt.started)
        self._books.first_failed += attempt.is_first
        self._tables[attempt.table].was_hit = True
        more = escalated(
            granted_bytes=attempt.granted_bytes,
            used_bytes=min(attempt.task.peak_bytes, int(LIMIT_FACTOR * attempt.granted_bytes)),
            cap_bytes=self._largest_bytes,
        )
        attempt.is_first = False
        if more is None:
            self._split(attempt)
        else:
            attempt.escalated_bytes = more
            self._submit(attempt)

    def _split(self, attempt: _Attempt) -> None:
        """Do in two halves what fits no node, as an operation's own hook would."""
        task, table = attempt.task, self._tables[attempt.table]
        half = replace(
            task,
            base_bytes=task.base_bytes // 2,
            peak_bytes=task.peak_bytes // 2,
            duration_seconds=task.duration_seconds / 2,
        )
        table.open += 1
        for _ in range(2):
            self._submit(_Attempt(half, attempt.table, is_first=False))

    def _leave(self, number: int, attempt: _Attempt) -> bool:
        """Take an attempt from its node; False when it left before."""
        if self._attempts.get(number) is not attempt:
            return False
        del self._attempts[number]
        state = self._nodes[attempt.node]
        del state.running[number]
        state.used_bytes -= attempt.task.peak_bytes
        self._used_bytes -= attempt.task.peak_bytes
        self._scheduler.release(number)
        return True

    def _lose(self, back_after_seconds: float) -> None:
        if len(self._nodes) < 2:
            return
        name = self._random.choice(sorted(self._nodes))
        lost = self._scheduler.remove_node(name)
        state = self._nodes.pop(name)
        self._used_bytes -= state.used_bytes
        if set(lost) != set(state.running):
            raise InvariantError(f"{name} ran other tasks than the scheduler thinks")
        for number, attempt in state.running.items():
            del self._attempts[number]
            self._lost += 1
            attempt.is_first = False
            self._submit(attempt)
        total = state.total
        self._at(self._now + back_after_seconds, lambda: self._join(f"{name}+", total))

    def _join(self, name: str, total: Resources) -> None:
        self._scheduler.add_node(name, total)
        self._nodes[name] = _NodeState(total)

    # ------------------------------------------------------------ time

    def _at(self, at: float, event: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._events, (at, self._numbers, event))

    def _pass(self, until: float) -> None:
        """Let time pass; utilisation counts while tasks wait, so an idle end does not."""
        if self._scheduler.queued:
            seconds = until - self._now
            self._used_integral += self._used_bytes * seconds
            memory = sum(state.total.memory_bytes for state in self._nodes.values())
            self._memory_integral += memory * seconds
        self._now = until

    def _check(self) -> None:
        violations = self._scheduler.violations()
        if violations:
            raise InvariantError(f"at {self._now:.3f} s: " + "; ".join(violations))

    def _outcome(self) -> Outcome:
        return Outcome(
            figures=self._books.figures(),
            node_utilisation=self._used_integral / max(1.0, self._memory_integral),
            makespan_seconds=self._now,
            bound_seconds=self._bound,
            placements=self._placements,
            lost=self._lost,
        )


def bound(history: History, nodes: dict[str, Resources]) -> float:
    """Return a time that no schedule can beat: by memory, by CPU slots, by the longest chain."""
    tasks = list(tasks_of(history))
    memory = sum(total.memory_bytes for total in nodes.values())
    cpus = sum(total.cpus for total in nodes.values())
    chains = (math.fsum(max(t.duration_seconds for t in job) for job in jobs) for jobs in history)
    longest = max(chains)
    by_memory = math.fsum(task.peak_bytes * task.duration_seconds for task in tasks) / memory
    by_cpus = math.fsum(task.duration_seconds for task in tasks) / cpus
    return max(longest, by_memory, by_cpus)
