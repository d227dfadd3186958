"""Which snapshots and references a table's retention lets go.  Pure.

A branch keeps its newest snapshots, by number and by age; a tag keeps its snapshot; what no
reference leads to is kept by age. References themselves may have an age, all but the main branch.
What a reference says of itself wins over what is said for the whole table.

Specification: https://iceberg.apache.org/spec/#snapshot-retention-policy
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

MAIN = "main"


@dataclass(frozen=True, slots=True)
class Version:
    """A snapshot, as far as retention looks at it."""

    snapshot_id: int
    parent_id: int | None
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Reference:
    """A branch or a tag; what is None follows the table.

    Attributes:
        name: its name.
        snapshot_id: what it refers to.
        is_branch: whether it has a history of its own.
        snapshots_min: how many snapshots of a branch are kept however old they are.
        age_ms_max: how old the others may become.
        own_age_ms_max: how old the snapshot may become before the reference itself goes.
    """

    name: str
    snapshot_id: int
    is_branch: bool = True
    snapshots_min: int | None = None
    age_ms_max: int | None = None
    own_age_ms_max: int | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """What is said for the whole table; fields as of `Reference`, None for no limit."""

    age_ms_max: int
    snapshots_min: int = 1
    own_age_ms_max: int | None = None


@dataclass(frozen=True, slots=True)
class Expiry:
    """What goes.

    Attributes:
        snapshot_ids: snapshots, the oldest first.
        references: names of branches and tags.
    """

    snapshot_ids: tuple[int, ...]
    references: tuple[str, ...]


def expiry(
    versions: Sequence[Version],
    references: Sequence[Reference],
    *,
    retention: Retention,
    anchors: Collection[int],
    now_ms: int,
) -> Expiry:
    """Return what goes.

    Args:
        versions: every snapshot of the table.
        references: every branch and tag.
        retention: what is said for the whole table.
        anchors: snapshots that are kept, with all that follow them in a branch.
        now_ms: the time that ages are counted to, in ms since the epoch.
    """
    known = {one.snapshot_id: one for one in versions}
    outdated = {one.name for one in references if _is_outdated(one, known, retention, now_ms)}
    kept, reached = set(anchors), set(anchors)
    for one in references:
        if one.name in outdated:
            continue
        lineage = list(_lineage(one, known))
        reached |= {version.snapshot_id for version in lineage}
        kept |= _kept_of(one, lineage, retention, now_ms) | _since_anchors(lineage, anchors)
    oldest_ms = now_ms - retention.age_ms_max
    gone = [
        one
        for one in versions
        if one.snapshot_id not in kept
        and (one.snapshot_id in reached or one.timestamp_ms < oldest_ms)
    ]
    gone.sort(key=lambda one: one.timestamp_ms)
    return Expiry(tuple(one.snapshot_id for one in gone), tuple(sorted(outdated)))


def _is_outdated(
    one: Reference, known: Mapping[int, Version], retention: Retention, now_ms: int
) -> bool:
    own_age_ms_max = one.own_age_ms_max or retention.own_age_ms_max
    version = known.get(one.snapshot_id)
    if one.name == MAIN or own_age_ms_max is None or version is None:
        return False
    return now_ms - version.timestamp_ms > own_age_ms_max


def _lineage(one: Reference, known: Mapping[int, Version]) -> Iterator[Version]:
    """Yield the snapshot of a reference and, for a branch, its ancestors."""
    number: int | None = one.snapshot_id
    seen: set[int] = set()
    while number is not None and number in known and number not in seen:
        seen.add(number)
        yield known[number]
        if not one.is_branch:
            return
        number = known[number].parent_id


def _kept_of(
    one: Reference, lineage: Sequence[Version], retention: Retention, now_ms: int
) -> set[int]:
    snapshots_min = max(1, one.snapshots_min or retention.snapshots_min)
    oldest_ms = now_ms - (one.age_ms_max or retention.age_ms_max)
    kept: set[int] = set()
    for version in lineage:
        # The first that is too old ends it: clocks of writers differ, histories have no holes.
        if len(kept) >= snapshots_min and version.timestamp_ms < oldest_ms:
            break
        kept.add(version.snapshot_id)
    return kept


def _since_anchors(lineage: Sequence[Version], anchors: Collection[int]) -> set[int]:
    """Return all from the newest snapshot to the last anchor, so that it stays an ancestor."""
    places = [at for at, one in enumerate(lineage) if one.snapshot_id in anchors]
    end = places[-1] + 1 if places else 0
    return {one.snapshot_id for one in lineage[:end]}
