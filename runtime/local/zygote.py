"""The warm parent of all workers: forks them, so that a new one costs milliseconds.

    python -m runtime.local.zygote FD SESSION [MODULE...]

It has one thread and runs no task; it imports the modules named, which no worker then has to
import again, and never the driver's `__main__`. A request is `FORK` with the descriptors of a new
worker, answered by its process id, `REAP` with a process id, answered by how that ended, or `END`.
A driver that is gone without it was killed: nobody but us may know of its session by then.
"""

import gc
import importlib
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence

from runtime.local import worker
from runtime.local.session import remove_abandoned

FORK, REAP, END = range(3)
REQUEST = struct.Struct("<qq")
REPLY = struct.Struct("<q")


def main(fd: int, session: str, modules: Sequence[str]) -> None:
    """Serve the driver at the other end of a socket until it is gone, and then tidy up."""
    # ^C reaches the whole group, and the driver decides. It was blocked until here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=fd) as driver:
        if not _serve(driver):
            remove_abandoned(session)


def _serve(driver: socket.socket) -> bool:
    """Do what is asked; returns whether the driver said that this is the end."""
    while True:
        try:
            request, fds, _, _ = socket.recv_fds(driver, REQUEST.size, 2)
            if not request:
                return False
            kind, pid = REQUEST.unpack(request)
            if kind == END:
                return True
            driver.sendall(REPLY.pack(_fork(driver, fds) if kind == FORK else _reap(pid)))
        except (BrokenPipeError, ConnectionResetError):
            return False


def _fork(driver: socket.socket, fds: Sequence[int]) -> int:
    """Start a worker; returns its process id, or a negative error number."""
    try:
        pid = os.fork()
    except OSError as error:
        pid = -(error.errno or 1)
    if pid == 0:
        driver.close()
        worker.main(*fds)
        os._exit(0)
    for fd in fds:
        os.close(fd)
    return pid


def _reap(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
