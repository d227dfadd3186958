"""When the attempts of a commit are due."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass


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


def attempts(pace: Pace) -> Iterator[int]:
    """Yield the number of each attempt when it is due, from zero."""
    deadline = time.monotonic() + pace.timeout_seconds
    yield 0
    for retry in range(1, pace.retries_max + 1):
        wait = min(pace.wait_min_seconds * 2 ** (retry - 1), pace.wait_max_seconds)
        # Half of it is jitter: writers that lost the same race must not meet again.
        time.sleep(wait * random.uniform(0.5, 1.0))
        if time.monotonic() > deadline:
            return
        yield retry
