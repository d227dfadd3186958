"""Every row that waits has one reason, and until when where that is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compactor.service.config import Budget
from compactor.service.waiting import Situation, Waiter, closed_until, why

NOON = 1_795_608_000_000  # 2026-11-25 12:00 UTC
NOW = Situation(now_ms=NOON, jobs_max=2)
READY = Waiter("lake.a", not_before_ms=NOON)


def test_what_may_start_has_no_reason_to_wait() -> None:
    assert why(READY, NOW) == ""


@pytest.mark.parametrize(
    ("waiter", "situation", "words"),
    [
        (replace(READY, is_missing=True), NOW, "does not exist any more"),
        (replace(READY, is_enabled=False), NOW, "disabled"),
        (replace(READY, is_paused=True), NOW, "paused"),
        (replace(READY, running_job="1a2b"), NOW, "another job works on the table (1a2b)"),
        (replace(READY, not_before_ms=NOON + 5000), NOW, "waits for more triggers, 5.0s at most"),
        (
            replace(READY, not_before_ms=NOON + 5000, attempts=2, error="storage-error: gone"),
            NOW,
            "tried again in 5.0s after attempt 2: storage-error: gone",
        ),
        (
            replace(READY, window="22:00-23:00"),
            NOW,
            "outside of its window `22:00-23:00`, until 2026-11-25T22:00:00Z",
        ),
        (READY, replace(NOW, running=2), "2 jobs running, of 2 allowed"),
        (READY, replace(NOW, jobs_max=0), "no instance"),
        (
            READY,
            replace(NOW, running=1, namespace_max=1, running_by_namespace={"lake.a": 1}),
            "1 job of the namespace `lake.a` running, of 1 allowed",
        ),
        (
            READY,
            replace(NOW, budget=Budget(bytes_per_day=1024), bytes_today=1024),
            "the budget of 1.0 KiB a day is used up, until 2026-11-26T00:00:00Z",
        ),
        (
            READY,
            replace(NOW, budget=Budget(jobs_per_day=1), jobs_today=1),
            "the budget of 1 job a day is used up",
        ),
    ],
)
def test_a_reason_names_what_is_waited_for(
    waiter: Waiter, situation: Situation, words: str
) -> None:
    assert words in why(waiter, situation)


def test_a_closed_window_says_when_it_opens() -> None:
    assert closed_until("22:00-23:00", NOON) == NOON + 10 * 3_600_000
    assert closed_until("11:00-13:00", NOON) is None
    assert closed_until("", NOON) is None
