"""Counts what came of the tasks of a runtime, and what its objects take of the cluster."""

import threading
from collections import deque

from runtime.api import Profile
from runtime.ledger import Ledger


class Account:
    """Sums since the start; the dispatcher's, but for `stored_bytes`.

    Attributes:
        stored_bytes: Sizes of objects as they come and, negative, as they go; any thread adds.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.stored_bytes: deque[int] = deque()
        self.finished = self.failed = self.peak_bytes = 0
        self.cpu_seconds = 0.0
        self._ledger = ledger
        self._object_bytes = 0
        self._lock = threading.Lock()

    def record(self, profile: Profile) -> Profile:
        """Take in one attempt."""
        self.peak_bytes = max(self.peak_bytes, profile.anonymous_peak_bytes)
        self.cpu_seconds += profile.cpu_seconds
        self._ledger.record(profile)
        return profile

    def object_bytes(self) -> int:
        """Return what living objects take of the cluster's shared memory."""
        with self._lock:
            while self.stored_bytes:
                self._object_bytes += self.stored_bytes.popleft()
            return self._object_bytes
