"""Why a row of the queue waits: the first reason that holds, and until when.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from compactor.service.config import Budget
from compactor.service.due import Window, day_ends_ms, shown_time
from compactor.units import format_count, format_duration, format_size


@dataclass(frozen=True, slots=True)
class Waiter:
    """A pending row with what holds for its table.

    Attributes:
        namespace: of the table.
        not_before_ms: it starts no earlier.
        attempts: tries so far.
        error: what the last try ended with; empty before the first.
        window: when jobs of the table may begin; empty for any time.
        is_enabled: whether its configuration wants jobs.
        is_paused: whether somebody has paused it.
        is_missing: whether the table is gone.
        running_job: the job that works on the table now, or another word for it; empty for none.
    """

    namespace: str
    not_before_ms: int
    attempts: int = 0
    error: str = ""
    window: str = ""
    is_enabled: bool = True
    is_paused: bool = False
    is_missing: bool = False
    running_job: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """What holds for all rows at a moment.

    Attributes:
        now_ms: the moment, by the clock of the database.
        jobs_max: jobs that may run at once on all instances that are not draining.
        running: jobs that run.
        namespace_max: jobs of one namespace that may run at once; None for no limit.
        running_by_namespace: how many run.
        budget: what may be spent in a day.
        bytes_today: what was spent.
        jobs_today: jobs begun.
    """

    now_ms: int
    jobs_max: int
    running: int = 0
    namespace_max: int | None = None
    running_by_namespace: Mapping[str, int] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    bytes_today: int = 0
    jobs_today: int = 0

    @property
    def full_namespaces(self) -> tuple[str, ...]:
        """The namespaces that may begin no further job now."""
        if self.namespace_max is None:
            return ()
        counts = self.running_by_namespace.items()
        return tuple(sorted(name for name, count in counts if count >= self.namespace_max))

    @property
    def spent(self) -> str:
        """Which budget of the day is used up; empty when none is."""
        limit = self.budget.bytes_per_day
        if limit is not None and self.bytes_today >= limit:
            return f"the budget of {format_size(limit)} a day is used up"
        most = self.budget.jobs_per_day
        if most is not None and self.jobs_today >= most:
            return f"the budget of {format_count(most, 'job')} a day is used up"
        return ""


def closed_until(window: str, now_ms: int) -> int | None:
    """Return when a window opens; None when it is open, or when there is none."""
    if not window:
        return None
    opens_at_ms = Window.parse(window).opens_at(now_ms)
    return opens_at_ms if opens_at_ms > now_ms else None


def why(waiter: Waiter, situation: Situation) -> str:
    """Return the first reason for which the row does not start; empty when it starts next."""
    return _of_table(waiter) or _of_time(waiter, situation) or _of_all(waiter, situation)


def _of_table(waiter: Waiter) -> str:
    if waiter.is_missing:
        return "the table does not exist any more"
    if not waiter.is_enabled:
        return "the table is disabled by its configuration"
    if waiter.is_paused:
        return "the table is paused"
    if waiter.running_job:
        return f"another job works on the table ({waiter.running_job})"
    return ""


def _of_time(waiter: Waiter, situation: Situation) -> str:
    if situation.spent:
        until = day_ends_ms(situation.now_ms, situation.budget.zone)
        return f"{situation.spent}, until {shown_time(until)}"
    opens_at_ms = closed_until(waiter.window, situation.now_ms)
    if opens_at_ms is not None:
        return f"outside of its window `{waiter.window}`, until {shown_time(opens_at_ms)}"
    left_ms = waiter.not_before_ms - situation.now_ms
    if left_ms <= 0:
        return ""
    left = format_duration(left_ms / 1000)
    if waiter.attempts:
        return f"tried again in {left} after attempt {waiter.attempts}: {waiter.error}"
    return f"waits for more triggers, {left} at most"


def _of_all(waiter: Waiter, situation: Situation) -> str:
    if not situation.jobs_max:
        return "no instance of the service takes jobs"
    if waiter.namespace in situation.full_namespaces:
        running = format_count(situation.running_by_namespace[waiter.namespace], "job")
        limit = situation.namespace_max
        return f"{running} of the namespace `{waiter.namespace}` running, of {limit} allowed"
    if situation.running >= situation.jobs_max:
        return f"{format_count(situation.running, 'job')} running, of {situation.jobs_max} allowed"
    return ""
