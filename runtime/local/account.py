"""Keeps account of tasks: which have not ended, how many did and how, what they took."""

from collections.abc import Callable
from functools import partial
from typing import Any

from runtime.api import Profile
from runtime.attempt import outcome_of
from runtime.errors import RuntimeFailure
from runtime.ledger import Ledger
from runtime.local.protocol import Done
from runtime.local.refs import LocalRef
from runtime.local.task import LocalTask


class Account:
    """Counts tasks and passes the profiles of attempts on.

    Attributes:
        unended: Tasks by number.
        finished: How many ended with a result.
        failed: How many ended with an error.
        peak_bytes: The most private memory of any attempt.
        cpu_seconds: CPU time of all attempts, but those whose worker died.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.unended: dict[int, LocalTask] = {}
        self.finished = self.failed = self.peak_bytes = 0
        self.cpu_seconds = 0.0
        self._ledger = ledger

    def record(
        self, task: LocalTask, failure: RuntimeFailure | None, done: Done | None
    ) -> Callable[[], Profile]:
        """Account for an attempt; returns its profile, made on demand if nobody wants it now."""
        seen_bytes = task.seen_bytes
        if done is not None:
            seen_bytes = max(seen_bytes, done.usage.anonymous_peak_bytes)
            self.cpu_seconds += done.usage.cpu_seconds
        self.peak_bytes = max(self.peak_bytes, seen_bytes)
        if not self._ledger.wants(task.key):
            return partial(task.profile, outcome_of(failure), done)
        profile = task.profile(outcome_of(failure), done)
        self._ledger.record(profile)
        return lambda: profile

    def end(self, task: LocalTask, *, is_failed: bool) -> tuple[LocalRef[Any], ...]:
        """Count a task that has ended, and let go of what it held; returns its refs."""
        self.finished += not is_failed
        self.failed += is_failed
        self.unended.pop(task.id, None)
        refs = task.refs
        for ref in refs:
            ref.task = None
        task.refs, task.inputs, task.parts, task.pieces = (), (), [], None
        task.has_ended = True
        return refs

    def close(self) -> None:
        """Write the profiles that are not written yet."""
        self._ledger.flush()
