"""Which manifests can hold files of given partitions, by the manifest list's summaries.  Pure.

A doubt is a yes: bounds that are missing or of another width, and identifiers, whose halves there
are writers that compare as signed numbers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from pyiceberg.conversions import from_bytes, to_bytes
from pyiceberg.manifest import ManifestFile, PartitionFieldSummary
from pyiceberg.types import PrimitiveType, UUIDType

# The values of one partition, in the order of the spec's fields.
Values = Sequence[Any]


def may_hold(
    manifest: ManifestFile, kinds: Sequence[PrimitiveType], partitions: Iterable[Values]
) -> bool:
    """Whether a manifest may list a file of one of the partitions.

    Args:
        manifest: a row of the manifest list.
        kinds: types of the partition fields of its spec.
        partitions: partitions of that spec.
    """
    summaries = manifest.partitions
    if summaries is None or len(summaries) != len(kinds):
        return True
    try:
        bounds = [_bounds(summary, kind) for summary, kind in zip(summaries, kinds, strict=True)]
    except (ValueError, struct.error):
        return True
    return any(
        all(
            _admits(summary, value, bound)
            for summary, value, bound in zip(
                summaries, map(_normal, kinds, values), bounds, strict=True
            )
        )
        for values in partitions
    )


def _bounds(summary: PartitionFieldSummary, kind: PrimitiveType) -> tuple[Any, Any]:
    lower, upper = summary.lower_bound, summary.upper_bound
    if isinstance(kind, UUIDType):
        return None, None
    return (
        None if lower is None else from_bytes(kind, lower),
        None if upper is None else from_bytes(kind, upper),
    )


def _normal(kind: PrimitiveType, value: Any) -> Any:
    """Give a value the Python type that a decoded bound has."""
    if value is None or isinstance(value, float):
        return value
    return from_bytes(kind, to_bytes(kind, value))


def _admits(summary: PartitionFieldSummary, value: Any, bounds: tuple[Any, Any]) -> bool:
    if value is None:
        return bool(summary.contains_null)
    if isinstance(value, float) and math.isnan(value):
        return summary.contains_nan is not False
    lower, upper = bounds
    if lower is None or upper is None:
        return True
    return bool(lower <= value <= upper)
