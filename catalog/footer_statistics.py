"""What the column chunks of a Parquet footer say of their values together.  Pure.

Physical values pass through no Python type that could not hold them. Where one chunk leaves a
doubt, nothing is said: a bound that is wrong hides rows from every reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def null_count(chunks: Sequence[Any]) -> int | None:
    """Return the nulls of a column; None when a chunk does not tell.

    Args:
        chunks: its `pyarrow.parquet.ColumnChunkMetaData`, one per row group.
    """
    statistics = [chunk.statistics for chunk in chunks]
    if any(one is None or not one.has_null_count for one in statistics):
        return None
    return sum(int(one.null_count) for one in statistics)


def bounds(chunks: Sequence[Any], comparable: Callable[[Any], Any]) -> tuple[Any, Any] | None:
    """Return the least and the greatest value of a column; None when a chunk does not tell.

    Args:
        chunks: its `pyarrow.parquet.ColumnChunkMetaData`, one per row group.
        comparable: makes of a physical value one that compares as the column's type does; None
            where there is a doubt.
    """
    lowest, highest = [], []
    for chunk in chunks:
        statistics = chunk.statistics
        if statistics is None:
            return None
        if not statistics.has_min_max:
            if statistics.has_null_count and statistics.null_count == chunk.num_values:
                continue  # nothing but nulls: no value to bound
            return None
        lowest.append(comparable(statistics.min_raw))
        highest.append(comparable(statistics.max_raw))
        if lowest[-1] is None or highest[-1] is None:
            return None
    return (min(lowest), max(highest)) if lowest else None


def decimal_value(raw: Any) -> int:
    """Return the unscaled value of a decimal from any of its physical types."""
    return int.from_bytes(raw, "big", signed=True) if isinstance(raw, bytes) else int(raw)
