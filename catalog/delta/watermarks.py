"""How far sources of changes have been merged: as transactions in the log.

A transaction has a number and no text, so its application is named after source and value, and its
number is the version that merged it: the latest one of a source tells. Checkpoints keep it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from catalog.commits import Watermark

_PREFIX = "compact.watermark:"


def app_id_of(watermark: Watermark) -> str:
    """Return the application whose transaction records a watermark."""
    return _PREFIX + json.dumps([watermark.source, watermark.value], ensure_ascii=False)


def latest(txns: Mapping[str, int], source: str) -> tuple[int, str | None]:
    """Return the version that last merged a source, and how far; (-1, None) for not at all."""
    return max(_of(txns, source), key=lambda one: one[0], default=(-1, None))


def _of(txns: Mapping[str, int], source: str) -> Iterator[tuple[int, str]]:
    for name, version in txns.items():
        if not name.startswith(_PREFIX):
            continue
        try:
            found, value = json.loads(name.removeprefix(_PREFIX))
        except (ValueError, TypeError):
            continue  # another program's name
        if found == source:
            yield version, value
