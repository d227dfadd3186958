"""How far sources of changes have been merged: in the summary of the snapshot that merged them.

The newest ancestor of a snapshot that speaks of a source tells, so a table that is rolled back has
the watermark that belongs to its rows. For the time when that ancestor has been expired, a property
of the table repeats it, and names it: where it is still there and no ancestor, it was rolled back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot, ancestors_of

from catalog.errors import CorruptTableError
from catalog.iceberg.metadata import is_first
from catalog.model import Watermark

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
