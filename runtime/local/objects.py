"""The driver's account of stored objects: what they hold of shared memory, and who goes to disk.

An object belongs to the refs that hold its `SharedFile`; the last one removes the file. When
objects and grants together exceed the budget, whole objects are spilled, oldest first. Readers
notice nothing: a file that is not in its place is looked for where spilled ones lie.
"""

import functools
import os
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable

from runtime.local.session import Session
from runtime.local.spill import spill
from runtime.local.store import Stored, remove

_PUNCH_HOLE_KEEP_SIZE = 3


class SharedFile:
    """Owns the file of a stored object: the last reference to it removes the file.

    Attributes:
        resident_bytes: What it holds of shared memory.
        freed: Segments that were given back.
        is_leaving: It is on its way to disk, or there.
    """

    __slots__ = ("__weakref__", "_freed_bytes", "freed", "is_leaving", "path", "resident_bytes")

    def __init__(self, stored: Stored, freed_bytes: "deque[int]") -> None:
        self.path = stored.path
        self.resident_bytes = stored.size_bytes
        self.freed: set[int] = set()
        self.is_leaving = False
        self._freed_bytes = freed_bytes

    def __del__(self) -> None:
        # No locks: a finalizer runs anywhere, even within a thread that holds them.
        remove(self.path)
        self._freed_bytes.append(self.resident_bytes)


class ObjectStore:
    """Accounts for the objects of one session and spills them.

    Attributes:
        spilled_bytes: What went to disk so far.
        failure: Why the last attempt to spill failed: the disk is full.
    """

    def __init__(self, session: Session, notify: Callable[[], None]) -> None:
        self.spilled_bytes = 0
        self.failure: OSError | None = None
        self._session = session
        self._notify = notify
        self._lock = threading.Lock()
        self._resident_bytes = self._leaving_bytes = 0
        self._freed_bytes: deque[int] = deque()
        self._oldest: deque[weakref.ref[SharedFile]] = deque()
        self._leaving: queue.SimpleQueue[SharedFile | None] = queue.SimpleQueue()
        self._spiller: threading.Thread | None = None
        self._given_back = threading.Event()

    def hold(self, stored: Stored) -> SharedFile:
        """Take over the file of an object."""
        file = SharedFile(stored, self._freed_bytes)
        is_on_disk = not os.path.exists(stored.path)  # noqa: PTH110 - per object
        with self._lock:
            if is_on_disk:  # shared memory was full
                self.spilled_bytes += file.resident_bytes
                file.resident_bytes = 0
            self._resident_bytes += file.resident_bytes
            self._oldest.append(weakref.ref(file))
        return file

    @property
    def resident_bytes(self) -> int:
        """Shared memory held by objects; 0 where they lie on disk anyway."""
        with self._lock:
            while self._freed_bytes:
                self._resident_bytes -= self._freed_bytes.popleft()
            return self._resident_bytes if self._session.is_memory else 0

    def relieve(self, wanted_bytes: int) -> bool:
        """Have the oldest objects spilled, so much as is wanted; returns whether any is leaving."""
        if not self._session.is_memory:
            return False
        with self._lock:
            wanted_bytes -= self._leaving_bytes
            while wanted_bytes > 0 and self._oldest:
                file = self._oldest.popleft()()
                if file is not None and file.resident_bytes:
                    file.is_leaving = True
                    wanted_bytes -= file.resident_bytes
                    self._leaving_bytes += file.resident_bytes
                    self._leaving.put(file)
                del file
            if self._leaving_bytes and self._spiller is None:
                self._spiller = threading.Thread(target=self._spill_all, daemon=True)
                self._spiller.start()
            return self._leaving_bytes > 0

    def require_room(self, limit_bytes: int) -> None:
        """Wait until objects hold no more than the limit.

        Raises:
            OSError: They cannot be spilled: the disk is full.
        """
        while (over_bytes := self.resident_bytes - limit_bytes) > 0:
            if self.failure is not None:
                failure, self.failure = self.failure, None
                text = f"the object store is full, and so is the disk ({failure.strerror})"
                raise OSError(failure.errno, text) from failure
            if not self.relieve(over_bytes):
                return
            self._given_back.wait(1.0)
            self._given_back.clear()

    def give_back(self, file: SharedFile, stored: Stored, segment: int) -> None:
        """Return the memory of one segment to the machine; whoever reads it is refused."""
        offset, length = stored.extent(segment)
        with self._lock:
            if segment in file.freed:
                return
            file.freed.add(segment)
            if not file.is_leaving and _punch(file.path, offset, length):
                file.resident_bytes -= length
                self._freed_bytes.append(length)

    def close(self) -> None:
        """End the spilling thread."""
        if self._spiller is not None:
            self._leaving.put(None)
            self._spiller.join()

    def _spill_all(self) -> None:
        while (file := self._leaving.get()) is not None:
            failure = None
            try:
                spill(file.path, file.freed)
            except OSError as error:
                failure = error
            self._account(file, failure)
            del file  # its end may be now
            self._given_back.set()
            self._notify()

    def _account(self, file: SharedFile, failure: OSError | None) -> None:
        with self._lock:
            self._leaving_bytes -= file.resident_bytes
            self.failure = failure
            if failure is None:
                self.spilled_bytes += file.resident_bytes
                self._freed_bytes.append(file.resident_bytes)
                file.resident_bytes = 0
            else:
                file.is_leaving = False
                self._oldest.appendleft(weakref.ref(file))


def _punch(path: str, offset: int, length: int) -> bool:
    """Make a hole into a file; False where the file system has none, and nothing happens."""
    try:
        fd = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return False
    try:
        return _fallocate()(fd, _PUNCH_HOLE_KEEP_SIZE, offset, length) == 0
    finally:
        os.close(fd)


@functools.cache
def _fallocate() -> Callable[[int, int, int, int], int]:
    import ctypes

    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function
