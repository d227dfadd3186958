"""Histories to simulate: synthetic tables with their habits, or the attempts of a profile store.

A synthetic table has habits of its own, log-normal between tables: a ratio between data and
memory, 5 to 6 % of noise within it (median, footers included), and footers that lie about its
size; a process takes the same in all of them, as in those that were measured; merges know the
exact size of their Arrow inputs. In 15 % of tables the ratio changes for good at some job, by
20 %. 0.01 to 0.3 % of a table's tasks are outliers (hot keys), in most tables few.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from random import Random

from runtime.api import Key, Profile
from runtime.predictor import BASE_BYTES, PROCESS_BYTES
from runtime.profiles import ProfileStore

GIB = 1 << 30
MIB = 1 << 20

TASKS_PER_JOB_MAX = 64
BYTES_PER_ROW_EXTRA = 16
FOOTER_FACTOR = 1.5
FIXED_WIDTH_SHARE = 0.3
REGIME_SHARE = 0.15
OUTLIERS_MIN, OUTLIERS_MAX = 1e-4, 3e-3
SECONDS_PER_GIB = 20.0


@dataclass(frozen=True, slots=True)
class SimulatedTask:
    """A task as it will turn out.

    Attributes:
        base_bytes: What its prediction multiplies.
        file_bytes: Size of its input files: what simple rules multiply.
        footer_bytes: Uncompressed size as the footers of its inputs tell it.
        peak_bytes: Private memory that it will reach.
        duration_seconds: How long it will run.
    """

    key: Key
    base_bytes: int
    file_bytes: int
    footer_bytes: int
    peak_bytes: int
    duration_seconds: float


Job = tuple[SimulatedTask, ...]
"""Tasks of one table that are submitted together."""

History = tuple[tuple[Job, ...], ...]
"""The jobs of each table in their order."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How much there is to do.

    Attributes:
        median_bytes: Arrow size of the median task's input.
    """

    tables: int = 50
    jobs: int = 30
    tasks: int = 64
    median_bytes: int = 512 * MIB


@dataclass(frozen=True, slots=True)
class _Habits:
    """What is the same for all tasks of a table."""

    key: Key
    is_exact: bool
    ratio: float
    later_ratio: float
    changes_at: int
    noise: float
    outliers: float
    expansion: float
    honesty: float
    row_bytes: float


def synthetic(seed: int, shape: Shape) -> History:
    """Return the history of a population of tables: the same for the same seed and shape."""
    random = Random(seed)
    return tuple(_table(random, number, shape) for number in range(shape.tables))


def recorded(path: Path) -> History:
    """Return the successful attempts of a profile store, in the order in which they ran.

    Profiles do not know the sizes of files: simple rules multiply the base instead. Neighbours of
    one key make up a job.
    """
    store = ProfileStore(path)
    profiles = [p for operation in store.operations() for p in store.history(operation)]
    by_key: dict[Key, list[SimulatedTask]] = {}
    for profile in profiles:
        if profile.key is not None and profile.anonymous_peak_bytes:
            by_key.setdefault(profile.key, []).append(replayed(profile))
    return tuple(tuple(_jobs(tasks)) for tasks in by_key.values())


def replayed(profile: Profile) -> SimulatedTask:
    """Return a recorded attempt as a task that does the same again.

    Its files' sizes are not known here: they are taken to be the base.
    """
    if profile.key is None:
        raise ValueError("an attempt without a key is predicted by nobody")
    return SimulatedTask(
        key=profile.key,
        base_bytes=profile.base_bytes,
        file_bytes=profile.base_bytes,
        footer_bytes=profile.base_bytes,
        peak_bytes=profile.anonymous_peak_bytes,
        duration_seconds=max(0.001, profile.duration_seconds),
    )


def in_order(history: History) -> Iterator[Job]:
    """Return all jobs as they come: the first of each table, then the second of each."""
    for turn in range(max(map(len, history), default=0)):
        for jobs in history:
            if turn < len(jobs):
                yield jobs[turn]


def tasks_of(history: History) -> Iterator[SimulatedTask]:
    """Return all tasks."""
    return (task for jobs in history for job in jobs for task in job)


def _jobs(tasks: Iterable[SimulatedTask]) -> Iterator[Job]:
    for _, numbered in groupby(enumerate(tasks), lambda pair: pair[0] // TASKS_PER_JOB_MAX):
        yield tuple(task for _, task in numbered)


def _table(random: Random, number: int, shape: Shape) -> tuple[Job, ...]:
    habits = _habits(random, number, shape.jobs)
    jobs = []
    for turn in range(shape.jobs):
        size = shape.median_bytes * random.lognormvariate(0, 0.3)
        jobs.append(tuple(_task(random, habits, turn, size) for _ in range(shape.tasks)))
    return tuple(jobs)


def _habits(random: Random, number: int, jobs: int) -> _Habits:
    is_exact = random.random() < 0.5
    ratio = random.lognormvariate(math.log(1.8), 0.4)
    is_changing = random.random() < REGIME_SHARE
    return _Habits(
        key=(f"table{number}", "merge" if is_exact else "rewrite"),
        is_exact=is_exact,
        ratio=ratio,
        later_ratio=ratio * random.lognormvariate(0, 0.2),
        changes_at=random.randrange(1, max(2, jobs)) if is_changing else jobs,
        noise=min(0.15, random.lognormvariate(math.log(0.047), 0.35)),
        outliers=OUTLIERS_MIN * (OUTLIERS_MAX / OUTLIERS_MIN) ** (random.random() ** 3),
        expansion=random.lognormvariate(math.log(6), 0.6),
        honesty=min(1.1, random.lognormvariate(math.log(0.6), 0.35)),
        row_bytes=random.lognormvariate(math.log(150), 0.7),
    )


def _task(random: Random, habits: _Habits, turn: int, size: float) -> SimulatedTask:
    arrow = max(4.0 * MIB, size * random.lognormvariate(0, 0.6))
    rows = arrow / habits.row_bytes
    footer = arrow * habits.honesty * random.lognormvariate(0, 0.03)
    told = max(FOOTER_FACTOR * footer, FIXED_WIDTH_SHARE * arrow)
    known = arrow if habits.is_exact else told
    ratio = habits.ratio if turn < habits.changes_at else habits.later_ratio
    fixed = BASE_BYTES + BYTES_PER_ROW_EXTRA * rows
    held = fixed - PROCESS_BYTES + arrow
    peak = PROCESS_BYTES + held * ratio * random.lognormvariate(0, habits.noise)
    if random.random() < habits.outliers:
        peak *= random.uniform(1.2, 3.0)
    seconds = 1 + SECONDS_PER_GIB * arrow / GIB * random.lognormvariate(0, 0.3)
    return SimulatedTask(
        key=habits.key,
        base_bytes=int(fixed + known),
        file_bytes=max(1, int(arrow / habits.expansion * random.lognormvariate(0, 0.08))),
        footer_bytes=int(footer),
        peak_bytes=int(peak),
        duration_seconds=seconds,
    )
