"""States of a table by an id, and what they hold: the current one, and earlier ones.  Pure.

A state is named by the time at which its last write was completed: later writes may have been
requested earlier. In layout 1 that time is not kept, and the time of the request stands for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from catalog.errors import SnapshotNotFoundError
from catalog.hudi.config import TableConfig
from catalog.hudi.timeline import WRITES, Action, Instant, State, Timeline
from catalog.model import Snapshot

_DIGITS = 17
NO_STATE = Snapshot("", 0, 0, None, "")


def order_of(instant: Instant) -> str:
    """Return what puts completed writes in the order in which readers came to see them."""
    return instant.completion_time or instant.time


def snapshots(timeline: Timeline, config: TableConfig) -> list[Snapshot]:
    """Return the states that active writes made, the newest last."""
    writes = sorted(
        (one for one in timeline.instants if one.is_completed and one.action in WRITES),
        key=order_of,
    )
    found: list[Snapshot] = []
    for one in writes:
        parent = found[-1].snapshot_id if found else None
        name = order_of(one)
        found.append(Snapshot(name, int(name), timestamp_ms(name, config), parent, str(one.action)))
    return found


def find_snapshot(timeline: Timeline, config: TableConfig, snapshot_id: str | None) -> Snapshot:
    """Return the current state, or the one with an id.

    Raises:
        SnapshotNotFoundError: no active write made it.
    """
    known = snapshots(timeline, config)
    if snapshot_id is None:
        return known[-1] if known else NO_STATE
    for one in known:
        if one.snapshot_id == snapshot_id:
            return one
    if not snapshot_id and not known:
        return NO_STATE
    raise SnapshotNotFoundError(
        f"the table has no snapshot {snapshot_id!r}",
        hint="snapshots are named by the times at which writes were completed",
    )


def later_commits(timeline: Timeline, snapshot: Snapshot) -> list[Instant]:
    """Return commits that were completed after a state: compactions among them were pending."""
    return [
        one
        for one in timeline.completed(Action.COMMIT)
        if order_of(one) > snapshot.snapshot_id > one.time
    ]


def as_of(timeline: Timeline, snapshot: Snapshot, compactions: Iterable[str]) -> Timeline:
    """Return the timeline as it stood when a state was the current one, as far as that matters.

    Args:
        timeline: now.
        snapshot: the state.
        compactions: those of `later_commits` that are compactions.
    """
    if not snapshot.snapshot_id:
        return Timeline((), timeline.layout)
    pending = frozenset(compactions)

    def then(one: Instant) -> Instant | None:
        if not one.is_completed or order_of(one) <= snapshot.snapshot_id:
            return one
        if one.time not in pending:
            return None
        begun = replace(one, action=Action.COMPACTION, state=State.INFLIGHT, completion_time=None)
        return replace(begun, file_name=begun.named(State.INFLIGHT))

    found = (then(one) for one in timeline.instants)
    return Timeline(tuple(one for one in found if one is not None), timeline.layout)


def timestamp_ms(time: str, config: TableConfig) -> int:
    """Return the moment that the time of an instant names; 0 for what is no date."""
    try:
        moment = datetime.strptime(f"{time[:_DIGITS].ljust(_DIGITS, '0')}000", "%Y%m%d%H%M%S%f")
    except ValueError:
        return 0
    moment = moment.replace(tzinfo=UTC) if config.is_utc else moment.astimezone()
    return int(moment.timestamp() * 1000)
