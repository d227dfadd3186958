"""Statistics of a data file as the log keeps them, from its Parquet footer.  Pure.

Readers skip files by these bounds: a wrong one hides rows, an absent one costs a little time. So
what a footer does not tell is left out: the bounds of floating-point columns, since footers pass
over NaN in silence, and everything within lists and maps.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#per-file-statistics
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from catalog.errors import CorruptTableError
from catalog.footer_statistics import bounds, decimal_value, null_count

# Names from the root to a column.
Path = tuple[str, ...]

_INDEXED_DEFAULT = 32
_ALL = -1
_TEXT_LENGTH_MAX = 32
# Appended to a text that was cut off, to stay above it: as writers of the format do.
_TIE_BREAKERS = ("\ufffd", "\U0010ffff")
_INTEGERS = frozenset(("byte", "short", "integer", "long"))
_DECIMAL = re.compile(r"decimal\(\s*\d+\s*,\s*(\d+)\s*\)")
_EPOCH = dt.date(1970, 1, 1).toordinal()
_EPOCH_TIME = dt.datetime(1970, 1, 1)
# How many of a stored unit make a millisecond.
_PER_MILLISECOND = {"milliseconds": 1, "microseconds": 1_000, "nanoseconds": 1_000_000}


@dataclass(frozen=True, slots=True)
class StatsColumn:
    """A column that statistics are collected of.

    Attributes:
        path: its physical names, those of the data files.
        kind: the name of its type in the table's schema; `struct`s are given by their fields.
    """

    path: Path
    kind: str


def stats_columns(
    fields: Sequence[Mapping[str, Any]],
    configuration: Mapping[str, str],
    *,
    partition_columns: Sequence[str] = (),
    always: Collection[Path] = (),
) -> tuple[StatsColumn, ...]:
    """Choose the columns that the table wants statistics of.

    Args:
        fields: of the table's schema, as its JSON has them.
        configuration: properties of the table.
        partition_columns: logical names; they are not in data files.
        always: physical names of columns that it cannot do without.
    """
    leaves = leaf_columns([one for one in fields if one["name"] not in partition_columns])
    named = configuration.get("delta.dataSkippingStatsColumns")
    if named is not None:
        wanted = [_names(one) for one in _listed(named)]
        return tuple(
            column
            for logical, column in leaves
            if column.path in always
            or any(tuple(map(str.lower, logical))[: len(name)] == name for name in wanted)
        )
    count = _count(configuration.get("delta.dataSkippingNumIndexedCols"))
    indexed = len(leaves) if count == _ALL else count
    return tuple(
        column
        for place, (_, column) in enumerate(leaves)
        if place < indexed or column.path in always
    )


def leaf_columns(fields: Sequence[Mapping[str, Any]]) -> list[tuple[Path, StatsColumn]]:
    """Return the columns of a schema by their logical names; lists and maps are one each."""
    return [leaf for field in fields for leaf in _leaves(field, (), ())]


def file_stats(footer: Any, columns: Sequence[StatsColumn]) -> str:
    """Return the statistics of a file that no row was deleted from yet, as JSON.

    Args:
        footer: its `pyarrow.parquet.FileMetaData`.
        columns: what to collect.
    """
    by_path = {column.path: column for column in columns}
    row_groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    lowest, highest, nulls = (_Tree() for _ in range(3))
    for position, path in enumerate(leaf_paths(footer.schema.to_arrow_schema())):
        column = by_path.get(path) if path is not None else None
        if column is None:
            continue
        chunks = [group.column(position) for group in row_groups if group.num_rows]
        nulls.put(column.path, null_count(chunks))
        found = _bounds(column.kind, chunks, footer.schema.column(position))
        if found is not None:
            lowest.put(column.path, found[0])
            highest.put(column.path, found[1])
    return _json(
        {
            "numRecords": footer.num_rows,
            "tightBounds": True,
            "minValues": lowest.values,
            "maxValues": highest.values,
            "nullCount": nulls.values,
        }
    )


def loosened(stats: str) -> str:
    """Return statistics of a file that rows are deleted from: its bounds are still bounds.

    Raises:
        CorruptTableError: they are no JSON object.
    """
    return _replaced(stats, "tightBounds", value=False)


def with_record_count(stats: str | None, row_count: int) -> str:
    """Return statistics that count rows, as they must where rows are deleted.

    Raises:
        CorruptTableError: they are no JSON object.
    """
    if record_count(stats) is not None:
        return stats or ""
    return _replaced(stats or "{}", "numRecords", value=row_count)


def record_count(stats: str | None) -> int | None:
    """Return the rows that a file holds by its statistics, deleted ones included.

    Raises:
        CorruptTableError: the statistics are no JSON object.
    """
    found = None if stats is None else _parsed(stats).get("numRecords")
    return found if isinstance(found, int) else None


def leaf_paths(arrow: pa.Schema) -> Iterator[Path | None]:
    """Yield the names on the way to each leaf column of a file; None for those that repeat."""
    for field in arrow:
        yield from _leaf_paths(field, (), is_repeated=False)


class _Tree:
    """Values by path, as nested objects."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def put(self, path: Path, value: object | None) -> None:
        if value is None:
            return
        place = self.values
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value


def _leaf_paths(field: pa.Field, above: Path, *, is_repeated: bool) -> Iterator[Path | None]:
    path, kind = (*above, field.name), field.type
    if pa.types.is_struct(kind):
        for child in kind.fields:
            yield from _leaf_paths(child, path, is_repeated=is_repeated)
    elif pa.types.is_map(kind):
        yield from _leaf_paths(kind.key_field, path, is_repeated=True)
        yield from _leaf_paths(kind.item_field, path, is_repeated=True)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaf_paths(kind.value_field, path, is_repeated=True)
    else:
        yield None if is_repeated else path


