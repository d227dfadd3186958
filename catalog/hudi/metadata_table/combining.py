"""What the versions of a key come to: the record that a base file has of it.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from catalog.errors import UnsupportedTableError
from catalog.hudi.metadata_table.column_ranges import merge_ranges
from catalog.hudi.metadata_table.keys import ALL_PARTITIONS
from catalog.hudi.metadata_table.record_reader import (
    as_own,
    decode_files,
    decode_place,
    decode_secondary,
    decode_stats,
)
from catalog.hudi.metadata_table.records import (
    FileStats,
    RecordKind,
    combine_files,
    encode_files,
    encode_place,
    encode_stats,
)
from catalog.hudi.metadata_table.table import (
    COLUMN_STATS,
    FILES,
    PARTITION_STATS,
    RECORD_INDEX,
    SECONDARY_INDEX,
)
from catalog.hudi.metadata_table.versions import Version, since_deleted

_ALL_PARTITIONS = ALL_PARTITIONS.encode()


def combined(partition: str, versions: Sequence[Version], *, index_version: int) -> bytes | None:
    """Return the record that the versions of a key come to; None where nothing is left.

    Args:
        partition: of the metadata table.
        versions: of one key, oldest first.
        index_version: of the form of statistics, 1 or 2.

    Raises:
        UnsupportedTableError: a record is in a form that cannot be made our own.
    """
    left = since_deleted(versions)
    if not left:
        return None
    if partition == FILES:
        return _files(left)
    if partition in (COLUMN_STATS, PARTITION_STATS):
        return _stats(partition, left, index_version)
    last = left[-1]
    record = last.record or b""
    if partition.startswith(SECONDARY_INDEX) and decode_secondary(record, last.schema):
        return None
    own = as_own(record, last.schema)
    if own is None and partition == RECORD_INDEX:
        place = decode_place(record, last.schema)
        return encode_place(place) if place is not None else None
    if own is None:
        raise UnsupportedTableError(f"records of {partition} are in the form of another release")
    return own


def _files(versions: Sequence[Version]) -> bytes:
    parts = [decode_files(one.record or b"", one.schema) for one in versions]
    files = {name: info for name, info in combine_files(parts).items() if not info.is_deleted}
    is_list = versions[-1].key == _ALL_PARTITIONS
    return encode_files(RecordKind.PARTITION_LIST if is_list else RecordKind.FILES, files)


def _stats(partition: str, versions: Sequence[Version], index_version: int) -> bytes | None:
    last = decode_stats(versions[-1].record or b"", versions[-1].schema)
    if last is None or last.is_deleted:
        return None
    if last.is_tight or len(versions) == 1:
        own = as_own(versions[-1].record or b"", versions[-1].schema)
        if own is not None:
            return own
    else:
        last = _widened([decode_stats(one.record or b"", one.schema) for one in versions])
    kind = RecordKind.COLUMN_STATS if partition == COLUMN_STATS else RecordKind.PARTITION_STATS
    return encode_stats(kind, last, index_version=index_version)


def _widened(found: Sequence[FileStats | None]) -> FileStats:
    """Return statistics that hold for all versions since the last one that stands for itself."""
    known = [one for one in found if one is not None]
    begin = max((at for at, one in enumerate(known) if one.is_tight or one.is_deleted), default=0)
    valid = [one for one in known[begin:] if not one.is_deleted]
    ranges = [one.column_range for one in valid]
    return replace(known[-1], column_range=merge_ranges(ranges, ranges[-1]))
