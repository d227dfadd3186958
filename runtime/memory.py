"""Measures and limits the memory of a process, through /proc.

Private (anonymous) memory is the charge of a task: resident pages less shared ones, so mapped
tables do not count. VmHWM counts everything resident and is the upper bound.
"""

import contextlib
import functools
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20

# RLIMIT_DATA counts reserved address space too (allocator arenas, 8 MiB of stack per thread):
# the limit is a net under the grant, not the grant.
LIMIT_FACTOR = 1.5
LIMIT_SLACK_BYTES = 256 * MIB

# A thread reserves this much, touched or not. Readers of storage that is far away start a few.
STACK_BYTES = 8 * MIB
THREADS_EXPECTED = 16

# What a worker holds between tasks: the interpreter, Arrow and its Parquet reader, the task's code.
IDLE_WORKER_BYTES = 64 * MIB

# Returning less than this is not worth a walk through the allocator.
RELEASE_BYTES_MIN = 8 * MIB


class Usage(NamedTuple):
    """What one attempt took."""

    anonymous_peak_bytes: int = 0
    hwm_bytes: int = 0
    cpu_seconds: float = 0.0
    duration_seconds: float = 0.0


class _Statm(NamedTuple):
    anonymous_bytes: int
    shared_bytes: int
    data_bytes: int


def anonymous_bytes(pid: int) -> int:
    """Return the private resident memory of another process; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:  # noqa: PTH123 - sampled often
            return _parse_statm(file.read()).anonymous_bytes
    except (FileNotFoundError, ProcessLookupError):
        return 0


def own_anonymous_bytes() -> int:
    """Return the private resident memory of this process."""
    return _own_statm().anonymous_bytes


def available_bytes() -> int:
    """Return what this machine, and each cgroup we are in, can still give."""
    machine = _fields(os.pread(_proc("meminfo"), 4096, 0))["MemAvailable:"] << 10
    return min([machine, *map(_cgroup_available_bytes, _cgroups())])


def limit_private_memory(granted_bytes: int) -> None:
    """Make allocations far beyond the grant fail in this process, with MemoryError as a rule."""
    limit = _own_statm().data_bytes + int(LIMIT_FACTOR * granted_bytes)
    limit += LIMIT_SLACK_BYTES + THREADS_EXPECTED * STACK_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def unlimit_private_memory() -> None:
    """Lift the limit between tasks."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def release_unused() -> None:
    """Hand memory that allocators keep for later back to the machine."""
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


class Meter:
    """Measures one attempt at a time in this process.

    Args:
        pools: Where the attempts get Arrow pools of their own; None: they share the default one.
        idle_bytes: What to charge in place of what the process held before an attempt: it is not
            the attempts' alone. None: it is.
    """

    def __init__(self, pools: "ArrowPools | None" = None, *, idle_bytes: int | None = None) -> None:
        self._pools = pools
        self._idle_bytes = idle_bytes
        self._start_bytes = 0
        self._start_seconds = self._start_cpu_seconds = 0.0

    def start(self) -> None:
        """Begin an attempt: the peak starts over."""
        if self._pools is not None:
            self._pools.start()
        _reset_peak()
        self._start_bytes = _own_statm().anonymous_bytes
        self._start_cpu_seconds = time.process_time()
        self._start_seconds = time.perf_counter()

    def stop(self, mapped_bytes: int = 0) -> Usage:
        """End the attempt and give back what it left behind.

        A spike between two samples shows in the peak of the attempt's Arrow pool, which counts
        what was asked for, and in VmHWM: what of that was not shared was private. VmHWM includes
        what was mapped for the attempt and is gone by now: up to `mapped_bytes`.
        """
        duration = time.perf_counter() - self._start_seconds
        cpu = time.process_time() - self._start_cpu_seconds
        end, hwm = _own_statm(), _hwm_bytes()
        peak = max(self._start_bytes, end.anonymous_bytes, hwm - end.shared_bytes - mapped_bytes)
        if self._pools is not None:
            # Pages that were never touched are not resident: VmHWM stays the upper bound.
            peak = max(peak, min(hwm, self._start_bytes + self._pools.peak_bytes()))
        if end.anonymous_bytes > self._start_bytes + RELEASE_BYTES_MIN:
            release_unused()
        if self._idle_bytes is not None:
            peak += self._idle_bytes - self._start_bytes
        return Usage(peak, max(hwm, peak), cpu, duration)


class ArrowPools:
    """Gives each attempt a pool of its own, whose peak is exact whatever allocators keep.

    Pools are kept for the life of the process: one must not go before the last buffer it made.
    """

    def __init__(self) -> None:
        self._base: pa.MemoryPool | None = None
        self._kept: list[pa.MemoryPool] = []

    def start(self) -> None:
        """Begin an attempt; a pool that was never used is used again."""
        pyarrow = sys.modules.get("pyarrow")
        if pyarrow is None:
            return
        if self._base is None:
            self._base = pyarrow.default_memory_pool()
        if not self._kept or self._kept[-1].max_memory():
            self._kept.append(pyarrow.proxy_memory_pool(self._base))
            pyarrow.set_memory_pool(self._kept[-1])

    def peak_bytes(self) -> int:
        """Return the most Arrow memory that the attempt held at once."""
        return int(self._kept[-1].max_memory()) if self._kept else 0


@functools.cache
def _malloc_trim() -> Callable[[int], object] | None:
    """Return what empties the C library's own heap, of those that can."""
    import ctypes  # lazy: the first large task pays for it

    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def _parse_statm(text: bytes) -> _Statm:
    pages = [int(field) for field in text.split()]
    return _Statm((pages[1] - pages[2]) * PAGE_BYTES, pages[2] * PAGE_BYTES, pages[5] * PAGE_BYTES)


def _own_statm() -> _Statm:
    return _parse_statm(os.pread(_proc("self/statm"), 128, 0))


def _hwm_bytes() -> int:
    status = os.pread(_proc("self/status"), 4096, 0)
    start = status.index(b"VmHWM:") + 6
    return int(status[start : status.index(b"kB", start)]) << 10


def _reset_peak() -> None:
    with contextlib.suppress(OSError):  # a read-only /proc: the peak is that of the process so far
        os.write(_proc("self/clear_refs", os.O_WRONLY), b"5")


@functools.cache
def _proc(name: str, flags: int = os.O_RDONLY) -> int:
    """Open a file of /proc once: reading it again then costs next to nothing."""
    return os.open(f"/proc/{name}", flags)


def _fields(text: bytes) -> dict[str, int]:
    """Parse lines of a name and a number."""
    words = (line.split() for line in text.decode().splitlines())
    return {line[0]: int(line[1]) for line in words}


@functools.cache
def _cgroups() -> tuple[Path, ...]:
    """Return our cgroup (version 2) and those above it that have a memory limit."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ()
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        return ()
    path = root / own.lstrip("/")
    return tuple(p for p in (path, *path.parents) if p.is_relative_to(root) and _limit(p))


def _limit(cgroup: Path) -> int | None:
    try:
        text = (cgroup / "memory.max").read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _cgroup_available_bytes(cgroup: Path) -> int:
    """Return what is left of a limit, page cache counted as free: it goes first."""
    used = int((cgroup / "memory.current").read_text())
    cache = _fields((cgroup / "memory.stat").read_bytes())
    used -= cache.get("active_file", 0) + cache.get("inactive_file", 0)
    return max(0, (_limit(cgroup) or 0) - used)
