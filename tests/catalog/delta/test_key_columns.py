"""Bounds out of statistics are bounds, whatever writers cut from them."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from catalog.delta.key_columns import KeyColumn, KeyColumns, file_bounds
from catalog.delta.paths import Paths
from catalog.location import Confinement, Location
from catalog.routing import FileBounds

ROOT = Location.parse("/lake")


def bounds_of(kind: pa.DataType, stats: list[Any], parsed: Any = None) -> FileBounds:
    """Return the bounds of column `k` in files with the given statistics."""
    columns = KeyColumns(Paths(ROOT, Confinement((ROOT,))), (), keys=(KeyColumn("k", kind),))
    texts = [one if one is None or isinstance(one, str) else json.dumps(one) for one in stats]
    adds: dict[str, Any] = {
        "path": pa.array([f"{at}.parquet" for at in range(len(texts))]),
        "size": pa.array([1] * len(texts), pa.int64()),
        "stats": pa.array(texts, pa.string()),
    }
    if parsed is not None:
        adds["stats_parsed"] = parsed
    array = pa.StructArray.from_arrays(list(adds.values()), list(adds))
    return file_bounds(columns.files(array), 0)


def stated(lower: Any, upper: Any, nulls: int | None = 0) -> dict[str, Any]:
    return {
        "numRecords": 5,
        "minValues": {"k": lower, "other": {"x": 1}},
        "maxValues": {"k": upper},
        "nullCount": {"k": nulls},
    }


def ends(found: FileBounds) -> list[tuple[Any, Any]]:
    return list(zip(found.lower.to_pylist(), found.upper.to_pylist(), strict=True))


def test_numbers_of_every_width_are_exact() -> None:
    found = bounds_of(pa.int64(), [stated(-(2**63), 2**63 - 1), None, {}, stated(None, None, 5)])
    assert ends(found) == [(-(2**63), 2**63 - 1), (None, None), (None, None), (None, None)]
    assert found.null_count.to_pylist() == [0, None, None, 5]
    assert ends(bounds_of(pa.float32(), [stated(0.1, 1.5)]))[0][1] == 1.5


def test_a_text_that_was_cut_stays_above_what_it_stands_for() -> None:
    found = bounds_of(pa.string(), [stated("a" * 32, "z" * 32 + "\ufffd"), stated("", "b\nc")])
    assert ends(found) == [(b"a" * 32, b"z" * 32 + b"\xff"), (b"", b"b\nc")]
    assert found.upper[0].as_py() > ("z" * 32 + "\U0001f600").encode()


def test_times_may_have_lost_what_is_below_a_millisecond() -> None:
    zoned = stated("2026-01-01T00:00:00.001Z", "2026-01-01T00:00:00.002Z")
    ((lower, upper),) = ends(bounds_of(pa.timestamp("us", "UTC"), [zoned]))
    assert (lower.microsecond, upper.microsecond) == (0, 3000)
    plain = stated("1969-12-31T23:59:59.999", "9999-12-31T00:00:00")
    assert bounds_of(pa.timestamp("us"), [plain]).lower[0].value == -2000


def test_dates() -> None:
    found = bounds_of(pa.date32(), [stated("2026-01-01", "2026-12-31")])
    assert ends(found) == [(datetime.date(2026, 1, 1), datetime.date(2026, 12, 31))]


def test_decimals_of_more_digits_than_a_double_keeps_are_not_trusted() -> None:
    text = '{"minValues":{"k":-12.34},"maxValues":{"k":1234567890123456.78}}'
    found = bounds_of(pa.decimal128(38, 2), [text])
    assert ends(found) == [(Decimal("-12.34"), None)]


@pytest.mark.parametrize(
    "stats",
    [
        "no JSON",
        '{"minValues":{"k":"1"},"maxValues":{"k":2}}',
        '{"minValues":{"k":{"deeper":1}}}',
        '{"minValues":[1]}',
        '{"minValues":{"k":1.5},"maxValues":{"k":99999999999999999999}}',
        "{}\n{}",
    ],
)
def test_what_cannot_be_understood_bounds_nothing(stats: str) -> None:
    found = bounds_of(pa.int64(), [stats, stated(1, 2)])
    assert ends(found)[0] == (None, None)


@pytest.mark.parametrize("kind", [pa.binary(), pa.bool_()])
def test_types_without_bounds_have_their_nulls_counted(kind: pa.DataType) -> None:
    found = bounds_of(kind, [stated("AQ==", "AQ==", 3), stated(True, False, 0)])
    assert ends(found) == [(None, None), (None, None)]
    assert found.null_count.to_pylist() == [3, 0]


def test_columns_of_a_checkpoint_stand_in_for_texts() -> None:
    parsed = pa.array([{"minValues": {"k": 1}, "maxValues": {"k": 7}, "nullCount": {"k": 2}}] * 2)
    found = bounds_of(pa.int64(), [None, stated(3, 4)], parsed)
    assert ends(found) == [(1, 7), (3, 4)]
    assert found.null_count.to_pylist() == [2, 0]
