"""What `compact doctor` looks at on this machine: every check gives a finding, none raises."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from compactor import __version__
from compactor.cli.exits import describe
from compactor.settings import RuntimeSettings, Settings
from compactor.units import format_duration, format_size

MIB = 1024 * 1024
# What containers give by default, and what a few row groups in flight fill.
_SHARED_MEMORY_MIN_BYTES = 256 * MIB
_DISK_MIN_BYTES = 1024 * MIB
# One task of a wide table with large row groups.
_MEMORY_MIN_BYTES = 512 * MIB
CLOCK_SKEW_MAX_SECONDS = 60.0
_WORKER_TIMEOUT_SECONDS = 30.0
# No machine with a set clock is older than this program.
_RELEASED_AT_SECONDS = 1_790_000_000.0
_LIBRARIES = ("pyarrow", "pyiceberg", "obstore", "sqlalchemy", "click", "rich", "msgspec")


class Grade(StrEnum):
    """How good a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: what was looked at.
        grade: how good it is.
        detail: what was seen.
        hint: what to do about it; empty when there is nothing to do.
    """

    check: str
    grade: Grade
    detail: str
    hint: str = ""


def attempt(check: str, look: Callable[[], Finding]) -> Finding:
    """Run a check; an error is a problem found."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - whatever is broken here is what is looked for
        failure = describe(error)
        return Finding(check, Grade.PROBLEM, failure.message, failure.hint)


def machine_findings(settings: Settings) -> Iterator[Finding]:
    """Check this machine and what is configured on it."""
    yield attempt("versions", _versions)
    yield attempt("configuration", lambda: _configuration(settings))
    yield attempt("job store", lambda: _job_store(settings.store.url))
    yield attempt("memory", _memory)
    yield attempt("shared memory", _shared_memory)
    yield attempt("disk", _disk)
    yield attempt("runtime", lambda: _runtime(settings.runtime))
    yield attempt("clock", _clock)


def _versions() -> Finding:
    found = ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    return Finding("versions", Grade.OK, f"compact {__version__}, {found}")


def _configuration(settings: Settings) -> Finding:
    files = ", ".join(f"`{path}`" for path in settings.files)
    return Finding("configuration", Grade.OK, files or "no file, defaults are in force")


def _job_store(url: str) -> Finding:
    from compactor.jobs.store import open_store, shown_url

    with open_store(url) as store:
        unfinished = [job for job in store.jobs() if not job.state.is_final and not job.is_running]
    if unfinished:
        names = ", ".join(f"`{job.table}`" for job in unfinished)
        hint = "run the same table again: the job goes on where it was interrupted"
        return Finding("job store", Grade.WARNING, f"interrupted jobs on {names}", hint)
    return Finding("job store", Grade.OK, f"`{shown_url(url)}`")


def _memory() -> Finding:
    from runtime.memory import available_bytes

    free_bytes = available_bytes()
    cpus = len(os.sched_getaffinity(0))
    detail = f"{format_size(free_bytes)} available, {cpus} CPUs"
    if free_bytes < _MEMORY_MIN_BYTES:
        hint = f"leave at least {format_size(_MEMORY_MIN_BYTES)} to one task"
        return Finding("memory", Grade.WARNING, detail, hint)
    return Finding("memory", Grade.OK, detail)


def _shared_memory() -> Finding:
    usage = shutil.disk_usage("/dev/shm")  # noqa: S108 - the mount itself, nothing is written
    detail = f"{format_size(usage.free)} of {format_size(usage.total)} free in /dev/shm"
    if usage.free < _SHARED_MEMORY_MIN_BYTES:
        hint = "enlarge it (containers: --shm-size=1g): values between tasks are passed there"
        return Finding("shared memory", Grade.WARNING, detail, hint)
    return Finding("shared memory", Grade.OK, detail)


def _disk() -> Finding:
    place = Path(tempfile.gettempdir())
    free_bytes = shutil.disk_usage(place).free
    detail = f"{format_size(free_bytes)} free in {place}"
    if free_bytes < _DISK_MIN_BYTES:
        hint = "free some space, or point TMPDIR to a larger disk"
        return Finding("disk", Grade.WARNING, detail, hint)
    return Finding("disk", Grade.OK, detail)


def _runtime(settings: RuntimeSettings) -> Finding:
    """Let a worker run something."""
    from compactor.cli.workplace import connected

    started_at = time.monotonic()
    with connected(settings) as runtime:
        runtime.get(runtime.submit(os.getpid), timeout_seconds=_WORKER_TIMEOUT_SECONDS)
        total = runtime.stats().total
    took = format_duration(time.monotonic() - started_at)
    memory = format_size(total.memory_bytes)
    detail = f"`{settings.url}` ran a task in {took}; {total.cpus} at once, in {memory}"
    return Finding("runtime", Grade.OK, detail)


def _clock() -> Finding:
    """Compare the clock with the file system's, which may be another machine's."""
    now = time.time()
    with tempfile.NamedTemporaryFile() as file:
        skew_seconds = abs(Path(file.name).stat().st_mtime - now)
    if now < _RELEASED_AT_SECONDS:
        hint = "set the clock: ages of files and leases are judged by it"
        return Finding("clock", Grade.PROBLEM, time.ctime(now), hint)
    if skew_seconds > CLOCK_SKEW_MAX_SECONDS:
        detail = f"{format_duration(skew_seconds)} off the clock of the file system"
        return Finding("clock", Grade.WARNING, detail, "synchronise the clocks")
    return Finding("clock", Grade.OK, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)))
