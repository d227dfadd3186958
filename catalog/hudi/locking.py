"""The lock of a Hudi table: which provider guards it, and holding it.

Writers of a table agree on plans and completions under one lock. Which one they use stands in the
settings of the writers, not in the table: whoever opens a table names theirs where it is not the
one that its scheme suggests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from catalog.errors import LockTimeoutError, UnsupportedTableError
from catalog.hudi.config import TableConfig
from catalog.hudi.file_lock import FileLock
from catalog.hudi.storage_lock import StorageLock
from catalog.location import Location
from catalog.storage import Storage

# Setting of whoever opens the table, or of the environment: `storage`, `filesystem` or `none`.
LOCK_PROVIDER = "hudi.lock-provider"
_LOCK_PROVIDER_VARIABLE = "HUDI_LOCK_PROVIDER"
# What writers call theirs, in the rare table that says so itself.
_WRITERS_PROVIDER = "hoodie.write.lock.provider"
_CLASSES = {
    "StorageBasedLockProvider": "storage",
    "FileSystemBasedLockProvider": "filesystem",
    # Guards a single process of the writers, so that nobody else may write.
    "InProcessLockProvider": "",
}
_TIMEOUT_SECONDS = 120.0
_PAUSE_SECONDS = 0.2


class Lock(Protocol):
    """A way to be the only one."""

    def try_acquire(self) -> bool:
        """Take the lock if it is free."""
        ...

    def require(self) -> None:
        """Make sure that it is still held.

        Raises:
            LockLostError: it is not, or that cannot be told.
        """
        ...

    def release(self) -> None:
        """Give it back; what cannot be given back runs out by itself."""
        ...

    def describe_holder(self) -> str:
        """Say who holds it, for the message of whoever waited in vain."""
        ...


class NoLock:
    """For tables that nobody else writes to."""

    def try_acquire(self) -> bool:
        """Take nothing."""
        return True

    def require(self) -> None:
        """Nothing can be lost."""

    def release(self) -> None:
        """Give nothing back."""

    def describe_holder(self) -> str:
        """Nobody holds it."""
        return "nobody"


def lock_of(
    storage: Storage, root: Location, config: TableConfig, settings: Mapping[str, str]
) -> Lock:
    """Return the lock that guards a table.

    Args:
        storage: where the table is.
        root: its directory.
        config: what it says of itself.
        settings: of whoever opens it.

    Raises:
        UnsupportedTableError: its writers agree in a way that is not known here.
    """
    provider = _provider(root, config, settings)
    if provider == "none":
        return NoLock()
    if provider == "storage":
        return StorageLock(storage, root.child(".hoodie", ".locks", "table_lock.json"))
    return FileLock(root.child(".hoodie", "lock"))


def _provider(root: Location, config: TableConfig, settings: Mapping[str, str]) -> str:
    by_scheme = "filesystem" if root.scheme == "file" else "storage"
    named = settings.get(LOCK_PROVIDER) or os.environ.get(_LOCK_PROVIDER_VARIABLE, "")
    of_table = config.get(_WRITERS_PROVIDER).rpartition(".")[2]
    chosen = named or _CLASSES.get(of_table, of_table) or by_scheme
    if chosen not in ("storage", "filesystem", "none"):
        raise UnsupportedTableError(
            f"writers of {root} agree by way of {chosen}, which is not supported",
            hint=f"have them use the storage-based or file-system lock provider, and set"
            f" {LOCK_PROVIDER} to `storage` or `filesystem`",
        )
    if chosen == "filesystem" and root.scheme != "file":
        raise UnsupportedTableError(
            f"the file-system lock of {root} needs a file system that creates files atomically",
            hint=f"set {LOCK_PROVIDER} to `storage`",
        )
    return chosen


@contextmanager
def held(
    lock: Lock, *, root: Location, timeout_seconds: float = _TIMEOUT_SECONDS
) -> Iterator[Lock]:
    """Hold a lock while the block runs; call `require` before each write that counts.

    Raises:
        LockTimeoutError: somebody else held it all the time.
    """
    deadline = time.monotonic() + timeout_seconds
    while not lock.try_acquire():
        if time.monotonic() > deadline:
            raise LockTimeoutError(
                f"the lock of {root} was not free for {timeout_seconds:.0f} s:"
                f" {lock.describe_holder()} holds it; nothing was changed",
                hint="try again once that writer is through; if it is dead, remove its lock",
            )
        time.sleep(_PAUSE_SECONDS)
    try:
        yield lock
    finally:
        lock.release()
