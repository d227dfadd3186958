"""Column metrics from footers: right for every type, and never a bound that hides a row."""

from __future__ import annotations

import io
import struct
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.conversions import from_bytes, to_bytes
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    PrimitiveType,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from catalog.errors import CorruptTableError
from catalog.iceberg.file_schema import columns_of
from catalog.iceberg.metrics import FileMetrics, file_metrics, metrics_modes, split_offsets
from catalog.iceberg.schema import arrow_schema


def measure(
    schema: Schema, columns: dict[str, Any], properties: dict[str, str] | None = None, **how: Any
) -> tuple[FileMetrics, Any]:
    """Write columns and return their metrics, with the footer they came from."""
    arrow = arrow_schema(schema)
    table = pa.table([pa.array(columns[field.name], field.type) for field in arrow], schema=arrow)
    sink = io.BytesIO()
    pq.write_table(table, sink, **how)
    footer = pq.read_metadata(io.BytesIO(sink.getvalue()))
    found = columns_of(footer.schema.to_arrow_schema(), schema)
    assert found is not None
    return file_metrics(footer, found, metrics_modes(found, properties or {})), footer


def one_column(kind: Any, values: Any, **options: Any) -> FileMetrics:
    return measure(Schema(NestedField(1, "x", kind)), {"x": values}, **options)[0]


PRIMITIVES: list[tuple[PrimitiveType, Any, list[Any]]] = [
    (BooleanType(), st.booleans(), [False, True]),
    (IntegerType(), st.integers(-(2**31), 2**31 - 1), [-5, 7]),
    (LongType(), st.integers(-(2**63), 2**63 - 1), [-5, 2**40]),
    (FloatType(), st.floats(width=32, allow_nan=False), [-1.5, 2.5]),
    (DoubleType(), st.floats(allow_nan=False), [-1.5, 2.5]),
    (DateType(), st.integers(-(2**31), 2**31 - 1), [-1, 20000]),
    (TimeType(), st.integers(0, 86_400_000_000 - 1), [0, 5]),
    (TimestampType(), st.integers(-(2**62), 2**62), [-1, 2**61]),
    (TimestamptzType(), st.integers(-(2**62), 2**62), [-1, 2**61]),
    (StringType(), st.text(), ["", "é"]),
    (BinaryType(), st.binary(), [b"", b"\xff"]),
    (FixedType(3), st.binary(min_size=3, max_size=3), [b"\x00ab", b"\xffab"]),
    (UUIDType(), st.uuids().map(lambda one: one.bytes), [bytes(16), b"\xff" * 16]),
    (DecimalType(9, 2), st.decimals(-10, 10, places=2), [Decimal("-1.28"), Decimal("1.27")]),
    (DecimalType(18, 0), st.decimals(-(10**9), 10**9, places=0), [Decimal(-128), Decimal(128)]),
    (DecimalType(38, 10), st.decimals(-1, 1, places=10), [Decimal(-1), Decimal("0.5")]),
]
IDS = [str(kind) for kind, _, _ in PRIMITIVES]
# Those whose bounds are values of the column.
EXACT = [one for one in PRIMITIVES if not isinstance(one[0], UUIDType)]


def reference(kind: PrimitiveType, value: Any) -> bytes:
    if isinstance(kind, DecimalType):
        return to_bytes(kind, value.quantize(Decimal(1).scaleb(-kind.scale)))
    return to_bytes(kind, UUID(bytes=value) if isinstance(kind, UUIDType) else value)


@pytest.mark.parametrize(
    ("kind", "values", "edges"), EXACT, ids=[str(kind) for kind, _, _ in EXACT]
)
def test_bounds_are_encoded_as_the_specification_says(
    kind: PrimitiveType, values: object, edges: list[Any]
) -> None:
    del values
    metrics = one_column(kind, [None, edges[1], edges[0]])
    assert metrics.lower_bounds == {1: reference(kind, edges[0])}
    assert metrics.upper_bounds == {1: reference(kind, edges[1])}
    assert (metrics.value_counts, metrics.null_value_counts) == ({1: 3}, {1: 1})


@pytest.mark.parametrize(("kind", "values", "edges"), PRIMITIVES, ids=IDS)
def test_bounds_contain_every_value(kind: PrimitiveType, values: Any, edges: object) -> None:
    del edges

    @given(st.lists(values | st.none(), min_size=1, max_size=6), st.integers(1, 3))
    def check(drawn: list[Any], row_group_size: int) -> None:
        metrics = one_column(kind, drawn, row_group_size=row_group_size)
        present = [value for value in drawn if value is not None]
        assert metrics.null_value_counts == {1: len(drawn) - len(present)}
        for value in present:
            lower, upper = metrics.lower_bounds.get(1), metrics.upper_bounds.get(1)
            comparable = from_bytes(kind, reference(kind, value))
            assert lower is None or from_bytes(kind, lower) <= comparable
            assert upper is None or comparable <= from_bytes(kind, upper)

    check()


