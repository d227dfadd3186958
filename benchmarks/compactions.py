"""Real compactions, as a user runs them, and what the runtime has recorded of their tasks.

In each round every table grows and `compact run` rewrites what is new: what one run has learned
is what the next one starts with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from benchmarks.growing import GrowingTable
from benchmarks.shapes import SHAPES
from benchmarks.tables import CATALOG, NAMESPACE, environment_of, open_catalog
from compactor.jobs.store import open_store
from runtime.api import Profile
from runtime.profiles import ProfileStore
from runtime.simulation.population import Job, replayed

HERE = Path(__file__).resolve().parent
JOBS_MAX = 10_000

_Mark = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class Load:
    """How much is run: rounds of every table, new days in each, worker processes."""

    rounds: int
    days: int
    workers: int


@dataclass(frozen=True, slots=True)
class Ran:
    """What ran.

    Attributes:
        jobs: the successful tasks of each run, in the order in which they ended.
        grants: what each of them was granted, in the same order.
        failed: attempts that did not end well.
    """

    jobs: tuple[Job, ...]
    grants: tuple[int, ...]
    failed: int


def run(directory: Path, load: Load, tell: Callable[[str], None]) -> None:
    """Make the tables anew in a directory and compact them, round by round."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    catalog = open_catalog(directory)
    catalog.create_namespace(NAMESPACE)
    tables = [GrowingTable(shape, catalog, directory / "made") for shape in SHAPES]
    tell(f"{len(tables)} tables are made")
    for number in range(1, load.rounds + 1):
        for table in tables:
            table.grow(load.days)
            _compact(table.name, directory, load.workers)
        tell(f"round {number} of {load.rounds}")


def read(directory: Path) -> Ran:
    """Read what the runs in a directory have recorded."""
    profiles = ProfileStore(_profiles(directory)).attempts()
    sizes, failed = _attempts(directory)
    jobs = tuple(
        tuple(replace(replayed(one), file_bytes=sizes[_mark(one)]) for one in run)
        for _, run in groupby(profiles, _table)
    )
    return Ran(jobs, tuple(profile.granted_bytes for profile in profiles), failed)


def _compact(table: str, directory: Path, workers: int) -> None:
    program = Path(sys.executable).with_name("compact")
    target = f"{CATALOG}.{table}"
    command = [program, "run", target, "--yes", "--quiet", "--workers", str(workers)]
    environment = {
        **os.environ,
        **environment_of(directory),
        "COMPACT_STORE__URL": _store_url(directory),
        "COMPACT_RUNTIME__PROFILES": str(_profiles(directory)),
        "PYTHONPATH": str(HERE.parent),
    }
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def _attempts(directory: Path) -> tuple[dict[_Mark, int], int]:
    """Return the input files' bytes by the mark of an attempt, and how many attempts failed."""
    sizes: dict[_Mark, int] = {}
    failed = 0
    with open_store(_store_url(directory)) as store:
        for record in store.jobs(limit=JOBS_MAX):
            detail = store.job(record.job)
            assert detail is not None
            group_bytes = {group.group_id: group.input_bytes for group in detail.groups}
            for attempt in detail.attempts:
                failed += attempt.state == "failed"
                grants = attempt.predicted_bytes, attempt.granted_bytes
                mark = record.table, *grants, attempt.peak_memory_bytes
                sizes[mark] = group_bytes[attempt.group_id]
    return sizes, failed


def _table(profile: Profile) -> str:
    return "" if profile.key is None else profile.key[0]


def _mark(profile: Profile) -> _Mark:
    """Return what an attempt is known by in both stores: its table, and its peak to the byte."""
    sizes = profile.predicted_bytes, profile.granted_bytes, profile.anonymous_peak_bytes
    return _table(profile), *sizes


def _profiles(directory: Path) -> Path:
    return directory / "profiles.db"


def _store_url(directory: Path) -> str:
    return f"sqlite:///{directory}/jobs.db"
