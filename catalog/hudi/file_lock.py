"""A lock that is a file: `FileSystemBasedLockProvider` of Hudi, on local file systems.

Whoever creates the file holds the lock, and deletes it afterwards. A writer that is killed leaves
it for ever; ours hold a lock of the operating system on their file as well, which ends with them:
a file of ours that nobody holds is taken over by the next of us.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

from catalog.errors import LockLostError
from catalog.location import Location
from catalog.storage.faults import os_faults

# Says in the file that it is one of ours.
_OURS = "compact"


class FileLock:
    """The lock of one table on a local file system."""

    def __init__(self, location: Location) -> None:
        """Take nothing yet.

        Args:
            location: the file.
        """
        self._location = location
        self._path = Path(location.path)
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if it is free, or if one of us died with it."""
        with os_faults("lock", self._location):
            descriptor = self._create()
            self._descriptor = self._take_over() if descriptor is None else descriptor
        return self._descriptor is not None

    def require(self) -> None:
        """Make sure that the file is still ours.

        Raises:
            LockLostError: it is gone, or another one.
        """
        if self._descriptor is None or not self._is_in_place(self._descriptor):
            raise LockLostError(
                f"the lock {self._location} was taken away while it was held;"
                " what was not completed is not in the table",
                hint="let writers' locks not expire sooner than their work is done, and run again",
            )

    def release(self) -> None:
        """Delete the file, if it is ours."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        with os_faults("unlock", self._location):
            if self._is_in_place(descriptor):
                self._path.unlink()
            os.close(descriptor)

    def describe_holder(self) -> str:
        """Say who holds it."""
        with suppress(OSError, ValueError):
            told = json.loads(self._path.read_text())
            return f"process {told['pid']} on {told['host']}"
        return f"whoever made {self._location}"

    def _create(self) -> int | None:
        """Make the file, complete and locked before it is seen; None if there is one."""
        text = json.dumps({"owner": _OURS, "host": socket.gethostname(), "pid": os.getpid()})
        staged = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, text.encode())
            os.link(staged, self._path)
        except FileExistsError:
            os.close(descriptor)
            return None
        except BaseException:  # interruptions too: the descriptor holds a lock
            os.close(descriptor)
            raise
        finally:
            staged.unlink()
        return descriptor

    def _take_over(self) -> int | None:
        """Take a file of ours whose maker is dead; None if it is not one."""
        try:
            descriptor = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_in_place(descriptor) and _is_ours(os.pread(descriptor, 1024, 0)):
                return descriptor
        except BlockingIOError:
            pass
        os.close(descriptor)
        return None

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False


def _is_ours(content: bytes) -> bool:
    with suppress(ValueError):
        told = json.loads(content)
        return isinstance(told, dict) and told.get("owner") == _OURS
    return False