@pytest.mark.parametrize(
    ("drawn", "has_bounds"),
    [
        (["01920000-0000-7000-8000-000000000001", "01930000-0000-7000-0000-000000000002"], True),
        (["81920000-0000-7000-8000-000000000001", "81920000-0000-7000-0000-000000000002"], True),
        (["01920000-0000-7000-8000-000000000001", "f1930000-0000-7000-8000-000000000002"], False),
        (["00000000-0000-0000-0000-000000000001", "00000000-0000-0001-8000-000000000002"], False),
        (["7fffffff-ffff-ffff-0000-000000000001"], False),
        (["ffffffff-ffff-ffff-0000-000000000001"], False),
    ],
)
def test_bounds_of_identifiers_hold_for_those_who_compare_signed_halves(
    drawn: list[str], has_bounds: bool
) -> None:
    """As releases of the reference implementation do: they would not see the rows."""
    metrics = one_column(UUIDType(), [UUID(one).bytes for one in drawn])
    assert (1 in metrics.lower_bounds, 1 in metrics.upper_bounds) == (has_bounds, has_bounds)
    for one in drawn if has_bounds else []:
        ends = [metrics.lower_bounds[1], UUID(one).bytes, metrics.upper_bounds[1]]
        assert ends == sorted(ends)
        halves = [struct.unpack(">qq", end) for end in ends]
        assert halves == sorted(halves)


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1), st.integers(1, 4))
def test_truncated_texts_bound_by_code_points(values: list[str], length: int) -> None:
    mode = {"write.metadata.metrics.default": f"truncate({length})"}
    metrics = one_column(StringType(), values, properties=mode)
    lower = metrics.lower_bounds[1].decode()
    assert len(lower) <= length
    assert all(lower.encode() <= value.encode() for value in values)
    if 1 in metrics.upper_bounds:
        upper = metrics.upper_bounds[1]
        assert len(upper.decode()) <= length
        assert all(value.encode() <= upper for value in values)


def test_an_upper_bound_steps_over_the_surrogates() -> None:
    metrics = one_column(StringType(), ["a" * 15 + "\ud7ff" + "b"])
    assert metrics.upper_bounds[1].decode() == "a" * 15 + "\ue000"


def test_a_text_that_nothing_bounds_has_no_upper_bound() -> None:
    metrics = one_column(StringType(), ["\U0010ffff" * 20])
    assert (1 in metrics.lower_bounds, 1 in metrics.upper_bounds) == (True, False)
    assert 1 not in one_column(BinaryType(), [b"\xff" * 20]).upper_bounds
    assert one_column(BinaryType(), [b"a\xff" + b"b" * 20]).upper_bounds[1] == (
        b"a\xff" + b"b" * 13 + b"c"
    )


def test_nan_leaves_bounds_of_the_other_values() -> None:
    metrics = one_column(DoubleType(), [float("nan"), 1.0, -2.0])
    assert from_bytes(DoubleType(), metrics.lower_bounds[1]) == -2.0
    assert from_bytes(DoubleType(), metrics.upper_bounds[1]) == 1.0
    assert one_column(DoubleType(), [float("nan")]).lower_bounds == {}


def test_a_chunk_without_statistics_leaves_no_bound() -> None:
    metrics = one_column(LongType(), [1, 2], write_statistics=False)
    assert (metrics.lower_bounds, metrics.null_value_counts) == ({}, {})
    assert metrics.value_counts == {1: 2}


NESTED = Schema(
    NestedField(1, "id", LongType(), required=True),
    NestedField(2, "point", StructType(NestedField(3, "x", LongType()))),
    NestedField(4, "tags", ListType(5, StringType(), element_required=False)),
    NestedField(6, "notes", MapType(7, StringType(), 8, LongType(), value_required=False)),
)
NESTED_ROWS = {
    "id": [1, 2],
    "point": [{"x": 5}, None],
    "tags": [["a", "b"], []],
    "notes": [[("k", 1)], None],
}


