"""Figures and drawings of pages, from values.  Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from compactor.jobs.store import AttemptRecord, JobDetail
from compactor.service.config import Budget
from compactor.service.views import FAIR_HEALTH, GOOD_HEALTH, HealthPoint
from compactor.units import format_duration, format_size

TIMELINE_WIDTH, ROW_HEIGHT = 1000, 14
ROWS_MAX = 200
_NEVER = "never"
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt on the timeline, in units of the drawing.

    Attributes:
        x: begin.
        y: top.
        width: of the bar; 1 at least.
        state: of the attempt.
        title: what is shown when it is pointed at.
    """

    x: float
    y: float
    width: float
    state: str
    title: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The memory of one attempt against the largest of all, as shares of a drawing's width.

    Attributes:
        group_id: the group.
        predicted: what it was predicted to need.
        granted: what it was given.
        peak: what it took.
        title: the figures.
    """

    group_id: str
    predicted: float
    granted: float
    peak: float
    title: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The attempts of a job over time.

    Attributes:
        bars: one per attempt, the first first.
        height: of the drawing.
        seconds: what its width stands for.
        left_out: attempts that are not drawn.
    """

    bars: tuple[Bar, ...]
    height: float
    seconds: float
    left_out: int


def timeline(detail: JobDetail, *, now_ms: int) -> Timeline:
    """Draw the attempts of a job.

    Args:
        detail: the job.
        now_ms: where attempts that have not ended end in the drawing.
    """
    drawn = detail.attempts[:ROWS_MAX]
    begin = min((one.started_at_ms for one in drawn), default=now_ms)
    end = max((one.finished_at_ms or now_ms for one in drawn), default=now_ms)
    scale = TIMELINE_WIDTH / max(end - begin, 1)
    bars = tuple(
        Bar(
            x=(one.started_at_ms - begin) * scale,
            y=float(row * ROW_HEIGHT),
            width=max(1.0, ((one.finished_at_ms or now_ms) - one.started_at_ms) * scale),
            state=one.state,
            title=_told(one, now_ms),
        )
        for row, one in enumerate(drawn)
    )
    height = float(max(1, len(drawn)) * ROW_HEIGHT)
    return Timeline(bars, height, (end - begin) / 1000, len(detail.attempts) - len(drawn))


def grants(attempts: Sequence[AttemptRecord]) -> tuple[Grant, ...]:
    """Draw the memory of attempts that have a figure for it."""
    known = [one for one in attempts if one.granted_bytes and one.peak_memory_bytes][:ROWS_MAX]
    largest = max((max(one.granted_bytes, one.peak_memory_bytes) for one in known), default=1)
    return tuple(
        Grant(
            group_id=one.group_id,
            predicted=one.predicted_bytes / largest,
            granted=one.granted_bytes / largest,
            peak=one.peak_memory_bytes / largest,
            title=f"predicted {format_size(one.predicted_bytes)},"
            f" granted {format_size(one.granted_bytes)},"
            f" took {format_size(one.peak_memory_bytes)}",
        )
        for one in known
    )


def utilisation(attempts: Sequence[AttemptRecord]) -> float | None:
    """Return the share of the memory granted that was taken; None when nothing is known."""
    known = [one for one in attempts if one.granted_bytes and one.peak_memory_bytes]
    granted = sum(one.granted_bytes for one in known)
    return sum(one.peak_memory_bytes for one in known) / granted if granted else None


def first_try_share(totals: Mapping[tuple[str, str], float]) -> float | None:
    """Return the share of jobs that ended well at the first try; None before there was one."""
    ends = {label: value for (name, label), value in totals.items() if name == "first_tries"}
    tried = sum(value for label, value in ends.items() if label != "cancelled")
    good = sum(ends.get(label, 0.0) for label in ("succeeded", "skipped"))
    return good / tried if tried else None


def total(totals: Mapping[tuple[str, str], float], name: str) -> float:
    """Return what was counted under a name, whatever the label."""
    return sum(value for (known, _), value in totals.items() if known == name)


def memory_share(totals: Mapping[tuple[str, str], float]) -> float | None:
    """Return the share of the memory granted to attempts that they took; None before one ended."""
    granted = totals.get(("memory", "granted"), 0.0)
    return totals.get(("memory", "taken"), 0.0) / granted if granted else None


def shown_cost(cpu_seconds: float, budget: Budget) -> str:
    """Return what CPU time cost; empty when nobody has told its price."""
    if budget.price_per_vcpu_hour is None:
        return ""
    cost = cpu_seconds / _SECONDS_PER_HOUR * budget.price_per_vcpu_hour
    return f"{cost:,.2f} {budget.currency}"


def shown_vcpu_hours(cpu_seconds: float) -> str:
    """Return CPU time in hours of one CPU, as clouds sell it."""
    hours = cpu_seconds / _SECONDS_PER_HOUR
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2f}"


def health_series(points: Sequence[HealthPoint]) -> str:
    """Return the data of a chart of health: times in seconds, scores, files; as JSON."""
    times = [point.at_ms / 1000 for point in points]
    columns = [times, [point.score for point in points], [point.files for point in points]]
    return json.dumps(columns, separators=(",", ":"))


def shown_health(score: int | None) -> str:
    """Return the word for a score."""
    if score is None:
        return "unknown"
    return "good" if score >= GOOD_HEALTH else "fair" if score >= FAIR_HEALTH else "poor"


def shown_age(at_ms: int | None, now_ms: int) -> str:
    """Return how long ago something was, or in how long it will be."""
    if at_ms is None:
        return _NEVER
    seconds = (now_ms - at_ms) / 1000
    return f"{format_duration(seconds)} ago" if seconds >= 0 else f"in {format_duration(-seconds)}"


def shown_moment(at_ms: int | None) -> str:
    """Return a moment as it stands in attributes and titles."""
    if at_ms is None:
        return _NEVER
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def shown_share(share: float | None) -> str:
    """Return a share as a percentage."""
    return "-" if share is None else f"{share:.2%}"


def _told(one: AttemptRecord, now_ms: int) -> str:
    took = format_duration(max(0, (one.finished_at_ms or now_ms) - one.started_at_ms) / 1000)
    return f"{one.group_id}: {one.state}, {took}{', ' if one.error else ''}{one.error}"
