"""Events on their way from any thread to the dispatcher's, and how they wake it up."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Event = Callable[[], None]


class Mailbox:
    """Takes events from all threads and hands them over in order to one.

    Attributes:
        fd: Readable when there is something for a reader that is asleep.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self._events: deque[Event] = deque()
        self._is_asleep = self._is_closed = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there."""
        return not self._events

    def post(self, event: Event) -> None:
        """Leave an event; once closed it happens at once, in the calling thread."""
        self._events.append(event)
        if self._is_asleep:
            # Once is enough, and each time would let another thread of ours run first.
            self._is_asleep = False
            os.eventfd_write(self.fd, 1)
        if self._is_closed:
            self.take()

    def take(self) -> None:
        """Let happen what is there."""
        while self._events:
            try:
                event = self._events.popleft()
            except IndexError:
                return  # another thread was faster
            event()

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Have `fd` wake the reader up meanwhile; it looks whether there is something first."""
        self._is_asleep = True
        try:
            yield
        finally:
            self._is_asleep = False

    def close(self) -> None:
        """Be read no more."""
        self._is_closed = True
        self.take()
