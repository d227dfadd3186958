"""A storage that fails on purpose, at the one moment that matters: when a version is put."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from catalog.delta.table import DeltaTable
from catalog.errors import StorageError
from catalog.location import Location
from catalog.storage import Storage
from catalog.storage.values import ObjectInfo

Put = Callable[[], None]
Fault = Callable[[Put], None]


@dataclass(frozen=True)
class FaultyStorage(Storage):
    """Puts go through the next of the planned faults, if there is one."""

    faults: list[Fault] = field(default_factory=list)
    is_down: list[bool] = field(default_factory=list)

    def put_if_absent(self, location: Location, data: bytes) -> None:
        fault = self.faults.pop(0) if self.faults else None
        put = super().put_if_absent
        if fault is None:
            put(location, data)
        else:
            fault(lambda: put(location, data))

    def read(self, location: Location) -> bytes:
        if self.is_down:
            raise StorageError("the storage does not answer")
        return super().read(location)

    def list(self, prefix: Location) -> Iterator[ObjectInfo]:
        if self.is_down:
            raise StorageError("the storage does not answer")
        return super().list(prefix)


class FaultyTable(DeltaTable):
    """A table on such a storage."""

    def __init__(self, root: Location, *faults: Fault) -> None:
        super().__init__("lake", root, {})
        self.faulty = FaultyStorage(faults=list(faults))
        self._storage = self.faulty


def lose_reply(error: Exception) -> Fault:
    """Do it, then fail."""

    def fault(put: Put) -> None:
        put()
        raise error

    return fault


def fail(error: BaseException) -> Fault:
    """Fail, having done nothing."""

    def fault(_: Put) -> None:
        raise error

    return fault


def lose_race(writer: Callable[[], object]) -> Fault:
    """Let another writer commit first."""

    def fault(put: Put) -> None:
        writer()
        put()

    return fault


def arrive_late(requests: list[Put]) -> Fault:
    """Fail now, and keep the request: it may arrive at any time."""

    def fault(put: Put) -> None:
        requests.append(put)
        raise StorageError("no answer came")

    return fault
