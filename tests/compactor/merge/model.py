"""The semantics of a merge as a plain dictionary would have them: one change at a time, by row."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """One change; `row` has the columns that it gives, a delete at least those it is keyed on."""

    row: Row
    stream: int = 0
    file: int = 0
    number: int = 0
    keyed_on: tuple[str, ...] | None = None
    """None for upserts."""


def merged(
    base: Iterable[Row],
    changes: Sequence[Change],
    *,
    columns: Sequence[str],
    key: Sequence[str],
    order_by: Sequence[str] = (),
    is_event_time: bool = False,
    is_append: bool = False,
) -> list[dict[str, Any]]:
    """Return the rows after all changes."""

    def place(change: Change) -> Any:
        orders = tuple(ordered(change.row.get(name)) for name in order_by)
        first = (orders, change.stream) if is_event_time else (change.stream, orders)
        return (*first, change.file, change.number)

    rows = [dict(row) for row in base]
    for change in sorted(changes, key=place):
        names = key if change.keyed_on is None else change.keyed_on
        hit = [row for row in rows if same(row, change.row, names)]
        if is_append and change.keyed_on is None:
            hit = []
        if is_event_time and any(place_in_time(row, change.row, order_by[0]) for row in hit):
            continue
        rows = [row for row in rows if not any(row is one for one in hit)]
        if change.keyed_on is None:
            stored = hit[0] if hit else {}
            rows.append(
                {
                    name: change.row.get(name, stored.get(name))
                    if name in change.row
                    else stored.get(name)
                    for name in columns
                }
            )
    return rows


def place_in_time(stored: Row, change: Row, name: str) -> bool:
    """Tell whether a stored row is newer than a change."""
    return bool(ordered(stored[name]) > ordered(change[name]))


def same(left: Row, right: Row, names: Sequence[str]) -> bool:
    return all(canonical(left[name]) == canonical(right[name]) for name in names)


def canonical(value: Any) -> Any:
    """Return a value that is equal for equal keys: NaN is NaN, -0.0 is 0.0, null is itself."""
    if isinstance(value, float):
        return ("float", "nan") if math.isnan(value) else ("float", value + 0.0)
    return (type(value).__name__, value)


def ordered(value: Any) -> Any:
    """Return a value that can be compared: null is the oldest, NaN the newest."""
    if value is None:
        return (0, 0)
    if isinstance(value, float) and math.isnan(value):
        return (2, 0)
    return (1, value)


def as_bag(rows: Iterable[Row]) -> list[str]:
    """Return rows in a form that compares whatever their order; the bits of floats count."""
    return sorted(
        repr(sorted((name, _shown(value)) for name, value in row.items())) for row in rows
    )


def _shown(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return value.as_integer_ratio()
    return "nan" if isinstance(value, float) and math.isnan(value) else value
