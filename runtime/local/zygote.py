"""The warm parent of all workers: forks them, so that a new one costs milliseconds.

    python -m runtime.local.zygote FD SESSION [MODULE...]

It has one thread and runs no task; it imports the modules named, which no worker then has to
import again, and never the driver's `__main__`. A request is `FORK` with the descriptors of a new
worker, answered by its process id, `REAP` with a process id, answered by how that ended, or `END`.
A driver that is gone without it was killed: nobody but us may know of its session by then. Its end
is seen on its process, since a child of its may hold the socket open.
"""

import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from runtime.local import worker
from runtime.local.session import SPILL, has_ended, remove_session

FORK, REAP, END = range(3)
REQUEST = struct.Struct("<qq")
REPLY = struct.Struct("<q")
_CREDENTIALS = struct.Struct("3i")


def main(fd: int, session: str, modules: Sequence[str]) -> None:
    """Serve the driver at the other end of a socket until it is gone, and then tidy up."""
    # ^C reaches the whole group, and the driver decides. It was blocked until here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # Temporary files of tasks go with the session: a worker that is killed removes none itself.
    tempfile.tempdir = str(Path(session, SPILL).resolve())
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=fd) as driver:
        driver_fd = _process_of(driver)
        if driver_fd is None:
            remove_session(session)
            return
        parent = _Parent(driver, driver_fd)
        if not parent.serve() and has_ended(driver_fd):
            parent.end_workers()
            remove_session(session)


def _process_of(driver: socket.socket) -> int | None:
    """Return the process that made the socket, our parent; None when it is gone."""
    credentials = driver.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, _, _ = _CREDENTIALS.unpack(credentials)
    try:
        driver_fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Else the number is another's by now. A parent that still is one keeps its number.
    return driver_fd if os.getppid() == pid else None


class _Parent:
    """Forks workers, reaps them, and kills those that are left when the driver is dead.

    A worker sees that end by itself, but not while it is stopped.
    """

    def __init__(self, driver: socket.socket, driver_fd: int) -> None:
        self._driver = driver
        self._driver_fd = driver_fd
        self._workers: set[int] = set()

    def serve(self) -> bool:
        """Do what is asked; returns whether the driver said that this is the end."""
        poll = select.poll()
        for fd in (self._driver.fileno(), self._driver_fd):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._driver.fileno() not in ready:
                return False
            try:
                request, fds, _, _ = socket.recv_fds(self._driver, REQUEST.size, 2)
                if not request:
                    return False
                kind, pid = REQUEST.unpack(request)
                if kind == END:
                    return True
                self._driver.sendall(
                    REPLY.pack(self._fork(fds) if kind == FORK else self._reap(pid))
                )
            except (BrokenPipeError, ConnectionResetError):
                return False

    def end_workers(self) -> None:
        """Kill all workers and wait until they have ended."""
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
        for pid in list(self._workers):
            self._reap(pid)

    def _fork(self, fds: Sequence[int]) -> int:
        """Start a worker; returns its process id, or a negative error number."""
        try:
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 1)
        if pid == 0:
            self._driver.close()
            worker.main(fds[0], fds[1], self._driver_fd)
            os._exit(0)
        if pid > 0:
            self._workers.add(pid)
        for fd in fds:
            os.close(fd)
        return pid

    def _reap(self, pid: int) -> int:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self._workers.discard(pid)
        return code


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
