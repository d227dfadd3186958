"""Measure a command as a whole process tree: CPU-seconds, memory, bytes through system calls."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.02


class CommandFailedError(RuntimeError):
    """The measured command did not end with exit code 0; its output is in the message."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run of a command used.

    Attributes:
        cpu_seconds: user and system time of the process and all its descendants.
        wall_seconds: from start to exit.
        peak_tree_bytes: largest sum of proportional resident memory over the tree, sampled.
        peak_process_bytes: largest anonymous resident memory of any one process, sampled.
        read_bytes: bytes returned by read calls of the tree, files and pipes alike.
        write_bytes: bytes given to write calls.
        read_calls: number of read calls.
        write_calls: number of write calls.
    """

    cpu_seconds: float
    wall_seconds: float
    peak_tree_bytes: int
    peak_process_bytes: int
    read_bytes: int
    write_bytes: int
    read_calls: int
    write_calls: int


@dataclass(slots=True)
class _Sampler:
    root: psutil.Process
    peak_tree_bytes: int = 0
    peak_process_bytes: int = 0
    io_by_process: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self.stopped.wait(SAMPLE_SECONDS):
            self.sample()

    def sample(self) -> None:
        total = 0
        try:
            tree = [self.root, *self.root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in tree:
            try:
                rollup = _rollup(process.pid)
                counters = process.io_counters()
            except (psutil.Error, OSError):
                continue
            total += rollup.get("Pss", 0)
            self.peak_process_bytes = max(self.peak_process_bytes, rollup.get("Anonymous", 0))
            self.io_by_process[process.pid] = (
                counters.read_chars,
                counters.write_chars,
                counters.read_count,
                counters.write_count,
            )
        self.peak_tree_bytes = max(self.peak_tree_bytes, total)


def _rollup(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    pairs = (line.split()[:2] for line in lines)
    return {name.rstrip(":"): int(kib) * 1024 for name, kib in pairs}


def measure(command: Sequence[str], environment: Mapping[str, str]) -> tuple[Measurement, str]:
    """Run a command to its end and return what it used and what it printed to stdout.

    Raises:
        CommandFailedError: it ended with another exit code than 0.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        list(command),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    sampler = _Sampler(psutil.Process(process.pid))
    watcher = threading.Thread(target=sampler.watch, daemon=True)
    watcher.start()
    before = os.times()
    stdout, stderr = process.communicate()
    # Descendants that were waited for by their parents are part of this sum.
    after = os.times()
    sampler.stopped.set()
    watcher.join()
    if process.returncode != 0:
        raise CommandFailedError(f"{' '.join(command)} -> {process.returncode}\n{stdout}\n{stderr}")
    io = [sum(column) for column in zip(*sampler.io_by_process.values(), strict=True)] or [0] * 4
    used = Measurement(
        cpu_seconds=(after.children_user - before.children_user)
        + (after.children_system - before.children_system),
        wall_seconds=time.monotonic() - started,
        peak_tree_bytes=sampler.peak_tree_bytes,
        peak_process_bytes=sampler.peak_process_bytes,
        read_bytes=io[0],
        write_bytes=io[1],
        read_calls=io[2],
        write_calls=io[3],
    )
    return used, stdout
