"""What Spark notes in footers of the calendar that dates and times are in, for outputs to say, too.

Spark 3.1 and later write the calendar that all other engines use, and say in the footer that they
have written the file. Where nothing is said, Spark 3 refuses to read dates before 1582 and times
before 1900: they may be in the older calendar, which it writes when it is told to, and says so.
Source: `DataSourceUtils` of Apache Spark.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.layout import FileLayout
from catalog.model import FileSlice
from catalog.table import TableFiles
from compactor.parquet import Footer
from compactor.rewrite.footers import Footers
from compactor.rewrite.input import decoding, open_parquet
from compactor.rewrite.read import is_stored

VERSION = "org.apache.spark.version"
_OLDER = (b"org.apache.spark.legacyDateTime", b"org.apache.spark.legacyINT96")
_SINCE = (3, 1)
# 1582-10-15 and 1900-01-01: from then on both calendars agree, in all time zones.
_FIRST_DAY = -141_427
_FIRST_SECOND = -2_208_988_800
_PER_SECOND = {"milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_INT96 = "INT96"


def layout_of(table: TableFiles, files: Iterable[FileSlice], footers: Footers) -> FileLayout:
    """Return a table's layout; footers say what Spark has said in those of all inputs.

    Args:
        table: the workers' side of the snapshot.
        files: the inputs of some outputs.
        footers: of the inputs.

    Raises:
        UnsupportedTableError: an input has dates or times in an older calendar.
        CatalogError: one cannot be read.
    """
    if not any(_has_moments(field.type) for field in table.schema.stored.arrow):
        return table.layout
    stored = list(filter(is_stored, files))
    versions = list(footers.each(lambda one: _version(table, one, footers), stored))
    version = common_version(versions)
    if not version:
        return table.layout
    said = (*table.layout.footer_metadata, (VERSION, version))
    return replace(table.layout, footer_metadata=said)


def common_version(versions: Collection[str]) -> str:
    """Return the oldest version if all files say one; empty otherwise."""
    return min(versions, key=_number) if versions and all(versions) else ""


def _has_moments(kind: pa.DataType) -> bool:
    """Tell whether a type has dates or times at any depth."""
    if types.is_date(kind) or types.is_timestamp(kind):
        return True
    return any(_has_moments(kind.field(number).type) for number in range(kind.num_fields))


def _version(table: TableFiles, file: FileSlice, footers: Footers) -> str:
    """Return the version of Spark that wrote a file in today's calendar; empty if none says so."""
    try:
        footer = footers.get(file)
        pairs = footer.key_values()
    except (CorruptTableError, UnsupportedTableError):
        # Whether the file can be read at all is for the reader of rows to say.
        return ""
    version = (pairs.get(VERSION.encode()) or b"").decode("utf-8", "replace")
    if not version:
        return ""
    if not pairs.keys().isdisjoint(_OLDER) or _number(version) < _SINCE:
        if _is_early(table, file, footer):
            raise UnsupportedTableError(
                f"{file.path} has dates before 1582 or times before 1900 in the calendar of old"
                " releases of Spark",
                hint="have Spark rewrite the file",
            )
        return ""
    return version


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _is_early(table: TableFiles, file: FileSlice, footer: Footer) -> bool:
    """Tell whether a file has values that differ in the calendars: by statistics, else by rows."""
    metadata = pq.read_metadata(pa.BufferReader(footer.as_file()))
    unknown = set()
    for number in range(metadata.num_columns):
        first = _first_alike(metadata.schema.column(number))
        if first is not None:
            found = list(_begin_before(metadata, number, first))
            if True in found:
                return True
            if None in found:
                unknown.add(metadata.schema.column(number).path.partition(".")[0])
    return bool(unknown) and _has_early_rows(table, file, sorted(unknown))


def _first_alike(column: pq.ColumnSchema) -> int | None:
    """Return the first stored value that means the same in both calendars; None for others."""
    if column.physical_type == _INT96:
        return 0
    kind = str(column.logical_type)
    if kind.startswith("Date"):
        return _FIRST_DAY
    if not kind.startswith("Timestamp"):
        return None
    unit = next(unit for unit in _PER_SECOND if unit in kind)
    return _FIRST_SECOND * _PER_SECOND[unit]


def _begin_before(metadata: pq.FileMetaData, column: int, first: int) -> Iterator[bool | None]:
    """Tell of each chunk of a column whether it has values before one; None where nobody says."""
    for group in range(metadata.num_row_groups):
        chunk = metadata.row_group(group).column(column)
        values = chunk.statistics
        if values is not None and values.has_null_count and values.null_count == chunk.num_values:
            yield False
        elif values is None or not values.has_min_max or chunk.physical_type == _INT96:
            yield None
        else:
            yield bool(values.min_raw < first)


def _has_early_rows(table: TableFiles, file: FileSlice, columns: list[str]) -> bool:
    name, location = file.path, table.locate(file.path)
    with (
        open_parquet(table.storage, location, name=name, size_bytes=file.size_bytes) as source,
        decoding(name),
    ):
        for batch in source.file.iter_batches(columns=columns, use_threads=False):
            if any(map(_has_early, batch.columns)):
                return True
    return False


def _has_early(values: pa.Array) -> bool:
    """Tell whether there are dates or times before the first alike; nested ones may be."""
    kind = values.type
    if types.is_date(kind):
        first = pa.scalar(_FIRST_DAY, pa.int32()).cast(pa.date32()).cast(kind)
    elif types.is_timestamp(kind):
        first = pa.scalar(_FIRST_SECOND, pa.timestamp("s", kind.tz)).cast(kind)
    else:
        return True
    return bool(pc.any(pc.less(values, first)).as_py())
