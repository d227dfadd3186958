"""Files of this machine as objects: whole ones placed, outputs streamed, ranges read."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import ObjectExistsError, ObjectNotFoundError
from catalog.storage.durable import make_directories, place, place_new, synchronise, write_fully
from catalog.storage.faults import os_faults
from catalog.storage.output import OutputFile
from catalog.storage.values import ByteRange, Meter, ObjectInfo, require_length

if TYPE_CHECKING:
    import pyarrow as pa

    from catalog.location import Location

_OUTPUT_BUFFER_BYTES = 1 << 20
_COPY_BUFFER_BYTES = 1 << 20
# What the kernel answers when it cannot copy between these two files by itself.
_NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """The local file system as a `Backend`."""

    meter: Meter

    def head(self, location: Location) -> ObjectInfo:
        """Return what is known of a file; a directory is no object."""
        self.meter.add(requests=1)
        with os_faults("look up", location):
            status = Path(location.path).stat()
        info = _info(location, status)
        if info is None:
            raise ObjectNotFoundError(f"cannot look up {location}: it is not a file")
        return info

    def read(self, location: Location) -> bytes:
        """Return a whole file."""
        with os_faults("read", location):
            data = Path(location.path).read_bytes()
        self.meter.add(requests=1, bytes_read=len(data))
        return data

    def read_ranges(self, location: Location, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return one part per range."""
        with os_faults("read", location), Path(location.path).open("rb", buffering=0) as file:
            parts = [_read_fully(file.fileno(), wanted) for wanted in ranges]
        for wanted, part in zip(ranges, parts, strict=True):
            require_length(location, wanted, len(part))
        self.meter.add(requests=len(ranges), bytes_read=sum(map(len, parts)))
        return parts

    def read_version(self, location: Location, wanted: ByteRange) -> tuple[bytes, ObjectInfo]:
        """Return exactly these bytes and what is known of the file that has them."""
        with os_faults("read", location), Path(location.path).open("rb", buffering=0) as file:
            info = _info(location, os.fstat(file.fileno()))
            part = _read_fully(file.fileno(), wanted)
        require_length(location, wanted, len(part))
        self.meter.add(requests=1, bytes_read=len(part))
        if info is None:
            raise ObjectNotFoundError(f"cannot read {location}: it is not a file")
        return part, info

    def write(self, location: Location, data: bytes) -> None:
        """Store a whole file, over what was there."""
        with os_faults("write", location):
            place(Path(location.path), data)
        self.meter.add(requests=1, bytes_written=len(data))

    def create(self, location: Location, data: bytes) -> None:
        """Store a file where there is none: of racing writers, the hard link lets one win."""
        with os_faults("create", location):
            place_new(Path(location.path), data)
        self.meter.add(requests=1, bytes_written=len(data))

    def replace(self, location: Location, data: bytes, *, etag: str) -> None:
        """Store over the version with this etag, exclusive among callers of this method."""
        directory = location.parent
        with os_faults("replace", location), _locked(Path(directory.path)):
            try:
                is_unchanged = self.head(location).etag == etag
            except ObjectNotFoundError:
                is_unchanged = False
            if not is_unchanged:
                raise ObjectExistsError(f"cannot replace {location}: it has changed or is gone")
            self.write(location, data)

    def delete(self, locations: Sequence[Location]) -> None:
        """Delete files; directories stay."""
        for location in locations:
            with os_faults("delete", location), suppress(FileNotFoundError):
                Path(location.path).unlink()
        self.meter.add(requests=len(locations))

    def list(self, prefix: Location) -> Iterator[ObjectInfo]:
        """Yield every file below a directory, links not followed, in a stable order."""
        self.meter.add(requests=1)
        with os_faults("list", prefix):
            try:
                entries = sorted(os.scandir(prefix.path), key=lambda entry: entry.name)
            except (FileNotFoundError, NotADirectoryError):
                return
        for entry in entries:
            location = prefix.child(entry.name)
            if entry.is_dir(follow_symlinks=False):
                yield from self.list(location)
            else:
                yield from _listed(entry, location)

    def copy(self, source: Location, target: Location) -> None:
        """Copy a file over the target."""
        self.write(target, self.read(source))

    def open_input(self, location: Location, *, size_bytes: int | None) -> pa.NativeFile:
        """Open for random access; the file itself knows its size."""
        import pyarrow as pa

        from catalog.storage.input import LocalInputFile

        return pa.PythonFile(LocalInputFile(location, self.meter), mode="r")

    def open_output(self, location: Location) -> OutputFile:
        """Open a new file for streaming; the name must not be taken."""
        return LocalOutputFile(location, self.meter)


