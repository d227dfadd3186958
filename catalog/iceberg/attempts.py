"""How often and at what pace a commit is tried, by the table's `commit.retry.*` properties."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_RETRIES = ("commit.retry.num-retries", 4)
_WAIT_MIN_MS = ("commit.retry.min-wait-ms", 100)
_WAIT_MAX_MS = ("commit.retry.max-wait-ms", 60_000)
_TIMEOUT_MS = ("commit.retry.total-timeout-ms", 1_800_000)


@dataclass(frozen=True, slots=True)
class Pace:
    """Limits of the attempts of one commit.

    Attributes:
        retries_max: attempts after the first.
        wait_min_seconds: upper bound of the wait before the first retry, doubled with each.
        wait_max_seconds: the longest wait.
        timeout_seconds: no attempt begins later than this after the first.
    """

    retries_max: int
    wait_min_seconds: float
    wait_max_seconds: float
    timeout_seconds: float

    @staticmethod
    def of(properties: Mapping[str, str]) -> Pace:
        """Read the properties of a table; the defaults are those of the specification."""
        return Pace(
            retries_max=_count(properties, *_RETRIES),
            wait_min_seconds=_count(properties, *_WAIT_MIN_MS) / 1000,
            wait_max_seconds=_count(properties, *_WAIT_MAX_MS) / 1000,
            timeout_seconds=_count(properties, *_TIMEOUT_MS) / 1000,
        )

    def attempts(self) -> Iterator[int]:
        """Yield the number of each attempt when it is due, from zero."""
        deadline = time.monotonic() + self.timeout_seconds
        yield 0
        for retry in range(1, self.retries_max + 1):
            wait = min(self.wait_min_seconds * 2 ** (retry - 1), self.wait_max_seconds)
            # Half of it is jitter: writers that lost the same race must not meet again.
            time.sleep(wait * random.uniform(0.5, 1.0))
            if time.monotonic() > deadline:
                return
            yield retry


def _count(properties: Mapping[str, str], name: str, default: int) -> int:
    try:
        return max(0, int(properties.get(name, default)))
    except ValueError:
        return default
