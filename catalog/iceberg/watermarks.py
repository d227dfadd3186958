"""How far sources of changes have been merged: in the summary of the snapshot that merged them.

The newest ancestor of a snapshot that speaks of a source tells, so a table that is rolled back has
the watermark that belongs to its rows. For the time when that ancestor has been expired, a property
of the table repeats it, and names it: where it is still there and no ancestor, it was rolled back.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot, ancestors_of

from catalog.commits import Watermark
from catalog.errors import CorruptTableError
from catalog.iceberg.metadata import is_first

_PREFIX = "compact.watermark."


def in_summary(watermarks: Iterable[Watermark]) -> dict[str, str]:
    """Return what the summary of a snapshot says of watermarks."""
    return {_PREFIX + one.source: one.value for one in watermarks}


def merged_by(snapshot: Snapshot) -> frozenset[str]:
    """Return the sources that a snapshot merged."""
    said = snapshot.summary.additional_properties if snapshot.summary else {}
    return frozenset(name.removeprefix(_PREFIX) for name in said if name.startswith(_PREFIX))


def as_properties(watermarks: Iterable[Watermark], snapshot: Snapshot) -> dict[str, str]:
    """Return the properties of a table that repeat what one of its snapshots says."""
    return {
        _PREFIX + one.source: json.dumps([snapshot.snapshot_id, one.value]) for one in watermarks
    }


def watermark_of(metadata: TableMetadata, snapshot: Snapshot | None, source: str) -> str | None:
    """Return how far a source had been merged in a snapshot; None for not at all.

    Raises:
        CorruptTableError: it was merged by a snapshot that is gone, and the table may have been
            rolled back behind it since.
    """
    oldest = None
    for oldest in ancestors_of(snapshot, metadata):
        found = oldest.summary.additional_properties if oldest.summary else {}
        if _PREFIX + source in found:
            return found[_PREFIX + source]
    if oldest is None or is_first(oldest):
        return None
    return _repeated(metadata, source)


def _repeated(metadata: TableMetadata, source: str) -> str | None:
    """Return what was merged before the oldest snapshot that is known."""
    text = metadata.properties.get(_PREFIX + source)
    if text is None:
        return None
    try:
        snapshot_id, value = json.loads(text)
        is_other = metadata.snapshot_by_id(int(snapshot_id)) is not None
    except (ValueError, TypeError) as fault:
        raise CorruptTableError(f"the property {_PREFIX}{source} is malformed") from fault
    if is_other:
        raise CorruptTableError(
            f"the table was rolled back behind the snapshot that merged {source}, and the one that"
            " merged it before has been expired",
            hint="find out how far it is merged, and merge the rest under another name",
        )
    return str(value)


def snapshots_to_keep(metadata: TableMetadata, kept: Collection[int]) -> set[int]:
    """Return the snapshots that must not be expired, lest a watermark were told wrongly.

    One that an ancestor of the head tells may go once the property repeats it. The one that the
    property names has to stay where a kept snapshot does not follow it: its being there is how it
    is found out that the table was rolled back behind it.

    Args:
        metadata: of the table.
        kept: the snapshots that are to be kept.
    """
    by_id = {one.snapshot_id: one for one in metadata.snapshots}
    told = _told(metadata, by_id)
    needed: set[int] = set()
    for source in {*told, *_repeated_sources(metadata)}:
        named = _named_by_property(metadata, source)
        if source in told and told[source] != named:
            needed.add(told[source])
        if named in by_id and not _followers(metadata, named).issuperset(kept):
            needed.add(named)
    return needed


def _told(metadata: TableMetadata, by_id: Mapping[int, Snapshot]) -> Mapping[str, int]:
    """Return the newest ancestor of the head that speaks of a source, by source."""
    told: dict[str, int] = {}
    snapshot = metadata.current_snapshot()
    while snapshot is not None:
        for source in merged_by(snapshot):
            told.setdefault(source, snapshot.snapshot_id)
        snapshot = by_id.get(snapshot.parent_snapshot_id or -1)
    return told


def _repeated_sources(metadata: TableMetadata) -> list[str]:
    return [name.removeprefix(_PREFIX) for name in metadata.properties if name.startswith(_PREFIX)]


def _named_by_property(metadata: TableMetadata, source: str) -> int:
    """Return the snapshot that a property names; one that there is not where it names none."""
    try:
        return int(json.loads(metadata.properties[_PREFIX + source])[0])
    except (ValueError, TypeError, LookupError):
        return -1


def _followers(metadata: TableMetadata, snapshot_id: int) -> set[int]:
    """Return a snapshot and all that descend from it."""
    children: dict[int | None, list[int]] = {}
    for one in metadata.snapshots:
        children.setdefault(one.parent_snapshot_id, []).append(one.snapshot_id)
    found, waiting = {snapshot_id}, [snapshot_id]
    while waiting:
        new = [one for one in children.get(waiting.pop(), ()) if one not in found]
        found.update(new)
        waiting += new
    return found
