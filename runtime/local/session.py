"""The directory that holds the objects of one runtime, and what is left of dead ones.

It lies on the shared-memory file system (on disk where that is missing or tiny) and is locked as
long as its driver lives. Whoever starts next removes those that are not locked. `spill` in it
leads to a directory on disk, locked and swept alike.
"""

import contextlib
import fcntl
import os
import select
import shutil
import tempfile
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the directory in it is private and locked
SHARED_MEMORY_BYTES_MIN = 256 << 20
"""Containers default to 64 MiB of shared memory, too little for tables."""

SPILL = "spill"

END_SECONDS_MAX = 10.0
"""How long a driver may take to end once its sockets are closed."""

UNNAMED_SECONDS = 60.0
"""A directory that is older and has no name yet was left by a driver killed while it made it."""

_PREFIX = "lake-runtime"

_lock_fds: set[int] = set()


class Session:
    """The directories of one runtime, locked by this process.

    Args:
        spill_directory: Where to make the directory for what is spilled; None: the temporary one.

    Attributes:
        directory: Where objects lie.
        is_memory: Whether they are held by memory there.
    """

    def __init__(self, spill_directory: str | Path | None = None) -> None:
        base, self.is_memory = _base()
        self.directory, lock_fd = _make(base)
        on_disk, disk_lock_fd = _make(Path(spill_directory or tempfile.gettempdir()))
        self._lock_fds = (lock_fd, disk_lock_fd)
        _lock_fds.update(self._lock_fds)
        Path(self.directory, SPILL).symlink_to(on_disk)

    def path(self, name: str) -> str:
        """Return the path of an object by its name within the session."""
        return f"{self.directory}/{name}"

    def close(self) -> None:
        """Remove the directories with all objects; mapped ones stay readable."""
        remove_session(self.directory)
        _lock_fds.difference_update(self._lock_fds)
        for fd in self._lock_fds:
            os.close(fd)


def remove_session(directory: str) -> None:
    """Remove a session's objects, those on disk first: the way to them goes with the rest."""
    with contextlib.suppress(OSError):
        shutil.rmtree(Path(directory, SPILL).readlink(), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


def has_ended(driver_fd: int) -> bool:
    """Tell whether a driver has ended that is about to; its directories are nobody's then."""
    poll = select.poll()
    poll.register(driver_fd, select.POLLIN)
    return bool(poll.poll(END_SECONDS_MAX * 1000))


def sweep(base: Path) -> None:
    """Remove what drivers that died have left."""
    for path in [*base.glob(f"{_PREFIX}-*"), *base.glob(f".{_PREFIX}-*")]:
        try:
            if path.name.startswith(".") and time.time() - path.lstat().st_mtime < UNNAMED_SECONDS:
                continue  # one that is being made
            if path.lstat().st_uid != os.getuid() or path.is_symlink():
                continue
            lock_fd = _lock(path)
        except FileNotFoundError:
            continue  # somebody else was faster
        if lock_fd is not None:
            remove_session(str(path))
            os.close(lock_fd)


def _make(base: Path) -> tuple[str, int]:
    """Make a directory for this process; returns it and the descriptor that locks it."""
    sweep(base)
    # Locked before it has the name that a sweep looks for.
    directory = tempfile.mkdtemp(prefix=f".{_PREFIX}-", dir=base)
    lock_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock_fd, fcntl.LOCK_EX)
    name = f"{_PREFIX}-{os.getpid()}-{Path(directory).name.rpartition('-')[2]}"
    return str(Path(directory).rename(base / name)), lock_fd


def _base() -> tuple[Path, bool]:
    """Return where objects lie, and whether that is memory."""
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return Path(tempfile.gettempdir()), False
    is_large = status.f_bavail * status.f_frsize >= SHARED_MEMORY_BYTES_MIN
    is_writable = os.access(SHARED_MEMORY, os.W_OK)
    if is_large and is_writable:
        return SHARED_MEMORY, True
    return Path(tempfile.gettempdir()), False


def _let_go() -> None:
    """Close the locks in a child that was forked: it may outlive the process that holds them."""
    for fd in _lock_fds:
        with contextlib.suppress(OSError):
            os.close(fd)
    _lock_fds.clear()


os.register_at_fork(after_in_child=_let_go)


def _lock(directory: Path) -> int | None:
    """Lock a directory; returns the descriptor that holds the lock, None when it is taken."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    if _is_locked_by(fd):
        return fd
    os.close(fd)
    return None


def _is_locked_by(fd: int) -> bool:
    """Lock the directory of a descriptor, unless somebody else has."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
