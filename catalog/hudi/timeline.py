"""The timeline of a table: which instants there are, how far each has come, what they make visible.

An instant is named by the time at which it was requested and passes through up to three files:
requested, inflight, completed. What an instant wrote is visible once it is completed. Old instants
are archived, completed ones only: a time before the first active write is one of those.
Specification: "Timeline" of Hudi's technical specification; layout 1 until version 6, 2 since 8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property

from catalog.hudi.config import TableConfig
from catalog.location import Location
from catalog.storage import Storage


class Action(StrEnum):
    """What an instant does, as it is named in files."""

    COMMIT = "commit"
    DELTACOMMIT = "deltacommit"
    REPLACECOMMIT = "replacecommit"
    CLUSTERING = "clustering"
    COMPACTION = "compaction"
    LOGCOMPACTION = "logcompaction"
    CLEAN = "clean"
    ROLLBACK = "rollback"
    RESTORE = "restore"
    SAVEPOINT = "savepoint"
    INDEXING = "indexing"
    SCHEMACOMMIT = "schemacommit"


class State(StrEnum):
    """How far an instant has come."""

    REQUESTED = "requested"
    INFLIGHT = "inflight"
    COMPLETED = "completed"


# What these are called once they are completed.
COMPLETED_AS = {
    Action.COMPACTION: Action.COMMIT,
    Action.LOGCOMPACTION: Action.DELTACOMMIT,
    Action.CLUSTERING: Action.REPLACECOMMIT,
}
# Actions that write data files.
WRITES = frozenset(
    (
        Action.COMMIT,
        Action.DELTACOMMIT,
        Action.REPLACECOMMIT,
        Action.CLUSTERING,
        Action.COMPACTION,
        Action.LOGCOMPACTION,
    )
)
# Those of them that make file groups go.
REPLACING = (Action.REPLACECOMMIT, Action.CLUSTERING)
_STATES = tuple(State)
# Requests are written soon after their times were taken; time zones differ by more.
_LAG_MAX = timedelta(minutes=10)
_NAME = re.compile(r"(\d+)(?:_(\d+))?\.([a-z]+)(?:\.(requested|inflight))?")
_ACTIONS = {str(action): action for action in Action}


@dataclass(frozen=True, slots=True)
class Instant:
    """One instant in the latest state that it has reached.

    Attributes:
        time: when it was requested; its name.
        action: what it does. While pending a compaction is a compaction, completed a commit; the
            same goes for log compaction and clustering.
        state: how far it has come.
        completion_time: when it was completed; None while it is pending, and in layout 1.
        file_name: of the latest state, in the folder of the timeline.
    """

    time: str
    action: Action
    state: State
    completion_time: str | None
    file_name: str

    @property
    def is_completed(self) -> bool:
        """Whether what it wrote is visible."""
        return self.state is State.COMPLETED

    def named(self, state: State) -> str:
        """Return the name of its file of an earlier state."""
        if state is State.INFLIGHT and self.action is Action.COMMIT:
            return f"{self.time}.inflight"
        return f"{self.time}.{self.action}.{state}"


@dataclass(frozen=True)
class Timeline:
    """The active instants of a table, each once.

    Attributes:
        instants: ordered by time.
        layout: 1 or 2, see `TableConfig`.
        is_clock_ahead: whether instants are named by earlier times than ours was when they came:
            their writers live in another time zone, or the table was copied.
    """

    instants: tuple[Instant, ...]
    layout: int
    is_clock_ahead: bool = False

    def find(self, time: str) -> Instant | None:
        """Return the instant of this time, a write where there are several; None for none."""
        return self._by_time.get(time)

    def completed(self, *actions: Action) -> tuple[Instant, ...]:
        """Return what is completed, of the given actions or all."""
        return tuple(
            one
            for one in self.instants
            if one.is_completed and (not actions or one.action in actions)
        )

    def pending(self, *actions: Action) -> tuple[Instant, ...]:
        """Return what is not completed, of the given actions or all."""
        return tuple(
            one
            for one in self.instants
            if not one.is_completed and (not actions or one.action in actions)
        )

    @property
    def latest(self) -> Instant | None:
        """The newest completed write; None for a table that was never written to."""
        writes = [one for one in self.instants if one.is_completed and one.action in WRITES]
        return writes[-1] if writes else None

    @property
    def written(self) -> frozenset[str]:
        """Times of the completed writes."""
        return frozenset(one.time for one in self.completed(*WRITES))

    @property
    def running(self) -> frozenset[str]:
        """Times of the writes that are not completed."""
        return frozenset(one.time for one in self.pending(*WRITES))

    def until(self, time: str) -> Timeline:
        """Return the timeline without what was requested later than `time`."""
        return Timeline(tuple(one for one in self.instants if one.time <= time), self.layout)

    @cached_property
    def _by_time(self) -> dict[str, Instant]:
        found = {one.time: one for one in self.instants}
        return found | {one.time: one for one in self.instants if one.action in WRITES}

    @cached_property
    def visible(self) -> frozenset[str]:
        """Times of instants whose file slices readers see: completed writes, and compactions."""
        return frozenset(
            one.time
            for one in self.instants
            if one.action in WRITES and (one.is_completed or one.action is Action.COMPACTION)
        )

    @cached_property
    def first_visible(self) -> str:
        """The first of `visible`; base files of earlier instants are older than the timeline."""
        return min(self._without_saved(self.visible), default="")

    @cached_property
    def first_write(self) -> str:
        """The first write, pending or not; logs of earlier ones are older than the timeline."""
        writes = (one.time for one in self.instants if one.action in WRITES)
        return min(self._without_saved(writes), default="")

    @cached_property
    def completion_times(self) -> dict[str, str]:
        """When each completed instant was completed, by its own time; layout 1 has the latter."""
        return {
            one.time: one.completion_time or one.time for one in self.instants if one.is_completed
        }

    def is_slice_visible(self, time: str) -> bool:
        """Whether a slice that begins at an instant is seen: it is on the timeline, or older.

        What is still pending is not older, although Hudi takes it for that where it lists files by
        itself and a later write was the first one to be completed.
        """
        return time in self.visible or (time < self.first_visible and time not in self._running)

    def is_log_visible(self, time: str) -> bool:
        """Whether a log of an instant is seen, in layout 2: it is completed, or older."""
        return time in self.completion_times or time < self.first_write

    def is_block_valid(self, time: str) -> bool:
        """Whether a log block of this instant counts, in layout 1: its write did not fail."""
        if time in self._committed:
            return True
        first = min(self._without_saved(self._committed), default="")
        return time < first and time not in self._uncommitted

    def _without_saved(self, times: Iterable[str]) -> list[str]:
        """Leave savepoints out, unless there is nothing else: later writes may be archived."""
        found = list(times)
        saved = {one.time for one in self.instants if one.action is Action.SAVEPOINT}
        return [one for one in found if one not in saved] or found

    @cached_property
    def _running(self) -> frozenset[str]:
        return frozenset(one.time for one in self.instants if not one.is_completed)

    @cached_property
    def _committed(self) -> frozenset[str]:
        return frozenset(one.time for one in self.completed(*_COMMITS))

    @cached_property
    def _uncommitted(self) -> frozenset[str]:
        return frozenset(one.time for one in self.pending(*_COMMITS))


_COMMITS = (Action.COMMIT, Action.DELTACOMMIT, Action.REPLACECOMMIT)


def timeline_folder(root: Location, config: TableConfig) -> Location:
    """Return where the files of active instants are."""
    return root.child(config.timeline_path)


def read_timeline(storage: Storage, root: Location, config: TableConfig) -> Timeline:
    """List the active instants of a table, or of its metadata table with that one's root."""
    found, is_clock_ahead = [], False
    for one in state_files(storage, root, config):
        found.append(_with_completion_time(one.instant, one.modified_at, config))
        is_clock_ahead |= _is_named_late(one.instant, one.modified_at, config)
    return replace(timeline_of(found, layout=config.layout), is_clock_ahead=is_clock_ahead)