class LocalOutputFile(OutputFile):
    """A new local file, written in place: until it is closed, its writer alone knows the name."""

    def __init__(self, location: Location, meter: Meter) -> None:
        super().__init__(location, meter)
        self._path = Path(location.path)
        meter.add(requests=1)
        with os_faults("create", location):
            make_directories(self._path.parent)
            self._raw = io.FileIO(self._path, "x")
            self._file = io.BufferedWriter(self._raw, _OUTPUT_BUFFER_BYTES)

    def append_file(self, source: Location, ranges: Sequence[ByteRange]) -> None:
        """Append parts of another local file, by the kernel where it can.

        Raises:
            CorruptTableError: the source ends before one of the ranges does.
            ObjectNotFoundError, AccessDeniedError, StorageError: the source cannot be read.
            StorageFullError: as `write`.
        """
        if self.closed:
            raise ValueError(f"write to closed output {self.location}")
        with os_faults("read", source), Path(source.path).open("rb", buffering=0) as file:
            for wanted in ranges:
                with os_faults("write", self.location):
                    copied = self._copy(file.fileno(), wanted)
                require_length(source, wanted, copied)
        copied_bytes = sum(wanted.length for wanted in ranges)
        self._size_bytes += copied_bytes
        self._meter.add(requests=1, bytes_read=copied_bytes, bytes_written=copied_bytes)

    def _copy(self, descriptor: int, wanted: ByteRange) -> int:
        """Copy a range, and return how much of it there was."""
        self._file.flush()
        target = self._file.fileno()
        offset, left = wanted
        try:
            while left > 0 and (done := os.copy_file_range(descriptor, target, left, offset)):
                offset += done
                left -= done
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            while left > 0 and (
                part := os.pread(descriptor, min(left, _COPY_BUFFER_BYTES), offset)
            ):
                write_fully(target, memoryview(part))
                offset += len(part)
                left -= len(part)
        self._file.seek(0, io.SEEK_END)
        return wanted.length - left

    def _append(self, data: memoryview) -> None:
        with os_faults("write", self.location):
            self._file.write(data)

    def _complete(self) -> None:
        with os_faults("complete", self.location):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            synchronise(self._path.parent)

    def _discard(self) -> None:
        with suppress(OSError):
            self._raw.close()
        # Buffered bytes have nowhere to go: closing the buffer after its file drops them.
        with suppress(OSError, ValueError):
            self._file.close()
        with os_faults("remove", self.location):
            self._path.unlink(missing_ok=True)


def _read_fully(descriptor: int, wanted: ByteRange) -> bytes:
    parts: list[bytes] = []
    offset, left = wanted
    while left > 0 and (part := os.pread(descriptor, left, offset)):
        parts.append(part)
        offset += len(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _listed(entry: os.DirEntry[str], location: Location) -> Iterator[ObjectInfo]:
    """Yield the file of an entry, unless it has vanished since or is no file."""
    with os_faults("list", location), suppress(FileNotFoundError):
        info = _info(location, entry.stat())
        if info is not None:
            yield info


def _info(location: Location, status: os.stat_result) -> ObjectInfo | None:
    if not stat.S_ISREG(status.st_mode):
        return None
    return ObjectInfo(
        location,
        status.st_size,
        datetime.fromtimestamp(status.st_mtime, UTC),
        f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"',
    )
