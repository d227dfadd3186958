"""Who works on a table: a process, told apart from others that have had its number before."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

# Start times are derived from the boot time, which drifts a little.
_SAME_START_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Owner:
    """One process of one machine.

    Attributes:
        host: machine and process namespace.
        pid: process number in that namespace.
        started_at: start of the process, seconds since the epoch.
    """

    host: str
    pid: int
    started_at: float

    @staticmethod
    def current() -> Owner:
        """Return this process."""
        process = psutil.Process()
        return Owner(_host(), process.pid, process.create_time())

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine, and of our numbers."""
        return self.host == _host()

    def is_known_dead(self) -> bool:
        """Whether it ran on this machine and does not any more."""
        if not self.is_here:
            return False
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started_at) < _SAME_START_SECONDS
            return not is_same or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def _host() -> str:
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{socket.gethostname()} {namespace}".strip()
