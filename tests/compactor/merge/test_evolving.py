"""Columns that only the changes have become columns of the table, and nothing else changes."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable as PeerTable
from deltalake import write_deltalake
from pyiceberg.exceptions import CommitFailedException

from catalog.delta.table import DeltaTable
from catalog.errors import UnsupportedTableError
from catalog.evolution import Evolution
from catalog.iceberg.table import IcebergTable
from catalog.location import Location
from catalog.memory import MemoryTable
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import Source
from compactor.merge.evolving import evolution_of, evolve, without_new
from compactor.merge.rules import MergeRules
from tests.catalog.delta.lakes import DeltaLake, commits
from tests.compactor.rewrite.tables import with_ids
from tests.iceberg_tables import make_table, rows, sql_catalog

TABLE = pa.schema(
    [
        ("id", pa.int32()),
        ("price", pa.decimal128(9, 2)),
        ("weight", pa.float32()),
        ("text", pa.string()),
    ]
)
RULES = MergeRules(("id",), order_by=("at",), op_column="op")
WIDE = pa.schema([("id", pa.int64()), ("price", pa.decimal128(12, 2)), ("weight", pa.float64())])
NESTED = pa.struct([("x", pa.list_(pa.int64())), ("y", pa.map_(pa.string(), pa.bool_()))])
NEW = pa.schema([*WIDE, ("op", pa.string()), ("at", pa.int64()), ("more", pa.large_string())])


def added(kind: pa.DataType, name: str = "more") -> Evolution:
    return evolution_of(pa.schema([("id", pa.int32()), (name, kind)]), TABLE, MergeRules(("id",)))


def test_what_a_table_lacks_and_what_is_too_narrow() -> None:
    found = evolution_of(NEW, TABLE, RULES)
    assert found.added == pa.schema([("more", pa.string())])
    assert found.widened == WIDE
    assert evolution_of(TABLE, TABLE, MergeRules(("id",))).is_empty
    narrow = pa.schema([("id", pa.int16()), ("price", pa.decimal128(9, 3)), ("text", pa.int64())])
    assert evolution_of(narrow, TABLE, MergeRules(("id",))).is_empty


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pa.uint16(), pa.int32()),
        (pa.uint32(), pa.int64()),
        (pa.dictionary(pa.int8(), pa.large_string()), pa.string()),
        (pa.timestamp("ns", "Europe/Berlin"), pa.timestamp("us", "UTC")),
        (pa.time32("s"), pa.time64("us")),
        (pa.decimal256(20, 3), pa.decimal128(20, 3)),
        (pa.large_list(pa.float16()), pa.list_(pa.float32())),
        (pa.struct([("a", pa.date64())]), pa.struct([("a", pa.date32())])),
    ],
)
def test_a_new_column_gets_the_type_that_formats_have(
    given: pa.DataType, expected: pa.DataType
) -> None:
    assert added(given).added.field("more").type == expected


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.null(), "more"),
        (pa.uint64(), "more"),
        (pa.duration("s"), "more"),
        (pa.decimal128(38, -1), "more"),
        (pa.int32(), "ID"),
        (pa.int32(), "_compact_kind"),
    ],
)
def test_what_no_table_can_have_is_refused_by_name(kind: pa.DataType, name: str) -> None:
    with pytest.raises(ChangesRefusedError, match=name):
        added(kind, name)


def test_a_look_ahead_leaves_new_columns_out() -> None:
    source = Source(pa.table({"id": [1], "more": ["x"]}), "changes")
    assert without_new(added(pa.string()), source).rows.schema.names == ["id"]


def test_an_iceberg_table_gets_columns(tmp_path: Path) -> None:
    peer = make_table(tmp_path, TABLE)
    stored = {"id": 1, "price": Decimal("1.50"), "weight": 0.5, "text": "a"}
    peer.append(pa.Table.from_pylist([stored], TABLE))
    table = IcebergTable("lake.ns.t", sql_catalog(tmp_path), ("ns", "t"))
    wanted = evolution_of(pa.schema([*NEW, ("nested", NESTED)]), TABLE, RULES)
    for _ in range(2):
        evolve(table, wanted)
    schema = table.files(table.snapshot()).schema.arrow
    assert schema.names == [*TABLE.names, "more", "nested"]
    kinds = [schema.field(name).type for name in ("id", "price", "weight", "more")]
    assert kinds == [pa.int64(), pa.decimal128(12, 2), pa.float64(), pa.string()]
    assert all(schema.field(name).nullable for name in ("more", "nested"))
    assert rows(peer) == [{**stored, "more": None, "nested": None}]
    assert len(peer.refresh().metadata.schemas) == 2
    with pytest.raises(UnsupportedTableError, match="another writer"):
        evolve(table, added(pa.int32()))


def test_a_lost_race_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_table(tmp_path, TABLE)
    catalog = sql_catalog(tmp_path)
    table = IcebergTable("lake.ns.t", catalog, ("ns", "t"))
    commit = catalog.commit_table

    def lost(*_: Any) -> Any:
        monkeypatch.setattr(catalog, "commit_table", commit)
        raise CommitFailedException("somebody was first")

    monkeypatch.setattr(catalog, "commit_table", lost)
    evolve(table, added(pa.string()))
    assert "more" in table.current().schema().column_names


MAPPED = {
    "delta.columnMapping.mode": "name",
    "delta.minReaderVersion": "2",
    "delta.minWriterVersion": "5",
}


def test_a_delta_table_gets_columns(tmp_path: Path) -> None:
    plain = pa.table({"id": [1], "text": ["a"]})
    write_deltalake(str(tmp_path), plain)
    table = DeltaTable("t", Location.parse(str(tmp_path)), {})
    wanted = pa.schema([*plain.schema, ("more", pa.int32()), ("nested", NESTED)])
    for _ in range(2):
        evolve(table, evolution_of(wanted, plain.schema, MergeRules(("id",))))
    peer = PeerTable(str(tmp_path))
    assert peer.version() == 1
    found = pa.table(peer.to_pyarrow_table()).to_pylist()
    assert found == [{"id": 1, "text": "a", "more": None, "nested": None}]
    write_deltalake(
        str(tmp_path),
        pa.table({"id": [2], "more": pa.array([7], pa.int32())}),
        mode="append",
        schema_mode="merge",
    )
    with pytest.raises(UnsupportedTableError, match="another writer"):
        evolve(table, added(pa.string()))
    for kind, name in (
        (pa.time64("us"), "hour"),
        (pa.timestamp("us"), "local"),
        (pa.bool_(), "a b"),
    ):
        with pytest.raises(UnsupportedTableError, match=name):
            evolve(table, added(kind, name))


def columns_of(lake: DeltaLake) -> list[dict[str, Any]]:
    state = lake.table.load()[1]
    found: list[dict[str, Any]] = json.loads(state.metadata.schema_text)["fields"]
    return found


def test_ids_and_physical_names_are_given_under_column_mapping(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path, configuration={"delta.enableInCommitTimestamps": "true"})
    (first,) = commits(lake.directory)
    metadata = next(one["metaData"] for one in first if "metaData" in one)
    schema = json.loads(metadata["schemaString"])
    for number, field in enumerate(schema["fields"], 1):
        field["metadata"] = {
            "delta.columnMapping.id": number,
            "delta.columnMapping.physicalName": f"p{number}",
        }
    metadata["schemaString"] = json.dumps(schema)
    metadata["configuration"] = {**MAPPED, "delta.columnMapping.maxColumnId": "3"}
    features = ["columnMapping", "timestampNtz"]
    protocol = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": features,
        "writerFeatures": features,
    }
    lake.commit([{"protocol": protocol}, {"metaData": metadata}])
    wanted = pa.schema([("id", pa.int64()), ("a b", NESTED), ("at", pa.timestamp("us"))])
    evolve(lake.table, evolution_of(wanted, pa.schema([("id", pa.int64())]), MergeRules(("id",))))
    new = columns_of(lake)[3:]
    assert [(one["name"], one["nullable"]) for one in new] == [("a b", True), ("at", True)]
    inner = new[0]["type"]["fields"]
    numbers = [one["metadata"]["delta.columnMapping.id"] for one in (*inner, *new)]
    assert sorted(numbers) == [4, 5, 6, 7]
    configuration = lake.table.load()[1].metadata.configuration
    assert configuration["delta.columnMapping.maxColumnId"] == "7"
    assert PeerTable(str(lake.directory)).schema().fields[3].name == "a b"
    schema = lake.table.files(lake.table.snapshot()).schema
    assert [one.name[:4] for one in schema.arrow][3:] == ["col-", "col-"]


@pytest.mark.parametrize("is_on", [True, False])
def test_delta_columns_are_widened_where_the_table_asks_for_it(tmp_path: Path, is_on: bool) -> None:
    lake = DeltaLake(tmp_path)
    (first,) = commits(lake.directory)
    metadata = next(one["metaData"] for one in first if "metaData" in one)
    schema = json.loads(metadata["schemaString"])
    schema["fields"][0]["type"] = "integer"
    metadata["schemaString"] = json.dumps(schema)
    metadata["configuration"] = {"delta.enableTypeWidening": str(is_on).lower()}
    protocol = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["typeWidening"],
        "writerFeatures": ["typeWidening"],
    }
    lake.commit([{"protocol": protocol}, {"metaData": metadata}])
    version = lake.table.load()[1].version
    wide = pa.schema([("id", pa.int64())])
    for _ in range(2):
        evolve(lake.table, Evolution(widened=wide))
    field = columns_of(lake)[0]
    assert field["type"] == ("long" if is_on else "integer")
    assert lake.table.load()[1].version == version + is_on
    changes = [{"fromType": "integer", "toType": "long"}] if is_on else None
    assert field["metadata"].get("delta.typeChanges") == changes


def test_two_writers_that_add_the_same_column(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path, configuration={})
    one, other = lake.table, lake.table
    one.load()
    other.load()
    for table in (one, other):
        evolve(table, added(pa.string()))
    assert [field["name"] for field in columns_of(lake)] == ["id", "part", "text", "more"]


def test_a_table_that_cannot_evolve_is_refused_by_name(tmp_path: Path) -> None:
    table = MemoryTable(tmp_path, with_ids(TABLE))
    evolve(table, Evolution())
    with pytest.raises(ChangesRefusedError, match="columns cannot be added"):
        evolve(table, added(pa.string()))
