"""Which calendar dates and times of base files are in, as Spark notes and reads it.  Pure.

Spark 3.1 and later write the calendar that all other engines use, and say in the footer that they
have written the file. Where nothing is said, Spark 3 refuses to read dates before 1582 and times
before 1900: they may be in the older calendar, which it writes when it is told to, and says so.
Source: `DataSourceUtils` of Apache Spark.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import pyarrow.parquet as pq

from catalog.errors import UnsupportedTableError

VERSION = "org.apache.spark.version"
_OLDER = ("org.apache.spark.legacyDateTime", "org.apache.spark.legacyINT96")
_SINCE = (3, 1)
# 1582-10-15 and 1900-01-01: from then on both calendars agree, in all time zones.
_FIRST_DAY = -141_427
_FIRST_SECOND = -2_208_988_800
_PER_SECOND = {"milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


def writer_version(footer: pq.FileMetaData) -> str:
    """Return the version of Spark that wrote a file in today's calendar; empty if none says so.

    Raises:
        UnsupportedTableError: it has dates or times in the older calendar, or may have.
    """
    pairs = footer.metadata or {}
    version = pairs.get(VERSION.encode(), b"").decode()
    if not version:
        return ""
    is_older = any(key.encode() in pairs for key in _OLDER) or _number(version) < _SINCE
    if is_older and any(_early(footer)):
        raise UnsupportedTableError(
            "a base file has dates before 1582 or times before 1900 in the calendar of old releases"
            " of Spark",
        )
    return "" if is_older else version


def common_version(versions: Collection[str]) -> str:
    """Return the oldest version if all files say one; empty otherwise."""
    return min(versions, key=_number) if versions and all(versions) else ""


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _early(footer: pq.FileMetaData) -> Iterator[bool]:
    """Tell of each column chunk of dates or times whether it may have values that differ."""
    for group in range(footer.num_row_groups):
        for column in range(footer.num_columns):
            first = _first_alike(footer.schema.column(column))
            if first is not None:
                chunk = footer.row_group(group).column(column)
                yield _may_begin_before(chunk, first)


def _first_alike(column: pq.ColumnSchema) -> int | None:
    """Return the first stored value that means the same in both calendars; None for others."""
    if column.physical_type == "INT96":
        return 0
    kind = str(column.logical_type)
    if kind.startswith("Date"):
        return _FIRST_DAY
    if not kind.startswith("Timestamp"):
        return None
    unit = next(unit for unit in _PER_SECOND if unit in kind)
    return _FIRST_SECOND * _PER_SECOND[unit]


def _may_begin_before(chunk: pq.ColumnChunkMetaData, first: int) -> bool:
    values = chunk.statistics
    if values is not None and values.has_null_count and values.null_count == chunk.num_values:
        return False
    if values is None or not values.has_min_max or chunk.physical_type == "INT96":
        return True
    return bool(values.min_raw < first)
