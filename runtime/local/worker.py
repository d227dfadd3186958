"""The worker process: runs one task after the other until its driver is gone.

It is forked from the zygote and imports nothing that its tasks do not need, and never the driver's
`__main__`. Standard output goes to standard error, the protocol has a descriptor of its own.
"""

import os
import select
import signal
import sys
import threading
import time
from _thread import start_new_thread
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, cast

from runtime.attempt import as_segments, call, run_attempt
from runtime.local.protocol import FUNCTIONS_MAX, Done, Hello, Inbox, Task, send
from runtime.local.session import has_ended, remove_session
from runtime.local.store import (
    Packed,
    Piece,
    encode_result,
    mapped_bytes,
    pack,
    unpack,
    unpack_argument,
)
from runtime.memory import (
    ArrowPools,
    Meter,
    limit_private_memory,
    own_anonymous_bytes,
    unlimit_private_memory,
)
from runtime.serialization import encode, in_memory, rows_of

# The kernel's own killer takes a worker before the driver.
_OOM_SCORE = "500"

_ANSWER_SECONDS, _LATE_SECONDS = 1e-3, 5e-3


def main(fd: int, tokens_fd: int, driver_fd: int) -> None:
    """Serve the driver at the other end of a socket; `driver_fd` is its process."""
    inbox = Inbox(fd)
    hello = cast("Hello | None", inbox.receive())
    if hello is None:
        return
    _become_like(hello)
    start_new_thread(_die_with_driver, (fd, driver_fd, hello.session))
    _serve(fd, tokens_fd, inbox)
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
            function = cast("Callable[..., object]", unpack(Piece(self._packed[function_id])))
            self._unpacked[function_id] = function
        return self._unpacked[function_id]


class _Answers:
    """Sends answers some at a time, and none much later than it was there.

    Each message wakes the driver up. A second thread sends what the first one cannot, since the
    next task takes longer than those before.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._pending: list[Done] = []
        self._sent_seconds = 0.0
        start_new_thread(self._send_late, ())

    def add(self, done: Done) -> None:
        with self._lock:
            self._pending.append(done)
        if time.monotonic() - self._sent_seconds > _ANSWER_SECONDS:
            self.send()
        elif len(self._pending) == 1:
            self._some.set()

    def send(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, []
            self._sent_seconds = time.monotonic()
            if pending:
                with suppress(OSError):  # the driver is gone, which is seen elsewhere
                    send(self._fd, pending)

    def _send_late(self) -> None:
        while self._some.wait():
            self._some.clear()
            time.sleep(_LATE_SECONDS)
            self.send()


class _Result(NamedTuple):
    packed: Packed | None
    input_rows: int
    output_rows: int


def _serve(fd: int, tokens_fd: int, inbox: Inbox) -> None:
    meter, functions = Meter(ArrowPools()), _Functions()
    start_bytes, answers = own_anonymous_bytes(), _Answers(fd)
    while True:
        tasks = cast("list[Task] | None", inbox.receive())
        if tasks is None:
            return
        for task in tasks:
            if task.function is not None:
                functions.keep(task.function_id, task.function)
        for task in tasks:
            try:
                os.eventfd_read(tokens_fd)
            except BlockingIOError:
                break  # the driver took the rest back
            done = _run(task, functions, meter)
            answers.add(done._replace(retained_bytes=done.retained_bytes - start_bytes))
        answers.send()


def _run(task: Task, functions: _Functions, meter: Meter) -> Done:
    ended = run_attempt(
        lambda: _body(task, functions),
        meter=meter,
        granted_bytes=task.granted_bytes,
        mapped_bytes=sum(map(mapped_bytes, task.inputs)),
    )
    failure = None if ended.failure is None else tuple(in_memory(encode(ended.failure)))
    packed, input_rows, output_rows = ended.result or _Result(None, 0, 0)
    return Done(
        id=task.id,
        result=packed,
        failure=failure,
        usage=ended.usage,
        input_rows=input_rows,
        output_rows=output_rows,
        retained_bytes=own_anonymous_bytes(),
    )


def _body(task: Task, functions: _Functions) -> _Result:
    limit_private_memory(task.granted_bytes)
    try:
        use_cpus(task.cpus)
        fn = functions.get(task.function_id)
        inputs = [unpack_argument(argument) for argument in task.inputs]
        input_rows = rows_of(inputs)
        value = as_segments(call(fn, inputs[0] if task.is_spread else inputs), task.returns)
        del inputs
        segments, is_list = encode_result(value)
        output_rows = rows_of(value.values if is_list else value)
        return _Result(pack(segments, task.stored_at, is_list=is_list), input_rows, output_rows)
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
    os.environ.clear()
    os.environ.update({"OMP_NUM_THREADS": "1", **hello.environment})
    with suppress(OSError):  # gone
        os.chdir(hello.directory)
    with suppress(OSError):  # not allowed here: only a preference
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def _die_with_driver(fd: int, driver_fd: int, session: str) -> None:
    """Wait for the driver's end, whatever the task is doing, and leave nothing behind.

    A child of the driver may hold the socket open. A driver that lets go of a worker kills it: a
    hang-up is the driver's death as well, sometimes a little before it.
    """
    poll = select.poll()
    poll.register(fd, 0)  # hang-up and error are always reported
    poll.register(driver_fd, select.POLLIN)
    poll.poll()
    try:
        if has_ended(driver_fd):
            remove_session(session)
    finally:
        os._exit(0)
