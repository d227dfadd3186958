"""The one map from exceptions of the system and of obstore to the errors of the catalog."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from catalog.errors import (
    AccessDeniedError,
    CatalogError,
    CorruptTableError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageFullError,
)
from catalog.storage.lent import RENEWAL_FAILED

if TYPE_CHECKING:
    from catalog.location import Location
    from catalog.storage.s3_requests import S3RefusalError

_OS_ERRORS: dict[int | None, type[CatalogError]] = {
    errno.ENOENT: ObjectNotFoundError,
    errno.ENOTDIR: ObjectNotFoundError,
    errno.EISDIR: ObjectNotFoundError,
    errno.EACCES: AccessDeniedError,
    errno.EPERM: AccessDeniedError,
    errno.EROFS: AccessDeniedError,
    errno.EEXIST: ObjectExistsError,
    errno.ENOSPC: StorageFullError,
    errno.EDQUOT: StorageFullError,
}
_HINTS: dict[type[CatalogError], str] = {
    AccessDeniedError: "Check the credentials and what they allow; `compact doctor` tests both.",
    StorageFullError: "Free space or raise the quota, then run the same command again.",
}
# What S3-like stores answer, with status 403, when the account is full and not forbidden.
QUOTA_CODES = ("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage")

_S3_STATUSES: dict[int, type[CatalogError]] = {
    401: AccessDeniedError,
    403: AccessDeniedError,
    404: ObjectNotFoundError,
    412: ObjectExistsError,
    416: CorruptTableError,
}
# What obstore has no type for: answers to listing and bulk deletion, ranges behind the end.
_SIGNS: dict[str, type[CatalogError]] = {
    "status code: 401": AccessDeniedError,
    "status code: 403": AccessDeniedError,
    "status code: 404": ObjectNotFoundError,
    "status code: 416": CorruptTableError,
    "InMemory error: Invalid range": CorruptTableError,
}
# A query may carry a signature.
_QUERY = re.compile(r"\?\S*")


@contextmanager
def os_faults(action: str, location: Location) -> Iterator[None]:
    """Raise every `OSError` of the block as an error of the catalog, naming the location."""
    try:
        yield
    except OSError as error:
        kind = _OS_ERRORS.get(error.errno, StorageError)
        raise _made(kind, action, location, error.strerror or str(error)) from error


@contextmanager
def obstore_faults(action: str, location: Location) -> Iterator[None]:
    """Raise every exception of obstore in the block as an error of the catalog."""
    from obstore.exceptions import BaseError  # local tables never load it

    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        reason = _QUERY.sub("", str(error).partition("\n")[0])
        raise _made(_obstore_kind(error), action, location, reason) from error


def s3_fault(action: str, location: Location, error: S3RefusalError) -> CatalogError:
    """Return the error of the catalog for what S3 has answered."""
    kind = _S3_STATUSES.get(error.status, StorageError)
    if error.code in QUOTA_CODES:
        kind = StorageFullError
    elif error.code == "NoSuchUpload":
        kind = StorageError
    return _made(kind, action, location, str(error))


def _obstore_kind(error: Exception) -> type[CatalogError]:
    from obstore import exceptions

    if any(code in str(error) for code in QUOTA_CODES):
        return StorageFullError
    if RENEWAL_FAILED in str(error):
        return StorageError
    if isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)):
        return AccessDeniedError
    if isinstance(error, (exceptions.AlreadyExistsError, exceptions.PreconditionError)):
        return ObjectExistsError
    if isinstance(error, FileNotFoundError):
        return ObjectNotFoundError
    return next((kind for sign, kind in _SIGNS.items() if sign in str(error)), StorageError)


def _made(kind: type[CatalogError], action: str, location: Location, reason: str) -> CatalogError:
    return kind(f"cannot {action} {location}: {reason}", hint=_HINTS.get(kind, ""))