def test_nested_columns_have_bounds_only_outside_of_lists_and_maps() -> None:
    metrics, _ = measure(NESTED, NESTED_ROWS)
    assert set(metrics.lower_bounds) == {1, 3}
    assert set(metrics.value_counts) == set(metrics.column_sizes) == {1, 3, 5, 7, 8}


def test_modes_follow_the_properties() -> None:
    properties = {
        "write.metadata.metrics.default": "counts",
        "write.metadata.metrics.column.id": "full",
        "write.metadata.metrics.column.point.x": "none",
        "write.metadata.metrics.column.tags.element": "nonsense",
    }
    metrics, _ = measure(NESTED, NESTED_ROWS, properties)
    assert set(metrics.lower_bounds) == {1}
    assert set(metrics.value_counts) == {1, 5, 7, 8}
    assert set(metrics.column_sizes) == {1, 3, 5, 7, 8}


def test_a_wide_table_records_its_first_hundred_columns() -> None:
    wide = Schema(*(NestedField(one, f"c{one}", LongType()) for one in range(1, 121)))
    rows = {f"c{one}": [one] for one in range(1, 121)}
    assert set(measure(wide, rows)[0].lower_bounds) == set(range(1, 101))
    everything = {"write.metadata.metrics.default": "truncate(16)"}
    assert len(measure(wide, rows, everything)[0].lower_bounds) == 120


def test_the_library_agrees_where_it_is_right() -> None:
    schema = Schema(*(NestedField(at, f"c{at}", kind) for at, (kind, _, _) in enumerate(EXACT, 1)))
    readable = {"date", "timestamp", "timestamptz"}
    chosen = [
        (field, [edges[0], edges[0] if str(field.field_type) in readable else edges[1]])
        for field, (_, _, edges) in zip(schema.fields, EXACT, strict=True)
    ]
    metrics, footer = measure(schema, {field.name: values for field, values in chosen})
    theirs = data_file_statistics_from_parquet_metadata(
        footer, compute_statistics_plan(schema, {}), parquet_path_to_id_mapping(schema)
    )
    told = theirs.to_serialized_dict()
    assert metrics.lower_bounds == told["lower_bounds"]
    assert metrics.upper_bounds == told["upper_bounds"]
    assert metrics.column_sizes == told["column_sizes"]
    assert metrics.value_counts == told["value_counts"]
    assert metrics.null_value_counts == told["null_value_counts"]
    assert split_offsets(footer) == told["split_offsets"]


def test_split_offsets_are_where_row_groups_begin() -> None:
    _, footer = measure(
        Schema(NestedField(1, "x", LongType())), {"x": list(range(10))}, row_group_size=3
    )
    offsets = split_offsets(footer)
    assert offsets is not None
    assert (len(offsets), offsets[0]) == (4, 4)
    assert offsets == sorted(offsets)
    _, empty = measure(Schema(NestedField(1, "x", LongType())), {"x": []})
    assert split_offsets(empty) is None


def test_columns_are_matched_by_id_and_type() -> None:
    file = arrow_schema(NESTED)
    renamed = Schema(
        NestedField(1, "key", LongType()),
        NestedField(2, "point", StructType(NestedField(3, "y", LongType()))),
        NestedField(4, "tags", ListType(5, StringType())),
        NestedField(6, "notes", MapType(7, StringType(), 8, LongType())),
    )
    assert columns_of(file, renamed) is not None
    assert columns_of(file, Schema(*NESTED.fields[:3])) is None
    assert columns_of(file, Schema(NestedField(1, "id", IntegerType()), *NESTED.fields[1:])) is None
    moved = Schema(*NESTED.fields[:2], NestedField(9, "tags", ListType(5, StringType())))
    assert columns_of(pa.schema(list(file)[:3]), moved) is None
    with pytest.raises(CorruptTableError, match="no field id"):
        columns_of(pa.schema([("id", pa.int64())]), renamed)


def test_bounds_that_leave_nan_out_stand_only_where_there_is_none() -> None:
    """Readers take a file for one without NaN where they are not counted: rows would be lost."""
    metrics = one_column(DoubleType(), [float("nan"), 1.0, -2.0])
    for inputs in ([{1: 1}], [{1: 0}, {1: 1}], [{1: 1}, None]):
        found = metrics.beside(inputs)
        assert (found.lower_bounds, found.upper_bounds, found.nan_value_counts) == ({}, {}, {})
    metrics = one_column(DoubleType(), [1.0, -2.0])
    assert metrics.beside([{1: 0}, {1: 0}]).nan_value_counts == {1: 0}
    for unknown in ([], [None], [{1: 0}, None], [{2: 0}]):
        assert metrics.beside(unknown) == metrics
