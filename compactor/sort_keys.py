"""The order that a table's owner asks for, in words: what settings and policies hold of it.

Apart from `clustering`, which computes orders: settings are read by a process, too, that has no use
for Arrow and no room for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from compactor.errors import SettingsError

# Places along a curve are 64-bit numbers: eight columns leave eight bits, 256 cells, for each.
CURVE_COLUMNS_MAX = 8
SORT_COLUMNS_MAX = 32


class Strategy(StrEnum):
    """What a table's files are rewritten for."""

    BINPACK = "binpack"
    SORT = "sort"
    ZORDER = "zorder"
    HILBERT = "hilbert"
    CONVERT_DELETES = "convert-deletes"
    POSITION_DELETES = "rewrite-position-deletes"
    AUTO = "auto"

    @property
    def is_order(self) -> bool:
        """Whether rows are put in an order of their values."""
        return self.is_curve or self is Strategy.SORT

    @property
    def is_of_deletes(self) -> bool:
        """Whether delete files are rewritten, and no data files."""
        return self in (Strategy.CONVERT_DELETES, Strategy.POSITION_DELETES)

    @property
    def is_curve(self) -> bool:
        """Whether rows are ordered by their place along a curve."""
        return self in (Strategy.ZORDER, Strategy.HILBERT)


@dataclass(frozen=True, slots=True)
class SortKey:
    """One term of a sort order as its owner spells it.

    Attributes:
        name: column, with dots where it is nested.
        is_descending: whether large values come first.
        is_nulls_first: whether nulls come before all values.
    """

    name: str
    is_descending: bool = False
    is_nulls_first: bool = True

    def __str__(self) -> str:
        """Return it in full."""
        direction = "desc" if self.is_descending else "asc"
        return f"{self.name} {direction} nulls {'first' if self.is_nulls_first else 'last'}"


_TERM = re.compile(
    r"""\s*(?P<name>"[^"]+"|[^\s,"]+)
        (\s+(?P<direction>asc|desc))?
        (\s+nulls\s+(?P<nulls>first|last))?\s*""",
    re.IGNORECASE | re.VERBOSE,
)


def parse_sort_keys(text: str) -> tuple[SortKey, ...]:
    """Read `a asc nulls first, b desc`; without a word nulls count as the smallest of all values.

    Raises:
        SettingsError: it is no list of such terms, or names a column twice.
    """
    keys = tuple(_terms(text))
    names = [key.name for key in keys]
    if len(set(names)) < len(names):
        raise SettingsError(f"sort_by names a column twice: {text!r}")
    return keys


def _terms(text: str) -> Iterator[SortKey]:
    at = 0
    while at < len(text):
        found = _TERM.match(text, at)
        end = found.end() if found else at
        if found is None or (end < len(text) and text[end] != ","):
            raise SettingsError(
                f"sort_by is not understood at {text[at:].strip()!r}",
                hint='terms look like `a`, `a desc` or `"b c" asc nulls last`, with commas between',
            )
        is_descending = (found["direction"] or "asc").lower() == "desc"
        nulls = (found["nulls"] or ("last" if is_descending else "first")).lower()
        yield SortKey(found["name"].strip('"'), is_descending, nulls == "first")
        at = end + 1
