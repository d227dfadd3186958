"""How rows are brought together by value: the words and values that planner and rewriter share.

A *sort* compares columns one after the other. A *curve* (Z-order, Hilbert) gives every column the
same say: each value becomes the number of its cell between quantiles of that column, and the cells
of a row become its place along the curve. The quantiles are the *frame*; places of different
frames cannot be compared, so it is kept for as long as it fits the table.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import msgspec
import pyarrow as pa

from catalog.layout import SortField
from compactor.sort_keys import CURVE_COLUMNS_MAX as CURVE_COLUMNS_MAX
from compactor.sort_keys import SORT_COLUMNS_MAX as SORT_COLUMNS_MAX
from compactor.sort_keys import SortKey as SortKey
from compactor.sort_keys import Strategy as Strategy
from compactor.sort_keys import parse_sort_keys as parse_sort_keys

# Key-value metadata of the footers of clustered files.
STAMP_KEY = "compactor.clustering"
# Cells per column of a curve: finer than the row groups of any table, and small in a footer.
CELL_BITS_MAX = 10
_FRAME_SUFFIX = re.compile(r" in frame [0-9a-f]{16}\Z")


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
