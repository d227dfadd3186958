"""Worker processes as their driver sees them: forked by the zygote, sent to, killed, reaped."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime.local.protocol import FUNCTIONS_MAX, Done, Hello, Inbox, Task, send
from runtime.local.store import Packed
from runtime.local.zygote import END, FORK, REAP, REPLY, REQUEST
from runtime.scheduling.nodes import SHELVES

SLOTS_MAX = (1 << (SHELVES - 1)) - 1
"""Free CPU slots of a node that the scheduler can tell apart."""

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])

PRELOADED = ("numpy", "pyarrow", "pyarrow.compute")
"""Imported once for all workers, if the driver has imported them: none starts a thread."""

ALLOCATOR = {"MIMALLOC_ALLOW_THP": "0", "MIMALLOC_PURGE_DELAY": "10"}
"""Arrow's allocator is told at the start of a process: pages of 4 KiB, and what is free goes back
soon. As it is, it takes pages of 2 MiB and keeps them a second: 18 compactions of three tables
had peaks of 3779 MiB in all, without large pages and after 10 ms 2937, for 6 % more CPU time.
At once, two thirds more pages are taken anew, a twentieth of the CPU time of encoding; since
batches are of 4 MiB that saves 2 MiB of 290."""

CLOSE_SECONDS = 5.0

DESCRIPTORS_PER_WORKER = 3
"""A socket, an eventfd and a pidfd, all in the driver."""

DESCRIPTORS_SPARE = 64
"""For the driver's own files and sockets."""


def workers_max() -> int:
    """Return how many workers this process can have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return SLOTS_MAX
    return min(SLOTS_MAX, max(1, (limit - DESCRIPTORS_SPARE) // DESCRIPTORS_PER_WORKER))


class Zygote:
    """The process that workers are forked from; started anew should it die.

    Args:
        session: The directory that it removes if this process is killed.
    """

    def __init__(self, session: str) -> None:
        self._session = session
        self._process: subprocess.Popen[bytes] | None = None
        # What hinders it is told to those who ask for a worker.
        with contextlib.suppress(OSError):
            self._start()

    def fork(self, fds: Sequence[int]) -> int:
        """Start a worker with these descriptors; returns its process id.

        Raises:
            OSError: It cannot be started.
        """
        try:
            pid = self._ask(FORK, 0, fds)
        except OSError:
            self.close()
            self._start()
            pid = self._ask(FORK, 0, fds)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def reap(self, pid: int) -> int | None:
        """Wait for a worker; returns its exit code, None when nobody knows."""
        try:
            return self._ask(REAP, pid)
        except OSError:
            return None

    def close(self) -> None:
        """End the process; its workers have ended before."""
        with contextlib.suppress(OSError):
            self._socket.sendall(REQUEST.pack(END, 0))
        self._socket.close()
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:  # it is stuck in an import
            process.kill()
            process.wait()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = _start(theirs.fileno(), self._session)

    def _ask(self, kind: int, pid: int, fds: Sequence[int] = ()) -> int:
        socket.send_fds(self._socket, [REQUEST.pack(kind, pid)], fds)
        reply = self._socket.recv(REPLY.size)
        if not reply:
            raise ConnectionResetError("the zygote is gone")
        return int(REPLY.unpack(reply)[0])


class WorkerProcess:
    """A process that runs `runtime.local.worker`, with the socket to it."""

    def __init__(self, zygote: Zygote, session: str) -> None:
        self._zygote = zygote
        self._socket, theirs = socket.socketpair()
        self._tokens_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE | os.EFD_CLOEXEC)
        try:
            with theirs:
                self.pid = zygote.fork([theirs.fileno(), self._tokens_fd])
            self._pid_fd = os.pidfd_open(self.pid)
        except OSError:
            self._socket.close()
            os.close(self._tokens_fd)
            raise
        self._inbox = Inbox(self.fd)
        self._functions: set[int] = set()
        send(self.fd, Hello(tuple(sys.path), dict(os.environ), str(Path.cwd()), session))

    @property
    def fd(self) -> int:
        """The descriptor on which its answers are seen."""
        return self._socket.fileno()

    @property
    def end_fd(self) -> int:
        """The descriptor on which its end is seen, even if a child of its holds the socket open."""
        return self._pid_fd

    def run(self, tasks: Sequence[tuple[Task, Packed]]) -> None:
        """Send tasks, each with its function if this worker does not have it.

        Raises:
            OSError: The worker is gone.
        """
        os.eventfd_write(self._tokens_fd, len(tasks))
        send(self.fd, [self._with_function(task, function) for task, function in tasks])

    def take_back(self, count_max: int) -> int:
        """Take tasks back that it has not started; returns how many of the last ones."""
        for count in range(count_max):
            try:
                os.eventfd_read(self._tokens_fd)
            except BlockingIOError:
                return count
        return count_max

    def answers(self) -> list[Done] | None:
        """Read what it has answered; None when it is gone."""
        frames = self._inbox.available()
        return None if frames is None else [done for frame in frames for done in frame]

    def last_answers(self) -> list[Done]:
        """Read all that is there: it has ended, and nothing comes any more."""
        os.set_blocking(self.fd, False)
        found: list[Done] = []
        with contextlib.suppress(BlockingIOError):
            while (answers := self.answers()) is not None:
                found += answers
        return found

    def kill(self) -> None:
        """Stop it at once, whatever it does."""
        try:
            signal.pidfd_send_signal(self._pid_fd, signal.SIGKILL)
        except ProcessLookupError:
            return  # it was quicker

    def close(self) -> str:
        """Kill it if it still lives, and reap it; returns how it ended."""
        self.kill()
        code = self._zygote.reap(self.pid)
        self._socket.close()
        os.close(self._tokens_fd)
        os.close(self._pid_fd)
        if code is None:
            return "an unknown exit code"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _with_function(self, task: Task, function: Packed) -> Task:
        if task.function_id in self._functions:
            return task
        if len(self._functions) >= FUNCTIONS_MAX:
            self._functions.clear()
        self._functions.add(task.function_id)
        return task._replace(function=function)


def _start(fd: int, session: str) -> "subprocess.Popen[bytes]":
    """Start the interpreter: no unsafe path, and this very package wherever it lies."""
    paths = [_PACKAGE_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        "OMP_NUM_THREADS": "1",
        **ALLOCATOR,
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
    }
    modules = [name for name in PRELOADED if name in sys.modules]
    with _interrupts_blocked():
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "runtime.local.zygote", str(fd), session, *modules],
            stdin=subprocess.DEVNULL,
            stdout=_standard_error(),
            pass_fds=(fd,),
            env=environment,
        )


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Have a child begin with SIGINT blocked: it unblocks the signal once it ignores it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _standard_error() -> int:
    """Return where a task's prints go: standard output belongs to the driver."""
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2
