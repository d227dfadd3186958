"""Credentials that are lent for a while: kept until they run out, then had anew.

Who lends them is a value that crosses process boundaries, so that a worker renews them by itself in
the middle of an upload. A renewal that fails is of no consequence while the old ones still hold.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from catalog.errors import CatalogError

if TYPE_CHECKING:
    from obstore.store import GCSCredential, S3Credential

# What stands in the message of a failure to renew: the storage client passes nothing else on.
RENEWAL_FAILED = "lent credentials could not be renewed"
# Credentials are renewed when less than this share of their life is left, and not sooner than so
# many seconds before the end.
_LIFE_LEFT_SHARE = 0.2
_LEFT_SECONDS_MAX = 120.0
_KEPT_MAX = 256


class Lender(Protocol):
    """Who lends credentials: a value that can be pickled, compared and hashed."""

    def __call__(self) -> Loan:
        """Lend them anew.

        Raises:
            CatalogError: it does not, now or at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class Loan:
    """Credentials for some time.

    Attributes:
        properties: they themselves, by the names of a catalog's properties, sorted; never shown.
        expires_at_ms: when they run out, in milliseconds since the epoch.
        lender: who has lent them.
    """

    properties: tuple[tuple[str, str], ...] = field(repr=False)
    # The same credentials are the same, whatever was last believed of their end.
    expires_at_ms: int = field(compare=False)
    lender: Lender = field(repr=False)

    @property
    def has_s3(self) -> bool:
        """Whether there is a key of S3 among them."""
        return any(name == "s3.access-key-id" for name, _ in self.properties)

    @property
    def has_gcs(self) -> bool:
        """Whether there is a token of Google's storage among them."""
        return any(name == "gcs.oauth2.token" for name, _ in self.properties)


class Purse:
    """The credentials of one loan in this process, shared by threads.

    obstore asks for them with every request, and keeps what it got until it expires.
    """

    # obstore's name: how long before their end it asks for other ones; that is seen to here.
    refresh_threshold = timedelta(0)

    def __init__(self, loan: Loan) -> None:
        self._loan = loan
        self._due_at = _due_at(loan)
        self._lock = threading.Lock()

    def properties(self) -> Mapping[str, str]:
        """Return credentials that hold.

        Raises:
            OSError: they have run out, and no other ones are to be had.
        """
        return dict(self._current().properties)

    def s3(self) -> S3Credential:
        """Return them as obstore wants them for S3; raises as `properties`."""
        loan = self._current()
        found = dict(loan.properties)
        return {
            "access_key_id": found["s3.access-key-id"],
            "secret_access_key": found["s3.secret-access-key"],
            "token": found.get("s3.session-token"),
            "expires_at": self._until(loan),
        }

    def gcs(self) -> GCSCredential:
        """Return them as obstore wants them for Google's storage; raises as `properties`."""
        loan = self._current()
        token = dict(loan.properties)["gcs.oauth2.token"]
        return {"token": token, "expires_at": self._until(loan)}

    def _until(self, loan: Loan) -> datetime:
        """Return when to be asked again: before the end, or soon when that has failed."""
        now = time.time()
        if self._due_at > now:
            return datetime.fromtimestamp(self._due_at, UTC)
        return datetime.fromtimestamp(min(now + 1, loan.expires_at_ms / 1000), UTC)

    def _current(self) -> Loan:
        with self._lock:
            if time.time() >= self._due_at:
                self._renew()
            return self._loan

    def _renew(self) -> None:
        try:
            loan = self._loan.lender()
        except CatalogError as error:
            if time.time() * 1000 < self._loan.expires_at_ms:
                return
            raise OSError(f"{RENEWAL_FAILED}: {error}") from error
        self._loan, self._due_at = loan, _due_at(loan)


class S3Purse(Purse):
    """What obstore calls for the credentials of S3."""

    def __call__(self) -> S3Credential:
        """Return them."""
        return self.s3()


class GCSPurse(Purse):
    """What obstore calls for the credentials of Google's storage."""

    def __call__(self) -> GCSCredential:
        """Return them."""
        return self.gcs()


@lru_cache(maxsize=_KEPT_MAX)
def purse(kind: type[Any], loan: Loan) -> Any:
    """Return the purse of a loan, one for all clients of this process."""
    return kind(loan)


def _due_at(loan: Loan) -> float:
    """Return when credentials that have just been lent are to be renewed."""
    ends_at = loan.expires_at_ms / 1000
    left = max(0.0, ends_at - time.time())
    return ends_at - min(_LIFE_LEFT_SHARE * left, _LEFT_SECONDS_MAX)
