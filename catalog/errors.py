"""Errors of the catalog side: few types, each with a stable code, each saying what to do next."""

from __future__ import annotations


class ExplainedError(Exception):
    """Base of what is told to a user as it is: here, and in the packages that build on this one.

    Attributes:
        code: stable kebab-case name of the kind of failure.
        retryable: whether the same call may succeed later without a change by the user.
        hint: what to do next, one sentence; empty when there is nothing to add.
    """

    code = "unknown"
    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the hint when the error crosses a process boundary."""
        return (_rebuild, (type(self), str(self), self.hint))


def _rebuild(kind: type[ExplainedError], message: str, hint: str) -> ExplainedError:
    return kind(message, hint=hint)


class CatalogError(ExplainedError):
    """Base of every error raised by `catalog`."""

    code = "catalog-error"


class TableNotFoundError(CatalogError):
    """No table at the given name or path."""

    code = "table-not-found"


class AccessDeniedError(CatalogError):
    """Credentials are missing or do not allow the operation."""

    code = "access-denied"


class LocationError(CatalogError):
    """A URI is malformed or lies outside the prefixes of its table."""

    code = "location-refused"


class StorageError(CatalogError):
    """The storage failed in a way that may pass: time-outs, resets, throttling."""

    code = "storage-error"
    retryable = True


class NotComposableError(StorageError):
    """The store does not make an object of ranges of others; its message is the reason.

    Nothing is left of the object: its bytes may be written instead.
    """

    code = "not-composable"
    retryable = False


class ObjectNotFoundError(CatalogError):
    """An object that the table's metadata names does not exist in storage."""

    code = "object-not-found"


class ObjectExistsError(CatalogError):
    """A conditional put lost: another writer's bytes are already at the location."""

    code = "object-exists"


class StorageFullError(CatalogError):
    """The disk or quota behind the storage is full."""

    code = "storage-full"


class UnsupportedTableError(CatalogError):
    """The table uses a feature that is not handled; nothing was touched."""

    code = "unsupported-table"


class CorruptTableError(CatalogError):
    """Metadata or data cannot be read as what it claims to be; nothing was touched."""

    code = "corrupt-table"


class SnapshotNotFoundError(CatalogError):
    """The snapshot does not exist in the table, or it has been expired."""

    code = "snapshot-not-found"


class HistoryError(CatalogError):
    """What happened to a table since is not recorded, or no longer; nothing was read."""

    code = "no-history"


class CommitConflictError(CatalogError):
    """Other writers kept winning; nothing of this commit is in the table."""

    code = "commit-conflict"
    retryable = True


class CommitUnknownError(CatalogError):
    """It cannot be told whether the commit happened: nothing of it may be deleted until it can."""

    code = "commit-unknown"


class LockTimeoutError(CatalogError):
    """Another writer held the lock of a table for too long."""

    code = "lock-timeout"
    retryable = True


class LockLostError(CatalogError):
    """The lock of a table ended while it was held."""

    code = "lock-lost"
    retryable = True
