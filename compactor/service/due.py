"""When work is due: cron expressions and intervals, windows of maintenance, days of budgets.

Times go in and come out as milliseconds since the epoch; nothing here looks at a clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from compactor.errors import SettingsError
from compactor.units import format_duration, parse_duration

_EVERY = re.compile(r"every\s+(.+)")
_WINDOW = re.compile(
    r"(?:(?P<days>[a-z]{3}(?:-[a-z]{3})?(?:,[a-z]{3}(?:-[a-z]{3})?)*)\s+)?"
    r"(?P<from>\d\d:\d\d)-(?P<to>\d\d:\d\d)(?:\s+(?P<zone>\S+))?",
    re.IGNORECASE,
)
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CRON_FIELDS = 5
# A table is not looked at more often than the machinery takes for one job.
_INTERVAL_SECONDS_MIN = 1.0
_MINUTES_PER_DAY = 24 * 60
_DAYS_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression in a time zone, or an interval.

    Attributes:
        text: as its owner spells it.
        cron: five fields; empty for an interval.
        zone: name of the time zone of the fields.
        interval_ms: the interval; 0 for a cron expression.
    """

    text: str
    cron: str = ""
    zone: str = "UTC"
    interval_ms: int = 0

    @staticmethod
    def parse(text: str) -> Schedule:
        """Read `every 1h`, `0 3 * * *` or `0 3 * * mon Europe/Berlin`.

        Raises:
            SettingsError: it is neither, or there is no such time zone.
        """
        if found := _EVERY.fullmatch(text.strip()):
            return Schedule(text, interval_ms=_interval_ms(text, found[1]))
        fields = text.split()
        zone = fields[_CRON_FIELDS] if len(fields) == _CRON_FIELDS + 1 else "UTC"
        cron = " ".join(fields[:_CRON_FIELDS])
        if not _CRON_FIELDS <= len(fields) <= _CRON_FIELDS + 1:
            raise _no_schedule(text, "it has not five fields and perhaps a time zone")
        try:
            CronSim(cron, datetime(2000, 1, 1, tzinfo=zone_of(zone)))
        except CronSimError as error:
            raise _no_schedule(text, str(error)) from error
        return Schedule(text, cron, zone)

    def after(self, at_ms: int) -> int | None:
        """Return when it is due for the first time after a moment; None for never."""
        if self.interval_ms:
            return at_ms + self.interval_ms
        local = datetime.fromtimestamp(at_ms / 1000, zone_of(self.zone))
        found = next(CronSim(self.cron, local), None)
        return None if found is None else int(found.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Window:
    """The time of day in which work may begin, on some days of the week.

    Attributes:
        text: as its owner spells it.
        days: 0 is Monday; a window that passes midnight belongs to the day it begins on.
        begins_minute: of the day.
        ends_minute: of the day, or of the next one where it is not later.
        zone: name of the time zone.
    """

    text: str
    days: frozenset[int]
    begins_minute: int
    ends_minute: int
    zone: str = "UTC"

    @staticmethod
    def parse(text: str) -> Window:
        """Read `22:00-06:00`, `mon-fri 22:00-06:00` or either with a time zone at its end.

        Raises:
            SettingsError: it is no window, or there is no such time zone.
        """
        found = _WINDOW.fullmatch(text.strip())
        if found is None:
            raise _no_window(text)
        begins, ends = _minute(text, found["from"]), _minute(text, found["to"])
        zone = found["zone"] or "UTC"
        zone_of(zone)
        days = found["days"].lower() if found["days"] else "mon-sun"
        return Window(text, frozenset(_days(text, days)), begins, ends, zone)

    def opens_at(self, at_ms: int) -> int:
        """Return the moment itself within the window, and else when it opens next."""
        now = datetime.fromtimestamp(at_ms / 1000, zone_of(self.zone))
        spans = (self._span(now, days_ahead) for days_ahead in range(-1, _DAYS_AHEAD))
        for begins, ends in (span for span in spans if span is not None):
            if now < ends:
                return max(at_ms, int(begins.timestamp() * 1000))
        raise AssertionError(f"the window `{self.text}` never opens")

    def _span(self, now: datetime, days_ahead: int) -> tuple[datetime, datetime] | None:
        day = (now + timedelta(days=days_ahead)).replace(hour=0, minute=0, second=0, microsecond=0)
        if day.weekday() not in self.days:
            return None
        passes = _MINUTES_PER_DAY if self.ends_minute <= self.begins_minute else 0
        # By the clock on the wall, also on days that have 23 or 25 hours.
        return _at(day, self.begins_minute), _at(day, self.ends_minute + passes)


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        SettingsError: there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise _no_zone(name) from error


def day_begins_ms(at_ms: int, zone: str) -> int:
    """Return when the day of a moment began in a time zone."""
    local = datetime.fromtimestamp(at_ms / 1000, zone_of(zone))
    return int(local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)


def day_ends_ms(at_ms: int, zone: str) -> int:
    """Return when the day of a moment ends in a time zone."""
    local = datetime.fromtimestamp(at_ms / 1000, zone_of(zone)) + timedelta(days=1)
    return int(local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)


def shown_time(at_ms: int) -> str:
    """Write a moment as RFC 3339 has it, in UTC and to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _at(day: datetime, minute: int) -> datetime:
    days, rest = divmod(minute, _MINUTES_PER_DAY)
    return (day + timedelta(days=days)).replace(hour=rest // 60, minute=rest % 60)


def _days(text: str, days: str) -> Iterator[int]:
    for part in days.split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise _no_window(text)
        begins, ends = _DAYS.index(first), _DAYS.index(last or first)
        yield from (day % 7 for day in range(begins, ends + 1 if ends >= begins else ends + 8))


def _minute(text: str, clock: str) -> int:
    hour, minute = (int(part) for part in clock.split(":"))
    if minute >= 60 or hour * 60 + minute >= _MINUTES_PER_DAY:
        raise _no_window(text)
    return hour * 60 + minute


def _interval_ms(text: str, interval: str) -> int:
    try:
        seconds = parse_duration(interval)
    except ValueError as error:
        raise _no_schedule(text, str(error)) from error
    if seconds < _INTERVAL_SECONDS_MIN:
        raise _no_schedule(text, f"less than {format_duration(_INTERVAL_SECONDS_MIN)}")
    return int(seconds * 1000)


def _no_schedule(text: str, why: str) -> SettingsError:
    hint = "write `every 1h`, or `0 3 * * *` with a time zone behind it such as Europe/Berlin"
    return SettingsError(f"`{text}` is not a schedule: {why}", hint=hint)


def _no_window(text: str) -> SettingsError:
    hint = "write `22:00-06:00 Europe/Berlin` or `mon-fri 22:00-06:00`"
    return SettingsError(f"`{text}` is not a window of maintenance", hint=hint)


def _no_zone(name: str) -> SettingsError:
    return SettingsError(f"no time zone is named `{name}`", hint="write one like Europe/Berlin")
