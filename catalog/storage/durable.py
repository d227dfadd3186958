"""Local files that appear whole and stay: atomic and durable by the system's own calls.

The bytes are written and synchronised before they have their name, so that no reader sees a part
of them and a crash leaves either the old bytes or the new. Directories are synchronised as well:
without that, a commit that was reported may be gone after a power failure.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A file without a name can be given one only by way of /proc (open(2), O_TMPFILE).
_CAN_BE_UNNAMED = hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir()
# What file systems answer that have no such files; the last is of kernels before 3.11.
_NO_UNNAMED_FILES = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EISDIR}


def place(path: Path, data: bytes) -> None:
    """Store a whole file, over what was there; the name it has until then ends with `.part`.

    Raises:
        OSError: it could not be stored; what was there is untouched.
    """
    make_directories(path.parent)
    with _staged(path, data) as staged:
        staged.replace(path)
    synchronise(path.parent)


def place_new(path: Path, data: bytes) -> None:
    """Store a whole file where there is none; a process that is killed leaves nothing of it.

    That holds where the file system has unnamed files: elsewhere, as in `place`.

    Raises:
        FileExistsError: the name is taken; of racing writers, one is not told this.
        OSError: it could not be stored.
    """
    make_directories(path.parent)
    if not (_CAN_BE_UNNAMED and _placed_unnamed(path, data)):
        with _staged(path, data) as staged:
            os.link(staged, path)
    synchronise(path.parent)


def write_fully(descriptor: int, data: memoryview) -> None:
    """Write all of it: the system may take less at a time."""
    while data:
        data = data[os.write(descriptor, data) :]


def make_directories(directory: Path) -> None:
    """Create what is missing; a new directory is durable only with its entry in its parent."""
    if directory.is_dir():
        return
    make_directories(directory.parent)
    directory.mkdir(exist_ok=True)
    synchronise(directory.parent)


def synchronise(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _placed_unnamed(path: Path, data: bytes) -> bool:
    """Give a durable file without a name this one; tell whether there are such files here."""
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o666)
    except OSError as error:
        if error.errno not in _NO_UNNAMED_FILES:
            raise
        return False
    try:
        write_fully(descriptor, memoryview(data))
        os.fsync(descriptor)
        # Only with a directory's descriptor (of no use beside a whole path) are links followed.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor)
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _staged(path: Path, data: bytes) -> Iterator[Path]:
    """Write a durable file beside its place, which is gone afterwards if it was not moved."""
    staged = path.parent / f".{path.name}.{secrets.token_hex(8)}.part"
    try:
        with staged.open("xb", buffering=0) as file:
            write_fully(file.fileno(), memoryview(data))
            os.fsync(file.fileno())
        yield staged
    finally:
        staged.unlink(missing_ok=True)
