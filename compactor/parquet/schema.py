"""The schema of a file as the bytes of its columns: what must agree between files, and no more."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from compactor.parquet import scan as s
from compactor.parquet.thrift import (
    BINARY,
    I32,
    STRUCT,
    corrupt,
    fields,
    read_binary,
    read_list,
    read_signed,
    skip_struct,
)

_SCHEMA_TYPE, _SCHEMA_NAME, _SCHEMA_CHILDREN, _SCHEMA_FIELD_ID = 1, 4, 5, 9
INT96 = 3


@dataclass(frozen=True, slots=True)
class TopColumn:
    """A top-level column of the schema and all that is nested in it.

    Attributes:
        leaves: the numbers of its leaf columns.
        data: its serialised schema elements.
    """

    leaves: range
    data: bytes

    def identity(self) -> tuple[int | None, bytes]:
        """Return its field id, if it has one, and its name."""
        found = {(one.number, one.kind): one for one in fields(self.data, 0)}
        name, number = found.get((_SCHEMA_NAME, BINARY)), found.get((_SCHEMA_FIELD_ID, I32))
        return (
            None if number is None else read_signed(self.data, number.start)[0],
            b"" if name is None else read_binary(self.data, name.start)[0],
        )


@dataclass(frozen=True, slots=True)
class Schema:
    """What of the schema must agree before bytes of two files can stand in one.

    The root is not part of it: it says nothing of the columns, and writers name it differently.

    Attributes:
        columns: the top-level columns.
        has_int96: whether a leaf is a 96-bit timestamp.
        openings: see `scan.Scan`.
    """

    columns: tuple[TopColumn, ...]
    has_int96: bool
    openings: dict[int, s.Opening] = field(default_factory=dict, compare=False, repr=False)

    @property
    def leaves(self) -> int:
        """Number of leaf columns."""
        return self.columns[-1].leaves.stop if self.columns else 0


@lru_cache(maxsize=64)
def read_schema(data: bytes) -> Schema:
    """Read a list of schema elements; the files of a table share one value."""
    count, kind, at = read_list(data, 0)
    if not count or kind != STRUCT:
        corrupt("the schema is empty or no list of structures")
    columns: list[TopColumn] = []
    _, root_children, at = _read_element(data, at)
    leaf = first_leaf = missing = 0
    has_int96 = False
    begin = at
    for _ in range(count - 1):
        physical_type, children, at = _read_element(data, at)
        if not children:
            leaf += 1
            has_int96 = has_int96 or physical_type == INT96
        # Elements stand in depth-first order: a column ends when no child is missing any more.
        missing = max(missing, 1) - 1 + children
        if not missing:
            columns.append(TopColumn(range(first_leaf, leaf), data[begin:at]))
            first_leaf, begin = leaf, at
    if missing or len(columns) != root_children:
        corrupt("the schema is no tree")
    return Schema(tuple(columns), has_int96)


def _read_element(data: bytes, at: int) -> tuple[int | None, int, int]:
    """Return physical type and number of children of a schema element, and where it ends."""
    numbers = {
        one.number: read_signed(data, one.start)[0]
        for one in fields(data, at)
        if one.number in (_SCHEMA_TYPE, _SCHEMA_CHILDREN) and one.kind == I32
    }
    children = numbers.get(_SCHEMA_CHILDREN, 0)
    if children < 0:
        corrupt("a schema element has a negative number of children")
    return numbers.get(_SCHEMA_TYPE), children, skip_struct(data, at)
