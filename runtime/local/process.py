"""One worker process as its driver sees it: started, sent to, killed, reaped."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from runtime.local.protocol import FUNCTIONS_MAX, Hello, Task, receive, send
from runtime.local.store import Packed

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


class WorkerProcess:
    """A process that runs `runtime.local.worker`, with the socket to it.

    It inherits the signal mask of the calling thread: SIGINT is blocked there.
    """

    def __init__(self, session: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = _start(theirs.fileno())
        self._socket = ours
        self._functions: set[int] = set()
        python_path = os.environ.get("PYTHONPATH")
        send(self.fd, Hello(tuple(sys.path), python_path, session))

    @property
    def fd(self) -> int:
        """The descriptor on which its answers and its end are seen."""
        return self._socket.fileno()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def run(self, task: Task, function: Packed) -> None:
        """Send a task, with its function if this worker does not have it.

        Raises:
            OSError: The worker is gone.
        """
        if task.function_id not in self._functions:
            task = task._replace(function=function)
            if len(self._functions) >= FUNCTIONS_MAX:
                self._functions.clear()
            self._functions.add(task.function_id)
        send(self.fd, task)

    def answer(self) -> Any:
        """Read its next message; None when it is gone."""
        return receive(self.fd)

    def kill(self) -> None:
        """Stop it at once, whatever it does."""
        self._process.kill()

    def close(self) -> str:
        """Kill it if it still lives, and reap it; returns how it ended."""
        self._process.kill()
        code = self._process.wait()
        self._socket.close()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _start(fd: int) -> "subprocess.Popen[bytes]":
    """Start the interpreter: no unsafe path, and this very package wherever it lies."""
    paths = [_PACKAGE_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "runtime.local.worker", str(fd)],
        stdin=subprocess.DEVNULL,
        stdout=_standard_error(),
        pass_fds=(fd,),
        env=environment,
    )


def _standard_error() -> int:
    """Return where a task's prints go: standard output belongs to the driver."""
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2
