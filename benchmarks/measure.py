"""Measure a command as a whole process tree: CPU-seconds, memory, bytes through system calls."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

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
            except OSError:
                continue
            total += rollup.get("Pss", 0)
            self.peak_process_bytes = max(self.peak_process_bytes, rollup.get("Anonymous", 0))
        self.peak_tree_bytes = max(self.peak_tree_bytes, total)


def _rollup(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    pairs = (line.split()[:2] for line in lines)
    return {name.rstrip(":"): int(kib) * 1024 for name, kib in pairs}


def _tree_io(pid: int) -> dict[str, int]:
    """Wait for a process to end, without reaping it, and read what it and its tree transferred.

    The kernel adds the counters of a child to its parent's when the parent waits for it.
    """
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def measure(command: Sequence[str], environment: Mapping[str, str]) -> tuple[Measurement, str]:
    """Run a command to its end and return what it used and what it printed to stdout.

    Raises:
        CommandFailedError: it ended with another exit code than 0.
    """
    before, started = os.times(), time.monotonic()
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(
            list(command), env={**os.environ, **environment}, stdout=stdout, stderr=stderr
        )
        sampler = _Sampler(psutil.Process(process.pid))
        watcher = threading.Thread(target=sampler.watch, daemon=True)
        watcher.start()
        io = _tree_io(process.pid)
        code = process.wait()
        # Descendants that were waited for by their parents are part of this sum.
        after = os.times()
        sampler.stopped.set()
        watcher.join()
        printed, said = (_content(stream) for stream in (stdout, stderr))
    if code != 0:
        raise CommandFailedError(f"{' '.join(command)} -> {code}\n{printed}\n{said}")
    used = Measurement(
        cpu_seconds=(after.children_user - before.children_user)
        + (after.children_system - before.children_system),
        wall_seconds=time.monotonic() - started,
        peak_tree_bytes=sampler.peak_tree_bytes,
        peak_process_bytes=sampler.peak_process_bytes,
        read_bytes=io["rchar"],
        write_bytes=io["wchar"],
        read_calls=io["syscr"],
        write_calls=io["syscw"],
    )
    return used, printed


def _content(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read()
