"""The worker process: runs one task after the other until its driver is gone.

    python -m runtime.local.worker FD

It imports nothing that its tasks do not need, and never the driver's `__main__`. Standard output
goes to standard error, the protocol has a descriptor of its own.
"""

import os
import select
import signal
import sys
from _thread import start_new_thread
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from runtime.attempt import run_attempt
from runtime.local.protocol import FUNCTIONS_MAX, Done, Hello, Task, receive, send
from runtime.local.store import Packed, Stored, pack, unpack
from runtime.memory import (
    Meter,
    limit_private_memory,
    own_anonymous_bytes,
    unlimit_private_memory,
)
from runtime.serialization import encode, in_memory

# The kernel's own killer takes a worker before the driver.
_OOM_SCORE = "500"


def main(fd: int) -> None:
    """Serve the driver at the other end of a socket."""
    # ^C reaches the whole group, and the driver decides. It was blocked until here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    hello = cast("Hello | None", receive(fd))
    if hello is None:
        return
    _become_like(hello)
    start_new_thread(_die_with_driver, (fd, hello.session))
    _serve(fd)
    while True:
        signal.pause()  # the other thread has seen the same end, and tidies up


class _Functions:
    """The functions this worker has been sent, unpacked when first called."""

    def __init__(self) -> None:
        self._packed: dict[int, Packed] = {}
        self._unpacked: dict[int, Callable[..., object]] = {}

    def keep(self, function_id: int, function: Packed) -> None:
        """Keep a function; what does not unpack fails each of its tasks alike."""
        if len(self._packed) >= FUNCTIONS_MAX:
            self._packed.clear()
            self._unpacked.clear()
        self._packed[function_id] = function

    def get(self, function_id: int) -> Callable[..., object]:
        """Return a function that was kept."""
        if function_id not in self._unpacked:
            function = cast("Callable[..., object]", unpack(self._packed[function_id]))
            self._unpacked[function_id] = function
        return self._unpacked[function_id]


def _serve(fd: int) -> None:
    meter, functions = Meter(), _Functions()
    while True:
        task = cast("Task | None", receive(fd))
        if task is None:
            return
        done = _run(task, functions, meter)
        _flush()
        try:
            send(fd, done)
        except OSError:
            return


def _run(task: Task, functions: _Functions, meter: Meter) -> Done:
    if task.function is not None:
        functions.keep(task.function_id, task.function)
    ended = run_attempt(
        lambda: _body(task, functions),
        meter=meter,
        granted_bytes=task.granted_bytes,
        mapped_bytes=sum(packed.size_bytes for packed in task.inputs if isinstance(packed, Stored)),
    )
    failure = None if ended.failure is None else tuple(in_memory(encode(ended.failure)))
    return Done(task.id, ended.result, failure, ended.usage, own_anonymous_bytes())


def _body(task: Task, functions: _Functions) -> Packed:
    limit_private_memory(task.granted_bytes)
    try:
        use_cpus(task.cpus)
        fn = functions.get(task.function_id)
        value: Any = fn(*(unpack(packed) for packed in task.inputs))
        return pack(encode(value), task.stored_at)
    finally:
        unlimit_private_memory()


def use_cpus(cpus: int) -> None:
    """Size thread pools by the grant; OMP_NUM_THREADS counts for what is imported later."""
    os.environ["OMP_NUM_THREADS"] = str(cpus)
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.set_cpu_count(cpus)


def _become_like(hello: Hello) -> None:
    sys.path[:] = hello.sys_path
    if hello.python_path is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = hello.python_path
    try:
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    except OSError:
        return  # not allowed here: only a preference


def _die_with_driver(fd: int, session: str) -> None:
    """Wait for the hang-up of the socket, whatever the task is doing, and leave nothing behind.

    A driver that lets go of a worker kills it: a hang-up is the driver's death.
    """
    poll = select.poll()
    poll.register(fd, 0)  # hang-up and error are always reported
    poll.poll()
    try:
        _remove(session)
    finally:
        os._exit(0)


def _remove(session: str) -> None:
    """Remove the objects, once the kernel has released the lock of the dead driver."""
    import fcntl
    import shutil

    try:
        directory_fd = os.open(session, os.O_RDONLY)
    except FileNotFoundError:
        return  # another worker was faster
    fcntl.flock(directory_fd, fcntl.LOCK_EX)
    shutil.rmtree(session, ignore_errors=True)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # closed by the task or by the reader


if __name__ == "__main__":
    main(int(sys.argv[1]))
