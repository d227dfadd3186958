"""Records decoded into columns at once have the values that fastavro reads one by one."""

import datetime as dt
import io
import json
from decimal import Decimal

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import UnsupportedTableError
from catalog.hudi.avro_columns import Records, promoted
from catalog.hudi.schema import arrow_schema, parse_avro

DAY = dt.date(1970, 1, 1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROS = st.integers(-(10**15), 10**15)


def logical(kind, meaning, **more):
    return {"type": kind, "logicalType": meaning, **more}


LEAVES = [
    ("int", st.integers(-(2**31), 2**31 - 1)),
    ("long", st.integers(-(2**63), 2**63 - 1)),
    ("boolean", st.booleans()),
    ("float", st.floats(width=32, allow_nan=False)),
    ("double", st.floats(allow_nan=False)),
    ("string", st.text(max_size=20)),
    ("bytes", st.binary(max_size=20)),
    ({"type": "fixed", "name": "three", "size": 3}, st.binary(min_size=3, max_size=3)),
    ({"type": "enum", "name": "side", "symbols": ["L", "R"]}, st.sampled_from("LR")),
    (logical("int", "date"), st.dates()),
    (logical("long", "timestamp-micros"), MICROS.map(lambda n: EPOCH + dt.timedelta(0, 0, n))),
    (
        logical("long", "local-timestamp-micros"),
        MICROS.map(lambda n: EPOCH.replace(tzinfo=None) + dt.timedelta(0, 0, n)),
    ),
    (
        logical("bytes", "decimal", precision=30, scale=2),
        st.integers(-(10**30) + 1, 10**30 - 1).map(lambda n: Decimal((n < 0, digits(n), -2))),
    ),
    (
        logical("fixed", "decimal", precision=20, scale=3, name="nine", size=9),
        st.integers(-(10**20) + 1, 10**20 - 1).map(lambda n: Decimal((n < 0, digits(n), -3))),
    ),
]


def digits(number):
    return tuple(map(int, str(abs(number))))


def optional(pair):
    kind, values = pair
    return ["null", kind], st.none() | values


def nested(pair, number):
    kind, values = pair
    name = f"inner{number}"
    return st.sampled_from(
        [
            ({"type": "array", "items": kind}, st.lists(values, max_size=4)),
            ({"type": "map", "values": kind}, st.dictionaries(st.text(max_size=3), values)),
            (
                {"type": "record", "name": name, "fields": [{"name": "v", "type": kind}]},
                st.fixed_dictionaries({"v": values}),
            ),
        ]
    )  # fmt: skip


@st.composite
def tables(draw):
    fields, columns = [], {}
    used = set()
    for number in range(draw(st.integers(1, 5))):
        pair = draw(st.sampled_from(LEAVES))
        name = pair[0].get("name") if isinstance(pair[0], dict) else None
        if name in used:
            continue
        used.add(name or f"f{number}")
        if draw(st.booleans()):
            pair = optional(pair)
        if draw(st.integers(0, 3)) == 0:
            pair = draw(nested(pair, number))
            pair = optional(pair) if draw(st.booleans()) else pair
        fields.append({"name": f"f{number}", "type": pair[0]})
        columns[f"f{number}"] = pair[1]
    schema = {"type": "record", "name": "row", "fields": fields}
    return schema, draw(st.lists(st.fixed_dictionaries(columns), max_size=8))


def encoded(schema, rows):
    parsed, ends = fastavro.parse_schema(schema), [0]
    out = io.BytesIO()
    for row in rows:
        fastavro.schemaless_writer(out, parsed, row)
        ends.append(out.tell())
    return pa.py_buffer(out.getvalue()), np.array(ends[:-1], np.int64), np.array(ends[1:], np.int64)


def decoded(schema, buffer, starts, ends):
    avro = parse_avro(json.dumps(schema))
    records = Records(buffer, starts.copy(), ends)
    columns = [records.column(field["type"]) for field in avro["fields"]]
    records.finish()
    table = pa.table(columns, schema=arrow_schema(avro))
    table.validate(full=True)
    return table


def plain(value):
    """Maps come as pairs out of Arrow."""
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return {key: plain(inner) for key, inner in value}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return {key: plain(one) for key, one in value.items()} if isinstance(value, dict) else value


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables())
def test_columns_have_the_values_of_the_records(table):
    schema, rows = table
    found = decoded(schema, *encoded(schema, rows))
    maps = [field["name"] for field in schema["fields"] if "map" in json.dumps(field["type"])]
    expected = [
        {name: [] if name in maps and value == {} else value for name, value in row.items()}
        for row in rows
    ]
    assert [plain(row) for row in found.to_pylist()] == [plain(row) for row in expected]


TEXT = {"type": "record", "name": "row", "fields": [{"name": "a", "type": ["null", "string"]}]}


@pytest.mark.parametrize(
    "body",
    [b"\x06", b"\x02\x7e", b"\x02\x01", b"\x00\x00", b"\x02", b"\x02\x04\xff\xfe", b"\x80" * 11],
    ids=["branch", "length", "negative", "more", "less", "no text", "long number"],
)
def test_what_does_not_decode_within_its_record_is_no_record(body):
    buffer = pa.py_buffer(body)
    with pytest.raises((ValueError, IndexError)):
        decoded(TEXT, buffer, np.array([0]), np.array([len(body)]))


def test_lists_may_come_in_runs_with_their_sizes():
    schema = {"type": "record", "name": "row", "fields": [
        {"name": "a", "type": {"type": "array", "items": "int"}}]}  # fmt: skip
    # Two items in a run of two bytes, then one without a size, then the end.
    body = b"\x03\x04\x02\x04" + b"\x02\x06" + b"\x00"
    found = decoded(schema, pa.py_buffer(body), np.array([0]), np.array([len(body)]))
    assert found["a"].to_pylist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pa.array([1], pa.int32()), pa.int64(), [1]),
        (pa.array([0.5], pa.float32()), pa.float64(), [0.5]),
        (pa.array([1]), pa.float64(), [1.0]),
        (pa.array([2**63 - 1, 2**53 + 1]), pa.float64(), [2.0**63, 2.0**53]),
        (pa.array([2**31 - 1], pa.int32()), pa.float32(), [2.0**31]),
        (pa.array([b"x"]), pa.string(), ["x"]),
        (pa.array([Decimal("1.5")]), pa.decimal128(10, 2), [Decimal("1.50")]),
        (pa.nulls(1), pa.string(), [None]),
        (pa.array([{"a": 1}, None], pa.struct([("a", pa.int32())])),
         pa.struct([("a", pa.int64()), ("b", pa.string())]), [{"a": 1, "b": None}, None]),
        (pa.array([[1], None, []], pa.list_(pa.int32())), pa.list_(pa.int64()), [[1], None, []]),
        (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())),
         pa.map_(pa.string(), pa.int64()), [[("k", 1)], None]),
    ],
)  # fmt: skip
def test_types_may_grow(values, kind, expected):
    found = promoted(values, kind, "c")
    assert (found.type, found.to_pylist()) == (kind, expected)


def test_types_do_not_shrink():
    with pytest.raises(UnsupportedTableError, match=r"c\.a is int64 in a log and int32"):
        promoted(pa.array([{"a": 1}]), pa.struct([("a", pa.int32())]), "c")


def test_unions_of_several_types_are_refused():
    schema = {"type": "record", "name": "r", "fields": [{"name": "a", "type": ["int", "string"]}]}
    with pytest.raises(UnsupportedTableError, match="union of several types"):
        arrow_schema(parse_avro(json.dumps(schema)))
