"""Statistics from footers: bounds hold for every value, and what a footer hides has none."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from catalog.delta.stats import (
    StatsColumn,
    file_stats,
    loosened,
    record_count,
    stats_columns,
)
from catalog.errors import CorruptTableError

UTC = dt.UTC


def footer_of(table: pa.Table, **options: Any) -> Any:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return pq.read_metadata(io.BytesIO(sink.getvalue()))


def stats_of(array: pa.Array, kind: str, **options: Any) -> Mapping[str, Any]:
    footer = footer_of(pa.table({"c": array}), **options)
    found: Mapping[str, Any] = json.loads(
        file_stats(footer, [StatsColumn(("c",), kind)]), parse_float=Decimal
    )
    return found


def bounds_of(array: pa.Array, kind: str, **options: Any) -> tuple[Any, Any] | None:
    found = stats_of(array, kind, **options)
    if "c" not in found["minValues"]:
        assert "c" not in found["maxValues"]
        return None
    return found["minValues"]["c"], found["maxValues"]["c"]


def field(name: str, kind: Any, **metadata: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True, "metadata": metadata}


def struct(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "struct", "fields": list(fields)}


def test_counts_and_the_shape_of_the_whole() -> None:
    found = stats_of(pa.array([3, None, 1, None], pa.int64()), "long", row_group_size=2)
    assert found == {
        "numRecords": 4,
        "tightBounds": True,
        "minValues": {"c": 1},
        "maxValues": {"c": 3},
        "nullCount": {"c": 2},
    }


def test_a_file_without_rows_and_a_column_of_nulls() -> None:
    assert stats_of(pa.array([], pa.int32()), "integer")["numRecords"] == 0
    found = stats_of(pa.array([None, None], pa.int32()), "integer")
    assert (found["minValues"], found["nullCount"]) == ({}, {"c": 2})


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=5))
@example(["a" * 40])
@example(["a" * 32 + "\ufffd" + "b"])
@example(["a" * 32 + "\ufffe"])
@example(["a" * 32 + "\U0010ffff" * 3])
@example(["\U0010ffff" * 40, ""])
def test_the_bounds_of_texts_hold_and_are_short(values: list[str]) -> None:
    found = bounds_of(pa.array(values), "string")
    if found is None:
        assert any(value[32:33] == "\U0010ffff" for value in values)
        return
    lower, upper = found
    assert all(lower <= value <= upper for value in values)
    assert (len(lower), len(upper)) <= (32, 33)


def test_a_short_text_is_its_own_bound_and_a_long_one_gets_a_tie_breaker() -> None:
    assert bounds_of(pa.array(["a" * 32, "b"]), "string") == ("a" * 32, "b")
    assert bounds_of(pa.array(["é" * 33]), "string") == ("é" * 32, "é" * 32 + "\ufffd")
    high = "x" * 32 + "\U0001f600"
    assert bounds_of(pa.array([high]), "string") == ("x" * 32, "x" * 32 + "\U0010ffff")


@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=4))
@example([-1])
@example([1_234_567])
@pytest.mark.parametrize(("unit", "kind"), [("us", "timestamp"), ("ns", "timestamp_ntz")])
def test_times_are_bounded_in_milliseconds(unit: str, kind: str, values: list[int]) -> None:
    zone = "UTC" if kind == "timestamp" else None
    found = bounds_of(pa.array(values, pa.timestamp(unit, zone)), kind)
    assert found is not None
    ends = [dt.datetime.fromisoformat(one).replace(tzinfo=UTC) for one in found]
    epoch = dt.datetime(1970, 1, 1, tzinfo=UTC)
    per_ms = {"us": 1_000, "ns": 1_000_000}[unit]
    low, high = ((end - epoch) // dt.timedelta(milliseconds=1) * per_ms for end in ends)
    assert low <= min(values) < low + per_ms
    assert high - per_ms < max(values) <= high
    assert all(one.endswith("Z") is (zone is not None) for one in found)


@pytest.mark.parametrize("years", [-3000, 9000])
def test_years_without_a_text_form_have_no_bounds(years: int) -> None:
    array = pa.array([years * 365], pa.int32())
    assert bounds_of(array.cast(pa.date32()), "date") is None
    micros = pa.array([years * 365 * 86_400 * 10**6], pa.int64()).cast(pa.timestamp("us"))
    assert bounds_of(micros, "timestamp_ntz") is None


def test_dates() -> None:
    array = pa.array([dt.date(2026, 1, 2), dt.date(1, 1, 1)])
    assert bounds_of(array, "date") == ("0001-01-01", "2026-01-02")


@given(
    st.lists(
        st.decimals(Decimal(-(10**16)), 10**16, places=2, allow_nan=False), min_size=1, max_size=4
    )
)
@pytest.mark.parametrize("as_integer", [True, False])
@pytest.mark.parametrize("precision", [19, 38])
def test_decimals_keep_every_digit(precision: int, as_integer: bool, values: list[Decimal]) -> None:
    array = pa.array(values, pa.decimal128(precision, 2))
    found = bounds_of(array, f"decimal({precision},2)", store_decimal_as_integer=as_integer)
    assert found == (min(values), max(values))


def test_decimals_of_another_scale_have_no_bounds() -> None:
    array = pa.array([Decimal("1.20")], pa.decimal128(5, 2))
    assert bounds_of(array, "decimal(5,3)") is None
    assert bounds_of(array, "decimal(5,2)", store_decimal_as_integer=True) == (
        Decimal("1.20"),
        Decimal("1.20"),
    )


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, float("nan")], "double"),
        ([1.0, 2.0], "double"),
        ([True], "boolean"),
        ([b"x"], "binary"),
    ],
)
def test_what_has_a_count_of_nulls_alone(values: list[Any], kind: str) -> None:
    found = stats_of(pa.array([*values, None]), kind)
    assert (found["minValues"], found["maxValues"], found["nullCount"]) == ({}, {}, {"c": 1})


def test_a_file_without_statistics_has_nothing_but_its_rows() -> None:
    found = stats_of(pa.array([1, 2]), "long", write_statistics=False)
    assert (found["numRecords"], found["minValues"], found["nullCount"]) == (2, {}, {})


def test_structs_nest_and_lists_and_maps_are_left_out() -> None:
    rows = [{"x": 1, "in": {"y": "a"}, "l": [1, 2]}, None, {"x": None, "in": None, "l": None}]
    table = pa.table(
        {
            "s": pa.array(
                rows,
                pa.struct(
                    [
                        ("x", pa.int64()),
                        ("in", pa.struct([("y", pa.string())])),
                        ("l", pa.list_(pa.int64())),
                    ]
                ),
            ),
            "m": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
            "a.b": pa.array([1, 2, 3]),
        }
    )
    fields = [
        field(
            "s",
            struct(
                field("x", "long"),
                field("in", struct(field("y", "string"))),
                field("l", {"type": "array", "elementType": "long", "containsNull": True}),
            ),
        ),
        field("m", {"type": "map", "keyType": "string", "valueType": "long"}),
        field("a.b", "long"),
    ]
    found = json.loads(file_stats(footer_of(table), stats_columns(fields, {})))
    assert found["minValues"] == {"s": {"x": 1, "in": {"y": "a"}}, "a.b": 1}
    assert found["nullCount"] == {"s": {"x": 2, "in": {"y": 2}}, "a.b": 0}


def test_the_first_columns_are_collected_unless_the_table_says_otherwise() -> None:
    fields = [field(f"c{number}", "long") for number in range(40)]
    assert len(stats_columns(fields, {})) == 32
    assert len(stats_columns(fields, {}, partition_columns=["c0"])) == 32
    for text, count in (("-1", 40), ("0", 0), ("5", 5), ("many", 32), ("100", 40)):
        assert len(stats_columns(fields, {"delta.dataSkippingNumIndexedCols": text})) == count


def test_columns_may_be_named() -> None:
    fields = [
        field("a", "long"),
        field("s", struct(field("x", "long"), field("y.z", "string"))),
        field("o", struct(field("x", "long"))),
        field("w,e", "long"),
    ]

    def chosen(text: str) -> list[tuple[str, ...]]:
        configuration = {
            "delta.dataSkippingStatsColumns": text,
            "delta.dataSkippingNumIndexedCols": "1",
        }
        return [column.path for column in stats_columns(fields, configuration)]

    assert chosen("A, s") == [("a",), ("s", "x"), ("s", "y.z")]
    assert chosen("s.`y.z`,`w,e`") == [("s", "y.z"), ("w,e",)]
    assert chosen("o.x") == [("o", "x")]
    assert chosen("") == []


def test_columns_are_found_by_their_physical_names() -> None:
    mapped = {"delta.columnMapping.physicalName": "col-1"}
    inner = field("x", "long", **{"delta.columnMapping.physicalName": "col-2"})
    fields = [field("s", struct(inner), **mapped)]
    assert stats_columns(fields, {}) == (StatsColumn(("col-1", "col-2"), "long"),)
    named = stats_columns(fields, {"delta.dataSkippingStatsColumns": "s.x"})
    assert named == (StatsColumn(("col-1", "col-2"), "long"),)


def test_bounds_of_a_file_that_rows_are_deleted_from_are_wide() -> None:
    footer = footer_of(pa.table({"c": pa.array([Decimal("12345678901234567.89")])}))
    stats = file_stats(footer, [StatsColumn(("c",), "decimal(19,2)")])
    assert '"tightBounds":false' in loosened(stats)
    assert "12345678901234567.89" in loosened(stats)
    assert record_count(loosened(stats)) == record_count(stats) == 1
    assert record_count(None) is None
    assert record_count("{}") is None
    for damaged in ("{", "[]"):
        with pytest.raises(CorruptTableError):
            loosened(damaged)
