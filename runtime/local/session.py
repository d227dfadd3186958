"""The directory that holds the objects of one runtime, and what is left of dead ones.

It lies on the shared-memory file system (on disk where that is missing or tiny) and is locked as
long as its driver lives. Whoever starts next removes those that are not locked.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the directory in it is private and locked
SHARED_MEMORY_BYTES_MIN = 256 << 20
"""Containers default to 64 MiB of shared memory, too little for tables."""

_PREFIX = "lake-runtime"


class Session:
    """The directory of one runtime, locked by this process."""

    def __init__(self) -> None:
        base = _base()
        sweep(base)
        # Locked before it has the name that a sweep looks for.
        directory = tempfile.mkdtemp(prefix=f".{_PREFIX}-", dir=base)
        self._lock_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        name = f"{_PREFIX}-{os.getpid()}-{Path(directory).name.rpartition('-')[2]}"
        self.directory = str(Path(directory).rename(base / name))

    def path(self, name: str) -> str:
        """Return the path of an object by its name within the session."""
        return f"{self.directory}/{name}"

    def size_bytes(self) -> int:
        """Return what all objects hold; 0 once closed."""
        return sum(_size_bytes(path) for path in Path(self.directory).glob("*"))

    def close(self) -> None:
        """Remove the directory with all objects; mapped ones stay readable."""
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self._lock_fd)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # dropped meanwhile


def sweep(base: Path) -> None:
    """Remove what drivers that died have left."""
    for path in base.glob(f"{_PREFIX}-*"):
        try:
            if path.lstat().st_uid != os.getuid() or path.is_symlink():
                continue
            lock_fd = _lock(path)
        except FileNotFoundError:
            continue  # somebody else was faster
        if lock_fd is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock_fd)


def _base() -> Path:
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return Path(tempfile.gettempdir())
    is_large = status.f_bavail * status.f_frsize >= SHARED_MEMORY_BYTES_MIN
    is_writable = os.access(SHARED_MEMORY, os.W_OK)
    return SHARED_MEMORY if is_large and is_writable else Path(tempfile.gettempdir())


def _lock(directory: Path) -> int | None:
    """Lock a directory; returns the descriptor that holds the lock, None when it is taken."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
