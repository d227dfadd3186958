"""Schemas: every type, physical names and ids, partition columns, columns of row tracking."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from catalog.delta.actions import Metadata, parse_action
from catalog.delta.properties import file_layout
from catalog.delta.schema import ROW_ID, ROW_VERSION, Columns, read_columns
from catalog.errors import CatalogError, CorruptTableError, UnsupportedTableError
from catalog.schema import field_id
from tests.catalog.delta.logs import column, metadata

TRACKING = {
    "delta.rowTracking.materializedRowIdColumnName": "_row-id-1",
    "delta.rowTracking.materializedRowCommitVersionColumnName": "_row-version-1",
}


def columns_of(
    *fields: dict[str, Any],
    partitions: tuple[str, ...] = (),
    configuration: dict[str, str] | None = None,
    stores_partitions: bool = False,
) -> Columns:
    raw = metadata(*fields, partitions=partitions, configuration=configuration)["metaData"]
    found = parse_action("metaData", raw)
    assert isinstance(found, Metadata)
    tracks_rows = TRACKING.keys() <= (configuration or {}).keys()
    return read_columns(found, stores_partitions=stores_partitions, tracks_rows=tracks_rows)


def struct(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "struct", "fields": list(fields)}


def array(element: Any) -> dict[str, Any]:
    return {"type": "array", "elementType": element, "containsNull": True}


def mapping(key: Any, value: Any) -> dict[str, Any]:
    return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("string", pa.string()),
        ("varchar(10)", pa.string()),
        ("long", pa.int64()),
        ("integer", pa.int32()),
        ("short", pa.int16()),
        ("byte", pa.int8()),
        ("float", pa.float32()),
        ("double", pa.float64()),
        ("decimal(38,10)", pa.decimal128(38, 10)),
        ("decimal", pa.decimal128(10, 0)),
        ("boolean", pa.bool_()),
        ("binary", pa.binary()),
        ("date", pa.date32()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("timestamp_ntz", pa.timestamp("us")),
        (array("long"), pa.list_(pa.field("element", pa.int64()))),
        (mapping("string", array("date")), pa.map_(pa.string(), pa.list_(pa.date32()))),
    ],
)
def test_types(kind: Any, expected: pa.DataType) -> None:
    assert columns_of(column("x", kind)).schema.arrow.field("x").type.equals(expected)


@pytest.mark.parametrize("kind", ["variant", "interval day", "geometry(OGC:CRS84)", "STRING"])
def test_unknown_types_are_refused_by_column(kind: str) -> None:
    with pytest.raises(UnsupportedTableError, match="'inner'"):
        columns_of(column("outer", struct(column("inner", kind))))


def test_columns_without_ids_go_by_their_names() -> None:
    inner = struct(column("b"), column("c", array(struct(column("d")))))
    schema = columns_of(column("a", inner), column("m", mapping("string", "long"))).schema

    assert not schema.has_field_ids
    paths = dict(schema.name_mapping)
    assert set(paths) == {
        ("a",),
        ("a", "b"),
        ("a", "c"),
        ("a", "c", "element", "d"),
        ("m",),
    }
    assert len(set(paths.values())) == len(paths)
    assert all(field_id(one) is None for one in schema.written)


def mapped(name: str, number: int, kind: Any = "long") -> dict[str, Any]:
    named = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"col-{number}"}
    return {**column(name, kind), "metadata": named}


@pytest.mark.parametrize("mode", ["name", "id"])
def test_mapped_columns_have_physical_names_and_ids(mode: str) -> None:
    configuration = {"delta.columnMapping.mode": mode}
    found = columns_of(
        mapped("a", 7, struct(mapped("b", 9))),
        mapped("day", 8, "date"),
        partitions=("day",),
        configuration=configuration,
    )
    schema = found.schema

    assert schema.has_field_ids
    assert schema.arrow.names == ["col-7", "col-8"]
    assert [field_id(one) for one in schema.arrow] == [7, 8]
    assert field_id(schema.arrow.field("col-7").type.field("col-9")) == 9
    assert schema.unstored == {8}
    (day,) = found.partitions
    assert (day.name, day.physical_name, day.field_id) == ("day", "col-8", 8)


def test_what_lists_and_maps_hold_has_ids_in_tables_made_for_iceberg() -> None:
    kind = mapping("string", array(struct(mapped("d", 9, array("long")))))
    ids = {"col-7.key": 20, "col-7.value": 21, "col-7.value.element": 22}
    outer, inner = mapped("a", 7, kind), kind["valueType"]["elementType"]["fields"][0]
    outer["metadata"]["delta.columnMapping.nested.ids"] = ids
    inner["metadata"]["delta.columnMapping.nested.ids"] = {"col-9.element": 23}
    (field,) = columns_of(outer, configuration={"delta.columnMapping.mode": "name"}).schema.arrow

    lists = field.type.item_field
    assert [field_id(field.type.key_field), field_id(lists)] == [20, 21]
    assert field_id(lists.type.value_field) == 22
    innermost = lists.type.value_field.type.field("col-9")
    assert [field_id(innermost), field_id(innermost.type.value_field)] == [9, 23]


def test_partition_columns_are_stored_when_asked_for() -> None:
    fields = column("a"), column("day", "date")
    assert columns_of(*fields, partitions=("day",)).schema.stored.arrow.names == ["a"]
    stored = columns_of(*fields, partitions=("day",), stores_partitions=True).schema.stored
    assert stored.arrow.names == ["a", "day"]


def test_row_tracking_adds_the_columns_that_keep_ids() -> None:
    schema = columns_of(column("a"), configuration=TRACKING).schema
    assert schema.arrow.names == ["a", "_row-id-1", "_row-version-1"]
    assert [field_id(one) for one in schema.arrow][1:] == [ROW_ID, ROW_VERSION]


def test_columns_of_nothing_are_in_no_file() -> None:
    fields = column("a", "void"), column("b", struct(column("c", "void"), column("d")))
    arrow = columns_of(*fields, column("day"), partitions=("day",)).schema.arrow
    assert arrow.names == ["b", "day"]
    assert [one.name for one in arrow.field("b").type] == ["d"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", '{"fields": 3}', '{"fields": [{"name": "a"}]}', "[" * 100_000]
)
def test_schemas_that_are_none(text: str) -> None:
    raw = {**metadata()["metaData"], "schemaString": text}
    found = parse_action("metaData", raw)
    assert isinstance(found, Metadata)
    with pytest.raises(CorruptTableError):
        read_columns(found, stores_partitions=False, tracks_rows=False)


def test_schemas_that_contradict_themselves() -> None:
    kind: Any = "long"
    for _ in range(200):
        kind = array(kind)
    for fields, partitions in [
        ((column("a"), column("a")), ()),
        ((column("a"),), ("b",)),
        ((column("a", kind),), ()),
    ]:
        with pytest.raises(CatalogError):
            columns_of(*fields, partitions=partitions)
    with pytest.raises(CorruptTableError):
        columns_of(column("a"), configuration={"delta.columnMapping.mode": "name"})
    with pytest.raises(UnsupportedTableError):
        columns_of(column("a"), configuration={"delta.columnMapping.mode": "number"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("104857600", 104857600), ("100mb", 100 << 20), ("1.5 GiB", 3 << 29), ("12", 1 << 20)],
)
def test_target_sizes(text: str, expected: int) -> None:
    assert file_layout({"delta.targetFileSize": text}).target_file_size_bytes == expected


@pytest.mark.parametrize("text", ["0", "-5", "large", "10 parsecs", "9" * 400])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UnsupportedTableError, match=r"delta\.targetFileSize"):
        file_layout({"delta.targetFileSize": text})


def test_codecs() -> None:
    assert file_layout({}).codec == "snappy"
    assert file_layout({"delta.parquet.compression.codec": "ZSTD"}).codec == "zstd"
    assert file_layout({"delta.parquet.compression.codec": "UNCOMPRESSED"}).codec == "none"
    with pytest.raises(UnsupportedTableError, match="lzo"):
        file_layout({"delta.parquet.compression.codec": "lzo"})
