"""The records that a commit adds to the metadata table: listing, statistics, bloom filters.

Records of one partition of the metadata table are held in memory: about 250 bytes for each file
and indexed column. The record index, which has one for each row, is built elsewhere, in pieces.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import pyarrow.parquet as pq

from catalog.errors import CorruptTableError
from catalog.hudi.metadata_table.change import AddedFile, MetadataChange
from catalog.hudi.metadata_table.column_ranges import ColumnRange, merge_ranges, unbounded
from catalog.hudi.metadata_table.keys import (
    ALL_PARTITIONS,
    bloom_key,
    column_partition_prefix,
    column_prefix,
    column_stats_key,
    file_hash,
    partition_id,
)
from catalog.hudi.metadata_table.reading import slice_versions
from catalog.hudi.metadata_table.record_reader import decode_stats
from catalog.hudi.metadata_table.records import (
    FileInfo,
    FileStats,
    RecordKind,
    encode_bloom_filter,
    encode_files,
    encode_stats,
)
from catalog.hudi.metadata_table.table import COLUMN_STATS
from catalog.hudi.metadata_table.versions import since_deleted
from catalog.hudi.metadata_table.view import MetadataView
from catalog.hudi.schema import parse_avro

# Always indexed, before the columns of the table itself.
_META_COLUMNS = ("_hoodie_commit_time", "_hoodie_partition_path", "_hoodie_record_key")
_COLUMNS_MAX = 32
_NESTED = frozenset(("record", "array", "map", "enum"))
_BLOOM_FILTER = b"org.apache.hudi.bloomfilter"
_BLOOM_TYPE = b"hoodie_bloom_filter_type_code"


@dataclass(frozen=True, slots=True)
class Records:
    """What is written to one partition of the metadata table.

    Attributes:
        entries: records by their key.
        deleted: keys of records that are deleted.
    """

    entries: Mapping[str, bytes] = field(default_factory=dict)
    deleted: Sequence[str] = ()


def listing_records(change: MetadataChange) -> Records:
    """Return what changes in the listing of files."""
    files: dict[str, dict[str, FileInfo]] = {}
    for one in change.added:
        listed = files.setdefault(partition_id(one.partition_path), {})
        listed[one.name] = FileInfo(one.size_bytes, False)
    known = {name: FileInfo(0, False) for name in files}
    for path, names in change.deleted.items():
        listed = files.setdefault(partition_id(path), {})
        listed.update(dict.fromkeys(names, FileInfo(0, True)))
    gone = [partition_id(path) for path in sorted(change.deleted_partitions)]
    known.update(dict.fromkeys(gone, FileInfo(0, True)))
    entries = {
        name: encode_files(RecordKind.FILES, listed)
        for name, listed in files.items()
        if name not in gone
    }
    entries[ALL_PARTITIONS] = encode_files(RecordKind.PARTITION_LIST, known)
    return Records(entries, gone)


def indexed_columns(view: MetadataView, schema: str) -> tuple[str, ...]:
    """Return the columns that the table keeps statistics of.

    Tables of version 6 do not note them: those are meant that statistics are found of.

    Args:
        view: the metadata table.
        schema: the Avro schema of the table.
    """
    definition = view.table.definitions.get(COLUMN_STATS)
    if definition is not None and definition.columns:
        return definition.columns
    fields = [one for one in parse_avro(schema)["fields"] if _is_plain(one["type"])]
    names = [one["name"] for one in fields if one["name"] not in _META_COLUMNS]
    known = tuple(name for name in (*_META_COLUMNS, *names) if _has_statistics(view, name))
    return known or (*_META_COLUMNS, *names[:_COLUMNS_MAX])


def _is_plain(kind: object) -> bool:
    branches = kind if isinstance(kind, list) else [kind]
    names = [one["type"] if isinstance(one, dict) else one for one in branches]
    return not any(name in _NESTED for name in names)


def _has_statistics(view: MetadataView, column: str) -> bool:
    prefix = column_prefix(column)
    return any(True for _ in islice(_stored(view, [prefix]), 1))


def column_stats_records(
    view: MetadataView, change: MetadataChange, columns: Sequence[str]
) -> Records:
    """Return what changes in the statistics of files."""
    version, wanted = view.table.index_version(), set(columns)
    entries = {}
    for one in change.added:
        for found in one.ranges:
            if found.column in wanted:
                key = column_stats_key(found.column, one.partition_path, one.name)
                entries[key] = encode_stats(
                    RecordKind.COLUMN_STATS, FileStats(one.name, found), index_version=version
                )
    deleted = [
        column_stats_key(column, path, name)
        for path, names in change.deleted.items()
        for name in names
        for column in columns
    ]
    return Records(entries, deleted)


def partition_stats_records(
    view: MetadataView, change: MetadataChange, columns: Sequence[str], instant: str
) -> Records:
    """Return the statistics of the partitions that files are added to, made anew.

    Records are read in the order of the instants' names. What an earlier one that is still running
    will say of its files would be replaced by ours, which know none of them: ours widen it then.

    Raises:
        CorruptTableError: the change does not name the files of such a partition.
    """
    version = view.table.index_version()
    is_tight = all(one >= instant for one in view.unfinished)
    added: dict[str, list[AddedFile]] = {}
    for one in change.added:
        added.setdefault(one.partition_path, []).append(one)
    known = {
        path: {file.name: {one.column: one for one in file.ranges} for file in files}
        for path, files in added.items()
    }
    for path in added:
        if path not in change.live:
            raise CorruptTableError(f"the commit does not say which files partition {path!r} has")
    others = {path: change.live[path] - set(known[path]) for path in added}
    stored = _stored_by_partition(view, others, columns)
    entries = {}
    for path in added:
        live = {name: known[path].get(name) or stored[path].get(name) for name in change.live[path]}
        for column in columns:
            found = _over_files(column, live)
            if found is not None:
                entries[column_partition_prefix(column, path)] = encode_stats(
                    RecordKind.PARTITION_STATS,
                    FileStats(path, found, is_tight=is_tight),
                    index_version=version,
                )
    return Records(entries)


def _over_files(
    column: str, live: Mapping[str, Mapping[str, ColumnRange] | None]
) -> ColumnRange | None:
    """Return what the column lies between in all of these files; None where none of them has it.

    Rows of files that are older than the column are null there. Files that nothing is known of can
    hold any value, and nulls.
    """
    ranges = [ranges[column] for ranges in live.values() if ranges and column in ranges]
    if not ranges:
        return None
    # Files that were added come from a schema that is at least as new as those of the others.
    target = max(ranges, key=lambda one: (one.minimum is not None, one.value_type))
    found = merge_ranges(ranges, target)
    older = [ranges for ranges in live.values() if ranges and column not in ranges]
    rows = sum(max(one.value_count for one in ranges.values()) for ranges in older)
    found = _with_more(found, nulls=rows, values=rows)
    return unbounded(_with_more(found, nulls=1, values=2)) if None in live.values() else found


def _with_more(found: ColumnRange, *, nulls: int, values: int) -> ColumnRange:
    """Return a range with more rows; readers pass over one whose counts tell of no match."""
    counts = (found.null_count + nulls, found.value_count + values)
    return replace(found, null_count=counts[0], value_count=counts[1])


def _stored_by_partition(
    view: MetadataView, files: Mapping[str, Collection[str]], columns: Sequence[str]
) -> Mapping[str, Mapping[str, Mapping[str, ColumnRange]]]:
    """Return the ranges of these files that are stored, by partition path, file and column."""
    owners = {
        column_partition_prefix(column, path): path
        for path, names in files.items()
        for column in columns
        if names
    }
    found: dict[str, dict[str, dict[str, ColumnRange]]] = {path: {} for path in files}
    hashes = frozenset(file_hash(name) for names in files.values() for name in names)
    length = len(next(iter(owners), ""))
    for key, stats in _stored(view, list(owners), hashes):
        ranges = found[owners[key[:length]]].setdefault(stats.file_name, {})
        ranges[stats.column_range.column] = stats.column_range
    return found


def _stored(
    view: MetadataView, prefixes: Sequence[str], hashes: Collection[str] | None = None
) -> Iterator[tuple[str, FileStats]]:
    """Yield the statistics of files whose keys begin with one of these, and end with a hash."""
    if not prefixes:
        return
    data = [prefix.encode() for prefix in prefixes]
    known, length = set(prefixes), len(prefixes[0])
    for one in view.slices(COLUMN_STATS):
        for key, versions in slice_versions(view, one, prefixes=data):
            text = key.decode()
            if hashes is not None and text[length:] not in hashes:
                continue
            left = since_deleted(versions)
            if left and text[:length] in known and left[-1].record is not None:
                stats = decode_stats(left[-1].record, left[-1].schema)
                if stats is not None and not stats.is_deleted:
                    yield text, stats


def bloom_records(view: MetadataView, change: MetadataChange, instant: str) -> Records:
    """Return what changes in the index of bloom filters, which files have in their footers."""
    entries = {}
    for one in change.added:
        if not one.is_log:
            found = _bloom_filter(view, one)
            if found is not None:
                text, type_code = found
                entries[bloom_key(one.partition_path, one.name)] = encode_bloom_filter(
                    text, type_code=type_code, instant=instant
                )
    deleted = [
        bloom_key(path, name)
        for path, names in change.deleted.items()
        for name in names
        if not name.startswith(".")
    ]
    return Records(entries, deleted)


def _bloom_filter(view: MetadataView, one: AddedFile) -> tuple[str, str] | None:
    location = view.table.table_root.child(one.path)
    with view.table.storage.open_input(location, size_bytes=one.size_bytes) as file:
        noted = pq.read_metadata(file).metadata or {}
    if _BLOOM_FILTER not in noted:
        return None
    return noted[_BLOOM_FILTER].decode(), noted.get(_BLOOM_TYPE, b"SIMPLE").decode()