@dataclass(frozen=True, slots=True)
class StateFile:
    """A file of the timeline: one of the states that an instant has reached.

    Attributes:
        instant: in that state.
        size_bytes: of the file.
        modified_at: when it was written, by the clock of the store.
    """

    instant: Instant
    size_bytes: int
    modified_at: datetime


def state_files(storage: Storage, root: Location, config: TableConfig) -> Iterator[StateFile]:
    """Yield the files of all active instants in all of their states."""
    folder = timeline_folder(root, config)
    depth = len(folder.segments) + 1
    for one in storage.list(folder):
        if len(one.location.segments) == depth:
            instant = instant_of(one.location.name, layout=config.layout)
            if instant is not None:
                yield StateFile(instant, one.size_bytes, one.modified_at)


def read_instant(storage: Storage, root: Location, config: TableConfig, file_name: str) -> bytes:
    """Read the file of an instant in one of its states."""
    return storage.read(timeline_folder(root, config).child(file_name))


def instant_of(file_name: str, *, layout: int) -> Instant | None:
    """Read the name of a file in the folder of the timeline; None for what is no instant."""
    found = _NAME.fullmatch(file_name)
    if found is None:
        return None
    time, completion_time, action, state = found.groups()
    if action == State.INFLIGHT and state is None:
        # The name of a commit that is running does not say that it is a commit.
        action, state = Action.COMMIT, State.INFLIGHT
    if action not in _ACTIONS or (completion_time and (state or layout == 1)):
        return None
    return Instant(
        time, _ACTIONS[action], State(state or State.COMPLETED), completion_time, file_name
    )


def timeline_of(found: Iterable[Instant], *, layout: int) -> Timeline:
    """Return the timeline of these instants, of each the latest state."""
    latest: dict[tuple[str, Action], Instant] = {}
    for one in found:
        key = (one.time, COMPLETED_AS.get(one.action, one.action))
        if key not in latest or _rank(latest[key]) < _rank(one):
            latest[key] = one
    return Timeline(tuple(latest[key] for key in sorted(latest)), layout)


def _rank(instant: Instant) -> int:
    return _STATES.index(instant.state)


def _with_completion_time(instant: Instant, modified_at: datetime, config: TableConfig) -> Instant:
    """Fill in what the name of an instant does not say where an old release completed it."""
    if config.layout == 1 or not instant.is_completed or instant.completion_time:
        return instant
    return replace(instant, completion_time=instant_time(modified_at, config))


def _is_named_late(instant: Instant, modified_at: datetime, config: TableConfig) -> bool:
    """Whether an instant was requested at a time that is later by our clock than it is named."""
    if instant.state is not State.REQUESTED or not instant.time.startswith("20"):
        return False
    return instant.time < instant_time(modified_at - _LAG_MAX, config)


def instant_time(moment: datetime, config: TableConfig) -> str:
    """Return how instants of the table are named that are requested at a moment."""
    local = moment.astimezone(UTC if config.is_utc else None)
    return f"{local:%Y%m%d%H%M%S}{local.microsecond // 1000:03d}"