def _leaves(
    field: Mapping[str, Any], logical: Path, physical: Path
) -> Iterator[tuple[Path, StatsColumn]]:
    """Yield the columns below a field, lists and maps as one each, by their logical names."""
    names = (*logical, field["name"])
    mapped = (field.get("metadata") or {}).get("delta.columnMapping.physicalName")
    path = (*physical, mapped or field["name"])
    kind = field["type"]
    if isinstance(kind, Mapping) and kind["type"] == "struct":
        for child in kind["fields"]:
            yield from _leaves(child, names, path)
    else:
        yield names, StatsColumn(path, kind if isinstance(kind, str) else str(kind["type"]))


def _count(text: str | None) -> int:
    try:
        found = _INDEXED_DEFAULT if text is None else int(text)
    except ValueError:
        return _INDEXED_DEFAULT
    return max(found, _ALL)


def _listed(text: str) -> list[str]:
    """Split a list of column names at commas outside of backticks."""
    return [one.strip() for one in re.findall(r"(?:`(?:[^`]|``)*`|[^,`])+", text) if one.strip()]


def _names(text: str) -> Path:
    """Split a column's name at dots outside of backticks; names are compared in lower case."""
    parts = re.findall(r"`((?:[^`]|``)*)`|([^.`]+)", text)
    return tuple((quoted.replace("``", "`") or plain.strip()).lower() for quoted, plain in parts)


def _bounds(kind: str, chunks: Sequence[Any], stored: Any) -> tuple[Any, Any] | None:
    """Return lower and upper bound as the JSON holds them; None when either is not known.

    Args:
        kind: the column's type in the table.
        chunks: its column chunks.
        stored: its `pyarrow.parquet.ColumnSchema`.
    """
    if kind in _INTEGERS:
        return bounds(chunks, _integer)
    if kind == "string":
        found = bounds(chunks, _text)
        return None if found is None else _both(found[0][:_TEXT_LENGTH_MAX], _text_above(found[1]))
    if kind == "date":
        found = bounds(chunks, _integer)
        return None if found is None else _both(*map(_date, found))
    logical = json.loads(stored.logical_type.to_json())
    if kind in ("timestamp", "timestamp_ntz"):
        per_ms = _PER_MILLISECOND.get(logical.get("timeUnit", ""))
        return None if per_ms is None else _time_bounds(chunks, per_ms, kind)
    if scale := _DECIMAL.fullmatch(kind):
        return (
            _decimal_bounds(chunks, int(scale[1]))
            if logical.get("scale") == int(scale[1])
            else None
        )
    return None


def _both(lower: Any | None, upper: Any | None) -> tuple[Any, Any] | None:
    return None if lower is None or upper is None else (lower, upper)


def _integer(raw: Any) -> int | None:
    return raw if isinstance(raw, int) else None


def _text(raw: Any) -> str | None:
    try:
        return bytes(raw).decode()
    except (UnicodeDecodeError, TypeError):
        return None


def _text_above(text: str) -> str | None:
    """Return a text of at most one character more than the limit that is not below `text`."""
    kept, following = text[:_TEXT_LENGTH_MAX], text[_TEXT_LENGTH_MAX : _TEXT_LENGTH_MAX + 1]
    if not following:
        return kept
    return next((kept + one for one in _TIE_BREAKERS if following < one), None)


def _date(days: int) -> str | None:
    try:
        return dt.date.fromordinal(_EPOCH + days).isoformat()
    except (ValueError, OverflowError):
        return None  # a year that the text form has no room for


def _time_bounds(chunks: Sequence[Any], per_ms: int, kind: str) -> tuple[Any, Any] | None:
    """Return times in milliseconds, the upper bound rounded up: it must stay one."""
    found = bounds(chunks, _integer)
    suffix = "Z" if kind == "timestamp" else ""
    if found is None:
        return None
    return _both(_time(found[0] // per_ms, suffix), _time(-(-found[1] // per_ms), suffix))


def _time(milliseconds: int, suffix: str) -> str | None:
    try:
        moment = _EPOCH_TIME + dt.timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None
    return moment.isoformat(timespec="milliseconds") + suffix


def _decimal_bounds(chunks: Sequence[Any], scale: int) -> tuple[Any, Any] | None:
    found = bounds(chunks, decimal_value)
    return None if found is None else (_decimal(found[0], scale), _decimal(found[1], scale))


def _decimal(unscaled: int, scale: int) -> Decimal:
    return Decimal((0 if unscaled >= 0 else 1, tuple(map(int, str(abs(unscaled)))), -scale))


def _json(value: Any) -> str:
    """Render a value; decimals keep every digit, which `json` has no way to write."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(key)}:{_json(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Decimal):
        return format(value, "f")
    return json.dumps(value)


def _parsed(stats: str) -> dict[str, Any]:
    try:
        found = json.loads(stats, parse_float=Decimal)
    except (ValueError, RecursionError) as fault:
        raise CorruptTableError(f"statistics are no JSON: {stats[:80]!r}") from fault
    if not isinstance(found, dict):
        raise CorruptTableError(f"statistics are no JSON object: {stats[:80]!r}")
    return found


def _replaced(stats: str, name: str, *, value: Any) -> str:
    return _json({**_parsed(stats), name: value})
