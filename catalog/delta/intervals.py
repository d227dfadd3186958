"""Durations as properties of Delta tables spell them: `interval 1 week` and the like.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from catalog.errors import UnsupportedTableError

_SECONDS = {
    "week": 604_800.0,
    "day": 86_400.0,
    "hour": 3_600.0,
    "minute": 60.0,
    "second": 1.0,
    "millisecond": 1e-3,
    "microsecond": 1e-6,
    "nanosecond": 1e-9,
}
_PART = re.compile(rf"(\d+)\s*({'|'.join(_SECONDS)})s?", re.IGNORECASE)


def interval_seconds(configuration: Mapping[str, str], name: str, default: float) -> float:
    """Return a property that is a duration, in seconds.

    Raises:
        UnsupportedTableError: it cannot be read; months and years have no length to go by.
    """
    text = configuration.get(name)
    if text is None:
        return default
    rest = re.sub(r"^\s*interval\s+", "", text, flags=re.IGNORECASE).strip()
    parts = _PART.findall(rest)
    if not parts or _PART.sub("", rest).strip():
        raise UnsupportedTableError(
            f"the property {name} is no duration: {text[:100]!r}",
            hint="spell it like `interval 7 days`",
        )
    return sum(int(count) * _SECONDS[unit.lower()] for count, unit in parts)
