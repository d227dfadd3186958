"""Writing instants: requested, inflight, completed, each file once; and the time of a new one.

Times grow strictly: a new instant and a completion come after everything that the timeline names,
whatever the clock says. Where other writers' clocks are behind ours, as in another time zone, it is
the very next time: what they write later must not seem to be older than our compaction.
Two processes must not ask for one at the same time: hold the table's lock.
Specification: "Timeline" of Hudi's technical specification.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from catalog.errors import ObjectExistsError
from catalog.hudi.config import TableConfig
from catalog.hudi.timeline import (
    COMPLETED_AS,
    Action,
    Instant,
    State,
    Timeline,
    instant_time,
    timeline_folder,
)
from catalog.location import Location
from catalog.storage import Storage

# yyyyMMddHHmmssSSS; longer ones are derived from others, by tables of metadata.
_DIGITS = 17
_STEP = timedelta(milliseconds=1)


def new_instant(timeline: Timeline, config: TableConfig, *, now: datetime | None = None) -> str:
    """Return a time for an instant or for a completion, later than all of the timeline.

    Args:
        timeline: read under the lock of the table.
        config: of the table.
        now: the moment; None for this one.
    """
    time = instant_time(now or datetime.now(UTC), config)
    latest = max(_times(timeline), default="")
    is_next = time <= latest or (timeline.is_clock_ahead and latest)
    return _after(latest) if is_next else time


def _times(timeline: Timeline) -> list[str]:
    times = [one.time for one in timeline.instants]
    times += [one.completion_time for one in timeline.instants if one.completion_time]
    return [time[:_DIGITS] for time in times if len(time) >= _DIGITS]


def _after(time: str) -> str:
    """Return the next time; what is no date counts as a number."""
    try:
        moment = datetime.strptime(f"{time}000", "%Y%m%d%H%M%S%f") + _STEP
    except ValueError:
        return f"{int(time) + 1:0{_DIGITS}d}"
    return f"{moment:%Y%m%d%H%M%S}{moment.microsecond // 1000:03d}"


@dataclass(frozen=True, slots=True)
class InstantWriter:
    """Puts instants of one table on its timeline.

    Attributes:
        storage: where it is.
        root: of the table, or of its metadata table.
        config: of the same.
    """

    storage: Storage
    root: Location
    config: TableConfig

    def request(self, time: str, action: Action, plan: bytes = b"") -> Instant:
        """Put an instant on the timeline.

        Raises:
            ObjectExistsError: somebody else has, with another plan.
        """
        return self._put(time, action, State.REQUESTED, plan)

    def begin(self, instant: Instant, data: bytes = b"") -> Instant:
        """Say that an instant is being carried out; that it is already is no failure."""
        try:
            return self._put(instant.time, instant.action, State.INFLIGHT, data)
        except ObjectExistsError:
            return _instant(instant.time, instant.action, State.INFLIGHT)

    def complete(self, instant: Instant, data: bytes, timeline: Timeline) -> Instant:
        """Make visible what an instant wrote.

        Args:
            instant: it is inflight.
            data: what it did.
            timeline: read under the lock of the table, which is still held.

        Raises:
            ObjectExistsError: somebody else has completed it, with other content.
        """
        action = COMPLETED_AS.get(instant.action, instant.action)
        completion = None
        if self.config.layout > 1:
            completion = new_instant(timeline, self.config)
        stem = instant.time if completion is None else f"{instant.time}_{completion}"
        name = f"{stem}.{action}"
        self.storage.put_if_absent(self._folder.child(name), data)
        return Instant(instant.time, action, State.COMPLETED, completion, name)

    def remove(self, instant: Instant) -> None:
        """Take an instant that is not completed off the timeline, its request last."""
        for state in (State.INFLIGHT, State.REQUESTED):
            self.storage.delete([self._folder.child(instant.named(state))])

    @property
    def _folder(self) -> Location:
        return timeline_folder(self.root, self.config)

    def _put(self, time: str, action: Action, state: State, data: bytes) -> Instant:
        instant = _instant(time, action, state)
        self.storage.put_if_absent(self._folder.child(instant.file_name), data)
        return instant


def _instant(time: str, action: Action, state: State) -> Instant:
    name = Instant(time, action, state, None, "").named(state)
    return Instant(time, action, state, None, name)
