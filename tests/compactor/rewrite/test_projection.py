"""Columns follow their field ids through every change of a schema; no value changes silently."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.model import Filling
from catalog.schema import TableSchema
from compactor.rewrite.projection import FileColumns, plan_projection


def column(name: str, kind: pa.DataType, number: int, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable, {"PARQUET:field_id": str(number)})


def project(
    rows: pa.Table,
    target: list[pa.Field],
    *,
    constants: Mapping[int, pa.Scalar] | None = None,
    mapping: Mapping[tuple[str, ...], int] | None = None,
    int96: frozenset[str] = frozenset(),
) -> pa.Table:
    table = TableSchema(pa.schema(target), tuple((mapping or {}).items()))
    file = FileColumns("f.parquet", rows.schema, int96)
    fillings = {number: Filling(value) for number, value in (constants or {}).items()}
    plan = plan_projection(file, table, fillings)
    batches = rows.select(list(plan.columns)).to_batches()
    return pa.Table.from_batches([plan.apply(batch) for batch in batches], pa.schema(target))


def one(name: str, kind: pa.DataType, values: list[Any], number: int = 1) -> pa.Table:
    return pa.table([pa.array(values, kind)], pa.schema([column(name, kind, number)]))


def test_renamed_reordered_dropped_and_added_columns() -> None:
    schema = pa.schema(
        [column("a", pa.int64(), 1), column("b", pa.string(), 2), column("x", pa.int32(), 3)]
    )
    rows = pa.table([[1, 2], ["p", "q"], [8, 9]], schema)
    target = [column("x", pa.string(), 2), column("a", pa.int32(), 4), column("b", pa.int64(), 1)]
    assert project(rows, target).to_pydict() == {"x": ["p", "q"], "a": [None, None], "b": [1, 2]}


def test_untouched_columns_keep_their_buffers() -> None:
    rows = one("a", pa.int64(), [1, 2, 3])
    target = [column("renamed", pa.int64(), 1)]
    (before,), (after,) = rows["a"].chunks, project(rows, target)["renamed"].chunks
    assert after.buffers()[1].address == before.buffers()[1].address


def test_nested_fields_at_every_level() -> None:
    def kind(
        names: tuple[str, str], types: tuple[pa.DataType, pa.DataType], ids: tuple[int, int]
    ) -> pa.StructType:
        return pa.struct([column(*part) for part in zip(names, types, ids, strict=True)])

    old = kind(("a", "b"), (pa.int32(), pa.string()), (10, 11))
    new = kind(("bee", "z"), (pa.string(), pa.float64()), (11, 12))
    wider = kind(("z", "a"), (pa.float64(), pa.int64()), (12, 10))
    value = {"a": 1, "b": "x"}
    schema = pa.schema(
        [
            column("s", old, 1),
            column("l", pa.list_(column("item", old, 3)), 2),
            column(
                "m",
                pa.map_(
                    pa.field("key", pa.int32(), False, {"PARQUET:field_id": "6"}),
                    column("value", old, 7),
                ),
                5,
            ),
        ]
    )
    rows = pa.table(
        [
            [value, None, {"a": None, "b": None}, value],
            [[value, None], [], None, [value]],
            [[(1, value), (2, None)], [], None, [(3, value)]],
        ],
        schema,
    ).slice(1)
    target = [
        column("s", new, 1),
        column("l", pa.list_(column("element", wider, 3)), 2),
        column(
            "m",
            pa.map_(
                pa.field("key", pa.int64(), False, {"PARQUET:field_id": "6"}),
                column("value", new, 7),
            ),
            5,
        ),
    ]
    found = project(rows, target)
    found.validate(full=True)
    bee = {"bee": "x", "z": None}
    assert found["s"].to_pylist() == [None, {"bee": None, "z": None}, bee]
    assert found["l"].to_pylist() == [[], None, [{"z": None, "a": 1}]]
    assert found["m"].to_pylist() == [[], None, [(3, bee)]]


DAY = datetime.date(2026, 11, 22)
NOON = datetime.datetime(2026, 11, 22, 12)
ZONED = NOON.replace(tzinfo=datetime.UTC)
TEN = datetime.time(10)
KEY = uuid.UUID(int=7)
READABLE: list[tuple[pa.DataType, pa.DataType, Any, Any]] = [
    (pa.int8(), pa.int32(), -5, -5),
    (pa.uint16(), pa.int32(), 65535, 65535),
    (pa.uint32(), pa.int64(), 2**32 - 1, 2**32 - 1),
    (pa.int32(), pa.int64(), -(2**31), -(2**31)),
    (pa.float32(), pa.float64(), 0.5, 0.5),
    (pa.decimal128(5, 2), pa.decimal128(20, 2), Decimal("1.25"), Decimal("1.25")),
    (pa.decimal128(5, 2), pa.decimal128(7, 4), Decimal("-999.99"), Decimal("-999.9900")),
    (pa.int8(), pa.decimal128(4, 1), -128, Decimal("-128.0")),
    (pa.int16(), pa.decimal128(5, 0), 32767, Decimal(32767)),
    (pa.int32(), pa.decimal128(12, 2), -(2**31), Decimal("-2147483648.00")),
    (pa.int64(), pa.decimal128(20, 0), 2**63 - 1, Decimal(2**63 - 1)),
    (pa.int32(), pa.float64(), 2**31 - 1, 2.0**31 - 1),
    (pa.date32(), pa.timestamp("us"), datetime.date(1, 1, 1), datetime.datetime(1, 1, 1)),
    (pa.large_string(), pa.string(), "é", "é"),
    (pa.string_view(), pa.string(), "é", "é"),
    (pa.binary(), pa.string(), "é".encode(), "é"),
    (pa.string(), pa.binary(), "é", "é".encode()),
    (pa.dictionary(pa.int8(), pa.string()), pa.string(), "d", "d"),
    (pa.timestamp("ms"), pa.timestamp("us"), NOON, NOON),
    (pa.timestamp("ns"), pa.timestamp("us"), NOON, NOON),
    (pa.timestamp("s", "UTC"), pa.timestamp("us", "UTC"), ZONED, ZONED),
    (pa.timestamp("us", "Asia/Tokyo"), pa.timestamp("us", "UTC"), ZONED, ZONED),
    (pa.time32("ms"), pa.time64("us"), TEN, TEN),
    (pa.date64(), pa.date32(), DAY, DAY),
    (pa.binary(16), pa.uuid(), KEY.bytes, KEY),
    (pa.null(), pa.decimal128(5, 2), None, None),
]


@pytest.mark.parametrize(("stored", "wanted", "value", "expected"), READABLE)
def test_other_spellings_and_promotions(
    stored: pa.DataType, wanted: pa.DataType, value: Any, expected: Any
) -> None:
    found = project(one("c", stored, [value, None]), [column("c", wanted, 1)])
    assert found["c"].to_pylist() == [expected, None]
    listed = pa.list_(column("element", stored, 2))
    if stored != pa.binary(16) and not pa.types.is_string_view(stored):
        rows = one("c", listed, [[value], None, []])
        found = project(rows, [column("c", pa.list_(column("element", wanted, 2)), 1)])
        assert found["c"].to_pylist() == [[expected], None, []]


REFUSED: list[tuple[pa.DataType, pa.DataType]] = [
    (pa.int64(), pa.int32()),
    (pa.uint64(), pa.int64()),
    (pa.uint32(), pa.int32()),
    (pa.int64(), pa.float64()),
    (pa.int16(), pa.float32()),
    (pa.float64(), pa.float32()),
    (pa.float64(), pa.int64()),
    (pa.decimal128(10, 2), pa.decimal128(9, 2)),
    (pa.decimal128(10, 2), pa.decimal128(10, 3)),
    (pa.decimal128(10, 2), pa.decimal128(20, 1)),
    (pa.int64(), pa.decimal128(18, 0)),
    (pa.int32(), pa.decimal128(10, 1)),
    (pa.timestamp("us"), pa.timestamp("us", "UTC")),
    (pa.timestamp("us", "UTC"), pa.timestamp("us")),
    (pa.date32(), pa.timestamp("us", "UTC")),
    (pa.int64(), pa.timestamp("us")),
    (pa.string(), pa.int64()),
    (pa.binary(), pa.binary(4)),
    (pa.binary(4), pa.binary(8)),
    (pa.binary(8), pa.uuid()),
    (pa.bool_(), pa.int32()),
    (pa.int64(), pa.list_(pa.int64())),
    (pa.list_(pa.int64()), pa.int64()),
    (pa.struct([column("a", pa.int64(), 9)]), pa.list_(pa.int64())),
]


@pytest.mark.parametrize(("stored", "wanted"), REFUSED)
def test_types_that_do_not_fit_are_refused_by_name(
    stored: pa.DataType, wanted: pa.DataType
) -> None:
    with pytest.raises(UnsupportedTableError) as caught:
        project(one("old", stored, [None]), [column("new", wanted, 1)])
    assert all(
        word in str(caught.value) for word in ("f.parquet", "'old'", str(stored), str(wanted))
    )


LOSSY: list[tuple[pa.DataType, pa.DataType, Any]] = [
    (pa.timestamp("ns"), pa.timestamp("us"), 1),
    (pa.timestamp("s"), pa.timestamp("us"), 2**62),
    (pa.time64("ns"), pa.time64("us"), 1),
    (pa.binary(), pa.string(), b"\xff"),
    (pa.date64(), pa.date32(), 1),
]


@pytest.mark.parametrize(("stored", "wanted", "value"), LOSSY)
def test_a_value_that_does_not_fit_is_never_changed(
    stored: pa.DataType, wanted: pa.DataType, value: Any
) -> None:
    number = pa.array([value], pa.int64()).view(stored) if isinstance(value, int) else [value]
    rows = pa.table([number], pa.schema([column("c", stored, 1)]))
    with pytest.raises(CorruptTableError, match=r"f\.parquet: column 'c'"):
        project(rows, [column("c", wanted, 1)])


def test_old_timestamps_are_in_utc() -> None:
    rows = one("c", pa.timestamp("us"), [NOON])
    target = [column("c", pa.timestamp("us", "UTC"), 1)]
    assert project(rows, target, int96=frozenset(["c"]))["c"].to_pylist() == [ZONED]


def test_constants_fill_only_what_the_file_lacks() -> None:
    target = [column("a", pa.int64(), 1), column("p", pa.date32(), 2)]
    constants = {1: pa.scalar(7), 2: pa.scalar(DAY)}
    found = project(one("a", pa.int64(), [1, 2]), target, constants=constants)
    assert found.to_pydict() == {"a": [1, 2], "p": [DAY, DAY]}


def test_a_file_of_other_columns_has_rows_all_the_same() -> None:
    rows = one("a", pa.int64(), [1, 2])
    plan = plan_projection(
        FileColumns("f", rows.schema),
        TableSchema(pa.schema([column("p", pa.string(), 2)])),
        {2: Filling(pa.scalar("x"))},
    )
    assert plan.columns == ()
    (batch,) = rows.to_batches()
    assert plan.apply(batch).to_pydict() == {"p": ["x", "x"]}


@pytest.mark.parametrize("kind", [pa.uuid(), pa.struct([("a", pa.uuid())]), pa.list_(pa.string())])
def test_missing_columns_of_any_type_are_null(kind: pa.DataType) -> None:
    found = project(one("a", pa.int64(), [1, 2]), [column("n", kind, 2)])
    found.validate(full=True)
    assert found["n"].null_count == 2


REQUIRED = [pa.int32(), pa.string(), pa.uuid(), pa.list_(pa.uuid()), pa.map_("string", pa.int8())]


@pytest.mark.parametrize("kind", REQUIRED)
def test_nulls_of_structs_with_required_fields_can_be_written(kind: pa.DataType) -> None:
    inner = pa.struct([column("a", kind, 5, False), column("b", pa.int32(), 6)])
    target = column("s", pa.struct([column("n", inner, 4, False), column("x", kind, 7)]), 2)
    found = project(one("a", pa.int64(), [1, 2]), [target])
    found.validate(full=True)
    assert found["s"].null_count == 2
    pq.write_table(found, pa.BufferOutputStream())


@pytest.mark.parametrize("values", [[{"a": 1}, None, {"a": 3}], [None, {"a": 3}], [None, None]])
def test_required_fields_of_null_structs_can_be_written(values: list[Any]) -> None:
    stored = pa.struct([column("a", pa.int32(), 2, False)])
    target = [column("s", pa.struct([column("b", pa.int64(), 2, False)]), 1)]
    found = project(one("s", stored, values), target)
    wanted = [None if value is None else {"b": value["a"]} for value in values]
    assert found["s"].to_pylist() == wanted
    sink = pa.BufferOutputStream()
    pq.write_table(found, sink)
    assert pq.read_table(pa.BufferReader(sink.getvalue()))["s"].to_pylist() == wanted


def test_nested_uuids() -> None:
    stored = pa.struct([column("u", pa.binary(16), 2)])
    target = [column("s", pa.struct([column("u", pa.uuid(), 2)]), 1)]
    found = project(one("s", stored, [{"u": KEY.bytes}, None, {"u": None}]), target)
    assert found["s"].to_pylist() == [{"u": KEY}, None, {"u": None}]


def test_required_columns() -> None:
    optional = one("a", pa.int64(), [1, 2])
    assert project(optional, [column("a", pa.int64(), 1, False)])["a"].to_pylist() == [1, 2]
    with pytest.raises(CorruptTableError, match="required column 'a' holds nulls"):
        project(one("a", pa.int64(), [1, None]), [column("a", pa.int64(), 1, False)])
    with pytest.raises(CorruptTableError, match="required column 'b' is not in the file"):
        project(optional, [column("b", pa.int64(), 2, False)])


def test_required_fields_may_be_missing_where_their_parent_is() -> None:
    stored = pa.struct([column("a", pa.int64(), 2)])
    target = [column("s", pa.struct([column("a", pa.int64(), 2, False)]), 1)]
    assert project(one("s", stored, [None, {"a": 1}]), target)["s"].to_pylist() == [None, {"a": 1}]
    with pytest.raises(CorruptTableError, match=r"required column 's\.a' holds nulls"):
        project(one("s", stored, [{"a": None}]), target)


def test_required_fields_may_be_missing_below_a_missing_grandparent() -> None:
    def kind(nullable: bool) -> pa.DataType:
        inner = pa.struct([column("a", pa.int64(), 3, nullable)])
        return pa.struct([column("t", inner, 2, False)])

    values = [None, {"t": {"a": 1}}, None]
    found = project(one("s", kind(True), values), [column("s", kind(False), 1)])
    found.validate(full=True)
    assert found["s"].to_pylist() == values


def test_columns_that_differ_in_the_case_of_letters_are_refused_where_names_count() -> None:
    """Spark would read the column, deltalake nulls: whatever is written, rows of one change."""
    rows = pa.table({"ID": pa.array([1], pa.int64())})
    for target, stored in (
        (column("id", pa.int64(), 1), rows),
        (
            column("s", pa.struct([column("id", pa.int64(), 1)]), 2),
            pa.table({"s": pa.array([{"ID": 1}])}),
        ),
    ):
        mapping = ((("id",), 1), (("s",), 2), (("s", "id"), 1))
        table = TableSchema(pa.schema([target]), mapping, has_field_ids=False)
        with pytest.raises(UnsupportedTableError, match="readers do not agree"):
            plan_projection(FileColumns("f.parquet", stored.schema), table, {})
        by_mapping = TableSchema(pa.schema([target]), mapping)
        plan_projection(FileColumns("f.parquet", stored.schema), by_mapping, {})


def test_name_mapping_for_files_without_ids() -> None:
    stored = pa.struct([pa.field("x", pa.int32()), pa.field("y", pa.int32())])
    schema = pa.schema([pa.field("old", pa.int64()), pa.field("l", pa.list_(stored))])
    rows = pa.table([[1], [[{"x": 1, "y": 2}]]], schema)
    target = [
        column("l", pa.list_(column("element", pa.struct([column("why", pa.int64(), 5)]), 3)), 2),
        column("new", pa.int64(), 1),
    ]
    mapping = {
        ("old",): 1,
        ("l",): 2,
        ("l", "element"): 3,
        ("l", "element", "x"): 4,
        ("l", "element", "y"): 5,
    }
    assert project(rows, target, mapping=mapping).to_pylist() == [{"l": [{"why": 2}], "new": 1}]
    with pytest.raises(UnsupportedTableError, match="no field ids"):
        project(rows, target)


def test_doubtful_files_are_refused() -> None:
    twice = pa.schema([column("a", pa.int64(), 1), column("b", pa.int64(), 1)])
    with pytest.raises(CorruptTableError, match="field id 1 is used twice"):
        project(pa.table([[1], [2]], twice), [column("a", pa.int64(), 1)])
    names = pa.schema([column("a", pa.int64(), 1), column("a", pa.int64(), 2)])
    with pytest.raises(CorruptTableError, match="same name"):
        project(pa.table([[1], [2]], names), [column("a", pa.int64(), 1)])


def test_a_constant_is_held_to_the_same_rules() -> None:
    rows = one("a", pa.int64(), [1])
    target = [column("p", pa.int64(), 2)]
    found = project(rows, target, constants={2: pa.scalar(3, pa.int32())})
    assert found["p"].to_pylist() == [3]
    with pytest.raises(UnsupportedTableError, match="'p' is stored as string"):
        project(rows, target, constants={2: pa.scalar("3")})
