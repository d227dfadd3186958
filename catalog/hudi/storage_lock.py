"""A lock that is an object: `StorageBasedLockProvider` of Hudi, by conditional writes.

The object says until when somebody holds the lock. It is written over only on the condition that
it is still the version that was read, and renewed by a thread while it is held. Format and waiting
times are those of Hudi, whose writers it is shared with.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from uuid import uuid4

from catalog.errors import (
    CorruptTableError,
    LockLostError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
)
from catalog.location import Location
from catalog.storage import ByteRange, Storage

_VALIDITY_SECONDS = 300.0
_RENEWAL_SECONDS = 30.0
# Clocks of machines may differ by so much: a lock that has run out is left alone for as long.
_DRIFT_SECONDS = 0.5
# Nothing is begun with a lock that runs out sooner than a request may take.
_MARGIN_SECONDS = 60.0
_READS_MAX = 3


@dataclass(frozen=True, slots=True)
class _Claim:
    """What the object says: JSON with `expired`, `validUntil` in milliseconds, and `owner`."""

    is_expired: bool
    valid_until_ms: int
    owner: str

    @staticmethod
    def parse(data: bytes) -> _Claim:
        told = json.loads(data)
        return _Claim(bool(told["expired"]), int(told["validUntil"]), str(told["owner"]))

    def encode(self) -> bytes:
        told = {
            "expired": self.is_expired,
            "validUntil": self.valid_until_ms,
            "owner": self.owner,
        }
        return json.dumps(told, separators=(",", ":")).encode()

    def is_free(self, now_seconds: float) -> bool:
        return self.is_expired or now_seconds > self.valid_until_ms / 1000 + _DRIFT_SECONDS


class StorageLock:
    """The lock of one table in an object store."""

    def __init__(
        self,
        storage: Storage,
        location: Location,
        *,
        validity_seconds: float = _VALIDITY_SECONDS,
        renewal_seconds: float = _RENEWAL_SECONDS,
        margin_seconds: float = _MARGIN_SECONDS,
    ) -> None:
        """Take nothing yet.

        Args:
            storage: the store; it must write conditionally.
            location: the object.
            validity_seconds: how long a claim holds without being renewed.
            renewal_seconds: how often it is renewed.
            margin_seconds: `require` wants a claim to hold for so much longer.
        """
        self._storage = storage
        self._location = location
        self._validity_seconds = validity_seconds
        self._renewal_seconds = renewal_seconds
        self._margin_seconds = margin_seconds
        self._owner = str(uuid4())
        # Guards the claim: whoever releases waits for a renewal that is on its way.
        self._guard = threading.Lock()
        self._claim: _Claim | None = None
        self._etag = ""
        self._ending = threading.Event()
        self._renewer: threading.Thread | None = None

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it."""
        now_seconds = time.time()
        found = self._read()
        if found is not None and not found[0].is_free(now_seconds):
            return False
        claim = self._new_claim(now_seconds)
        try:
            self._put(claim, found[1] if found else None)
        except ObjectExistsError:
            return False
        self._claim = claim
        self._ending.clear()
        self._renewer = threading.Thread(target=self._renew_on_and_on, name="lock", daemon=True)
        self._renewer.start()
        return True

    def require(self) -> None:
        """Make sure that the claim holds for as long as a request takes.

        Raises:
            LockLostError: it could not be renewed.
        """
        with self._guard:
            claim = self._claim
        until_seconds = time.time() + self._margin_seconds
        if claim is None or claim.valid_until_ms / 1000 < until_seconds:
            raise LockLostError(
                f"the lock {self._location} could not be renewed in time;"
                " what was not completed is not in the table",
                hint="look at the errors of the storage, and run again",
            )

    def release(self) -> None:
        """Give the lock back, if it is ours; else it runs out."""
        self._ending.set()
        if self._renewer is not None:
            self._renewer.join()
        with self._guard:
            claim, self._claim = self._claim, None
            if claim is None:
                return
            try:
                self._put(_Claim(True, claim.valid_until_ms, self._owner), self._etag)
            except (ObjectExistsError, StorageError):
                return

    def describe_holder(self) -> str:
        """Say who holds it."""
        found = self._read()
        return "nobody" if found is None else f"owner {found[0].owner}"

    def _renew_on_and_on(self) -> None:
        while not self._ending.wait(self._renewal_seconds):
            with self._guard:
                if not self._renew():
                    return

    def _renew(self) -> bool:
        """Hold the claim for longer; False once it is lost."""
        claim = self._new_claim(time.time())
        try:
            self._put(claim, self._etag)
        except (ObjectExistsError, StorageError):
            return self._is_still_ours()
        self._claim = claim
        return True

    def _is_still_ours(self) -> bool:
        """Look at the object after a renewal that may have arrived or not."""
        try:
            found = self._read()
        except StorageError:
            # What was claimed before holds on until it runs out: the next renewal may tell more.
            return True
        if found is None or found[0].owner != self._owner or found[0].is_expired:
            self._claim = None
            return False
        self._claim, self._etag = found
        return True

    def _new_claim(self, now_seconds: float) -> _Claim:
        until_ms = int((now_seconds + self._validity_seconds) * 1000)
        return _Claim(False, until_ms, self._owner)

    def _put(self, claim: _Claim, etag: str | None) -> None:
        """Write a claim over the version with an etag, or where there is none, and note its own."""
        data = claim.encode()
        if etag is None:
            self._storage.put_if_absent(self._location, data)
        else:
            self._storage.put_if_match(self._location, data, etag)
        read = self._read()
        if read is None or read[0] != claim:
            raise ObjectExistsError(f"{self._location} was written over at once")
        self._etag = read[1]

    def _read(self) -> tuple[_Claim, str] | None:
        """Return what the object says and its etag; None when there is none."""
        data = b""
        for _ in range(_READS_MAX):
            try:
                size_bytes = self._storage.size(self._location)
                data, info = self._storage.read_version(self._location, ByteRange(0, size_bytes))
                return _Claim.parse(data), info.etag
            except ObjectNotFoundError:
                return None
            except (CorruptTableError, ValueError, KeyError, TypeError):
                # Cut: it was written over by a claim of another length in between.
                continue
        raise StorageError(
            f"the lock {self._location} cannot be read: {data[:80]!r}",
            hint="it is damaged: make sure that nobody writes to the table, and remove it",
        )
