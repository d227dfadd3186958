"""Schedules, windows and days: by the clock on the wall, in every zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compactor.errors import SettingsError
from compactor.service.due import Schedule, Window, day_begins_ms, day_ends_ms

BERLIN = ZoneInfo("Europe/Berlin")
MOMENTS = st.integers(min_value=1_500_000_000_000, max_value=2_500_000_000_000)


def ms(*when: int, zone: ZoneInfo | None = None) -> int:
    return int(datetime(*when, tzinfo=zone or UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


def test_a_cron_expression_is_due_by_the_clock_of_its_zone() -> None:
    schedule = Schedule.parse("30 3 * * * Europe/Berlin")
    assert schedule.after(ms(2026, 7, 1, 0, 0)) == ms(2026, 7, 1, 1, 30)
    assert schedule.after(ms(2026, 12, 1, 0, 0)) == ms(2026, 12, 1, 2, 30)


def test_an_hour_that_a_day_skips_is_due_all_the_same() -> None:
    schedule = Schedule.parse("30 2 * * * Europe/Berlin")
    before = ms(2026, 3, 28, 12, 0, zone=BERLIN)
    due = schedule.after(before)
    assert due is not None
    assert due <= ms(2026, 3, 29, 3, 30, zone=BERLIN)


def test_an_interval_is_due_that_much_later() -> None:
    assert Schedule.parse("every 1h 30m").after(1000) == 1000 + 5_400_000


@pytest.mark.parametrize(
    "text",
    ["", "hourly", "* * *", "61 * * * *", "0 3 * * * Mars/Base", "every", "every soon", "every 0s"],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        Schedule.parse(text)


@pytest.mark.parametrize(
    "text", ["", "22-06", "25:00-26:00", "22:60-23:00", "foo 22:00-06:00", "22:00-06:00 Nowhere"]
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        Window.parse(text)


def test_a_window_over_midnight_belongs_to_the_day_it_begins_on() -> None:
    window = Window.parse("fri 22:00-06:00 Europe/Berlin")
    saturday_night = ms(2026, 11, 28, 3, 0, zone=BERLIN)
    assert window.opens_at(saturday_night) == saturday_night
    saturday_noon = ms(2026, 11, 28, 12, 0, zone=BERLIN)
    assert window.opens_at(saturday_noon) == ms(2026, 12, 4, 22, 0, zone=BERLIN)


def test_days_may_wrap_around_the_week() -> None:
    assert Window.parse("sat-mon 10:00-11:00").days == {5, 6, 0}


@given(MOMENTS, st.sampled_from(["22:00-06:00", "mon-fri 09:00-17:00 America/New_York"]))
def test_a_window_opens_now_or_later_and_is_open_then(at_ms: int, text: str) -> None:
    window = Window.parse(text)
    opens_at = window.opens_at(at_ms)
    assert opens_at >= at_ms
    assert window.opens_at(opens_at) == opens_at


@given(MOMENTS, st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]))
def test_a_moment_lies_within_its_day(at_ms: int, zone: str) -> None:
    assert day_begins_ms(at_ms, zone) <= at_ms < day_ends_ms(at_ms, zone)
