"""Replays a history against a rule, each attempt held to its own grant: the strictest reading.

Tasks of a job run in waves, as on a node of 16 slots; what a wave teaches is known to the next.
"""

import math
from collections.abc import Iterable, Sequence
from random import Random

from runtime.scheduler import escalated
from runtime.simulation.figures import Books, Figures
from runtime.simulation.population import History, Job, SimulatedTask, in_order
from runtime.simulation.rules import Rule

WAVE_TASKS = 16

NODE_BYTES = 1 << 40
"""Large enough that no grant is cut off here."""


def replay(history: History, rule: Rule, *, seed: int) -> Figures:
    """Return how a rule would have done on tables whose jobs take turns."""
    return replay_jobs(in_order(history), rule, seed=seed)


def replay_jobs(
    jobs: Iterable[Job], rule: Rule, *, seed: int, wave_tasks: int = WAVE_TASKS
) -> Figures:
    """Return how a rule would have done on jobs in the order in which they are given.

    Args:
        jobs: What ran.
        rule: What decides on grants.
        seed: For when a failed attempt fails.
        wave_tasks: How many run at a time: what they teach is known to the next.
    """
    books, random = Books(), Random(seed)
    for job in jobs:
        failed_before = books.first_failed
        for start in range(0, len(job), wave_tasks):
            _run(job[start : start + wave_tasks], rule, books, random)
        books.jobs += 1
        books.jobs_hit += books.first_failed > failed_before
    return books.figures()


def _run(wave: Sequence[SimulatedTask], rule: Rule, books: Books, random: Random) -> None:
    grants = [_grant(rule, task) for task in wave]
    for task, granted_bytes in zip(wave, grants, strict=True):
        _attempts(task, granted_bytes, books, random)
    for task in wave:
        rule.learn(task)


def _grant(rule: Rule, task: SimulatedTask) -> int:
    key, base_bytes = rule.ask(task)
    return math.ceil(rule.rates(key).grant_bytes(base_bytes))


def _attempts(task: SimulatedTask, granted_bytes: int, books: Books, random: Random) -> None:
    """Run a task until it fits; an attempt that fails does so at some point of its duration."""
    books.first += 1
    books.first_failed += task.peak_bytes > granted_bytes
    while task.peak_bytes > granted_bytes:
        books.failed(granted_bytes, task.duration_seconds * random.random())
        more = escalated(
            granted_bytes=granted_bytes, used_bytes=granted_bytes, cap_bytes=NODE_BYTES
        )
        if more is None:
            raise ValueError(f"a task of {task.peak_bytes} bytes fits no node")
        granted_bytes = more
    books.succeeded(task.peak_bytes, granted_bytes, task.duration_seconds)
