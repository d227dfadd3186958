"""How rows are brought together by value: the words and values that planner and rewriter share.

A *sort* compares columns one after the other. A *curve* (Z-order, Hilbert) gives every column the
same say: each value becomes the number of its cell between quantiles of that column, and the cells
of a row become its place along the curve. The quantiles are the *frame*; places of different
frames cannot be compared, so it is kept for as long as it fits the table.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import msgspec
import pyarrow as pa

from catalog.model import SortField
from compactor.errors import SettingsError

# Key-value metadata of the footers of clustered files.
STAMP_KEY = "compactor.clustering"
# Places along a curve are 64-bit numbers: eight columns leave eight bits, 256 cells, for each.
CURVE_COLUMNS_MAX = 8
SORT_COLUMNS_MAX = 32
# Cells per column of a curve: finer than the row groups of any table, and small in a footer.
CELL_BITS_MAX = 10
_FRAME_SUFFIX = re.compile(r" in frame [0-9a-f]{16}\Z")


class Strategy(StrEnum):
    """What a table's files are rewritten for."""

    BINPACK = "binpack"
    SORT = "sort"
    ZORDER = "zorder"
    HILBERT = "hilbert"

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


@dataclass(frozen=True, slots=True)
class Frame:
    """Quantiles of the columns of a curve.

    Attributes:
        boundaries: for each column different values, ascending, in comparable form.
    """

    boundaries: tuple[tuple[bytes, ...], ...]

    @property
    def frame_id(self) -> str:
        """Name it by its content."""
        return hashlib.blake2b(msgspec.msgpack.encode(self), digest_size=8).hexdigest()


def family_of(order_id: str) -> str:
    """Return the name of an order without its frame."""
    return _FRAME_SUFFIX.sub("", order_id)


@dataclass(frozen=True, slots=True)
class Clustering:
    """An order of rows, ready to be computed.

    Attributes:
        strategy: sort, or which curve.
        fields: the columns.
        frame: the quantiles; None for a sort.
    """

    strategy: Strategy
    fields: tuple[SortField, ...]
    frame: Frame | None = None

    @property
    def order_id(self) -> str:
        """Name the order by its columns: what is in one order is in no other.

        By their ids and names: not every format has ids that stay with a column.
        """
        terms = (
            f"{field.field_id} {field.name!r} {'-' if field.is_descending else '+'}"
            f"{'f' if field.is_nulls_first else 'l'}"
            for field in self.fields
        )
        frame = f" in frame {self.frame.frame_id}" if self.frame else ""
        return f"{self.strategy.value}({', '.join(terms)}){frame}"

    @property
    def family_id(self) -> str:
        """Name the order without its frame."""
        return family_of(self.order_id)

    def __str__(self) -> str:
        """Return it as people write it."""
        if self.strategy.is_curve:
            return f"{self.strategy.value} of {', '.join(field.name for field in self.fields)}"
        keys = (SortKey(f.name, f.is_descending, f.is_nulls_first) for f in self.fields)
        return f"sort by {', '.join(map(str, keys))}"


FILE_FACTS = pa.schema(
    [
        # The order that the footer claims; null for none.
        pa.field("order_id", pa.string()),
        # Where its rows are at the least and at the most, in comparable form; null when unknown.
        pa.field("lower", pa.binary()),
        pa.field("upper", pa.binary()),
    ]
)


def row_group_facts(columns: int) -> pa.Schema:
    """Return the schema of what is known of row groups: bounds per key column, null if unknown."""
    bounds = [(f"{end}_{i}", pa.binary()) for i in range(columns) for end in ("lower", "upper")]
    return pa.schema([("file", pa.int64()), ("rows", pa.int64()), *bounds])


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the footer of a clustered file says of it.

    Attributes:
        order_id: the order that its rows are in.
        frame: the quantiles of that order; None for a sort.
        first: place of the first row, in comparable form.
        last: place of the last row.
    """

    order_id: str
    frame: Frame | None
    first: bytes
    last: bytes
