"""The workers of one runtime: who sits where, who is idle, who answered, who uses how much."""

import contextlib
import os
import selectors
from collections.abc import Iterator, Sequence

from runtime.errors import Lost
from runtime.local.process import WorkerProcess, Zygote
from runtime.local.protocol import Done, Task
from runtime.local.session import Session
from runtime.local.store import Packed
from runtime.local.task import LocalTask, Seat
from runtime.memory import anonymous_bytes
from runtime.scheduler import Running

RETAINED_BYTES_MAX = 128 << 20
"""A worker that keeps more private memory between tasks than this above its start is replaced."""


class Crew:
    """Starts, feeds, watches and ends workers. Used by one thread.

    Args:
        session: Where objects lie.
        wake_fd: A descriptor that `listen` wakes up for as well.
    """

    def __init__(self, session: Session, wake_fd: int) -> None:
        self._session = session
        self._wake_fd = wake_fd
        self._selector = selectors.DefaultSelector()
        self._selector.register(wake_fd, selectors.EVENT_READ)
        self._zygote = Zygote(session.directory)
        self._seats: dict[int, Seat] = {}
        self._idle: list[Seat] = []

    @property
    def size(self) -> int:
        """Living workers."""
        return len(self._seats)

    @property
    def running(self) -> int:
        """Tasks that run now."""
        return sum(bool(seat.tasks) for seat in list(self._seats.values()))

    @property
    def is_busy(self) -> bool:
        """Whether any worker runs a task."""
        return any(seat.tasks for seat in self._seats.values())

    def take_seat(self) -> Seat:
        """Return a worker that has nothing to do, a new one if need be.

        Raises:
            OSError: No worker can be started.
        """
        if self._idle:
            return self._idle.pop()
        seat = Seat(WorkerProcess(self._zygote, self._session.directory))
        self._seats[seat.process.fd] = seat
        for fd in (seat.process.fd, seat.process.end_fd):
            self._selector.register(fd, selectors.EVENT_READ, seat)
        return seat

    def send(self, seat: Seat, batch: Sequence[LocalTask]) -> list[tuple[LocalTask, Lost]]:
        """Start a batch; returns the tasks that cannot, since an input of theirs is gone.

        A worker that is found dead is seen by `listen` like any other.
        """
        messages: list[tuple[Task, Packed]] = []
        failed = []
        for task in batch:
            task.begin(self._session.path(f"r{task.id}-{task.attempt}"))
            try:
                messages.append((task.message(), task.function.packed))
            except Lost as failure:
                failed.append((task, failure))
            else:
                seat.tasks.append(task)
        with contextlib.suppress(OSError):
            if messages:
                seat.process.run(messages)
        return failed

    def listen(self, timeout_seconds: float | None) -> Iterator[tuple[Seat, list[Done] | None]]:
        """Wait; yield what workers answered, None for one that is gone."""
        gone = set()
        for key, _ in self._selector.select(timeout_seconds):
            seat: Seat | None = key.data
            if seat is None:
                os.eventfd_read(self._wake_fd)
            elif seat not in gone:
                for answers in _heard(seat, key.fd):
                    yield seat, answers
                    if answers is None:
                        gone.add(seat)

    def keep(self, seat: Seat, retained_bytes: int) -> None:
        """Take note that a worker has nothing to do."""
        if retained_bytes <= RETAINED_BYTES_MAX:
            self._idle.append(seat)
        else:
            seat.process.kill()  # its end is seen like any other

    def remove(self, seat: Seat) -> str:
        """Forget a worker that is gone; returns how it ended."""
        del self._seats[seat.process.fd]
        for fd in (seat.process.fd, seat.process.end_fd):
            self._selector.unregister(fd)
        if seat in self._idle:
            self._idle.remove(seat)
        pid = seat.process.pid
        return f"process {pid} ended with {seat.process.close()}"

    def seat_of(self, task: LocalTask) -> Seat | None:
        """Return the worker that was sent a task."""
        return next((seat for seat in self._seats.values() if task in seat.tasks), None)

    def sample(self) -> list[Running]:
        """Measure all workers; those between tasks are within their rights whatever they hold."""
        return [_sampled(seat) for seat in self._seats.values()]

    def seat_at(self, pid: int) -> Seat | None:
        """Return the worker of a process id."""
        return next((seat for seat in self._seats.values() if seat.process.pid == pid), None)

    def close(self) -> None:
        """End all workers."""
        for seat in self._seats.values():
            seat.process.kill()
        for seat in self._seats.values():
            seat.process.close()
        self._seats.clear()
        self._selector.close()
        self._zygote.close()


def _heard(seat: Seat, fd: int) -> Iterator[list[Done] | None]:
    """Read what one of a worker's two descriptors tells."""
    if fd == seat.process.fd:
        yield seat.process.answers()
    else:
        yield seat.process.last_answers()
        yield None


def _sampled(seat: Seat) -> Running:
    used_bytes = anonymous_bytes(seat.process.pid)
    if not seat.tasks:
        return Running(seat.process.pid, used_bytes, used_bytes)
    task = seat.tasks[0]
    task.seen_bytes = max(task.seen_bytes, used_bytes)
    return Running(seat.process.pid, task.granted_bytes, used_bytes)
