"""Which equality delete files can hit which data files, by the bounds of both."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.manifest import DataFile

from catalog.iceberg.bounds import decoded
from catalog.iceberg.key_bounds import KeyColumn, can_hit
from catalog.routing import FileBounds

STAMP = pa.timestamp("us")


def file(bounds: Any, ids: Any = None) -> DataFile:
    lower, upper, nulls = bounds
    return DataFile.from_args(
        lower_bounds=None if lower is None else {1: lower},
        upper_bounds=None if upper is None else {1: upper},
        null_value_counts=None if nulls is None else {1: nulls},
        equality_ids=ids,
    )


def number(value: int, width: str = "q") -> bytes:
    return struct.pack(f"<{width}", value)


# Bounds and nulls of the keys, and of the data file; the type; whether they can meet.
CASES = [
    ((number(1), number(5), 0), (number(5), number(9), 0), pa.int64(), True),
    ((number(1), number(4), 0), (number(5), number(9), 0), pa.int64(), False),
    ((number(-9), number(-1), 0), (number(0), number(9), 0), pa.int64(), False),
    # From before the column was widened.
    ((number(1), number(4), 0), (number(3, "i"), number(9, "i"), 0), pa.int64(), True),
    ((number(1), number(4), 0), (number(5, "i"), number(9, "i"), 0), pa.int64(), False),
    # Days, from before the column was a timestamp: who knows.
    ((number(10**15), number(10**15), 0), (number(5, "i"), number(9, "i"), 0), STAMP, True),
    # Null is in no bounds.
    ((number(1), number(4), 1), (number(5), number(9), 1), pa.int64(), True),
    ((number(1), number(4), 1), (number(5), number(9), 0), pa.int64(), False),
    ((number(1), number(4), None), (number(5), number(9), None), pa.int64(), True),
    ((None, None, 3), (number(5), number(9), 0), pa.int64(), True),
    ((b"a", b"b", 0), (b"bb", b"c", 0), pa.string(), False),
    ((b"a", b"bz", 0), (b"bb", b"c", 0), pa.string(), True),
    # Writers disagree about the bounds of numbers with NaN, and of identifiers.
    ((number(1), number(1), 0), (number(5), number(5), 0), pa.float64(), True),
]


@pytest.mark.parametrize(("keys", "data", "kind", "expected"), CASES)
def test_bounds_rule_out_what_cannot_meet(
    keys: Any, data: Any, kind: pa.DataType, expected: bool
) -> None:
    assert can_hit(file(keys, [1]), file(data), {1: kind}) is expected
    # Columns that are not known rule nothing out, and none that is not of the key.
    assert can_hit(file(keys, [1]), file(data), {})
    if kind == pa.float64():
        return
    column = KeyColumn(np.array([True, False]), _bounds([keys, keys], kind), _bounds([data], kind))
    found = column.may_agree(np.array([0, 0]), np.array([0, 1]))
    assert found.tolist() == [expected, True]


def _bounds(some: list[Any], kind: pa.DataType) -> FileBounds:
    lower, upper, nulls = (list(one) for one in zip(*some, strict=True))
    table = pa.table(
        {
            "lower 0": pa.array(lower, pa.binary()),
            "upper 0": pa.array(upper, pa.binary()),
            "nulls 0": pa.array(nulls, pa.int64()),
        }
    )
    return decoded(table, 0, kind)
