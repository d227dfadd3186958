"""Record keys and partition paths are what Hudi's key generators make, or are refused by name."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from catalog.errors import UnsupportedTableError
from catalog.hudi.config import TableConfig, table_config
from catalog.hudi.key_rules import key_rule
from catalog.hudi.new_rows import keyed
from catalog.hudi.schema import PARTITION_PATH, RECORD_KEY
from catalog.hudi.table import HudiTable
from catalog.location import Location
from compactor.rewrite.read import SliceReader
from tests.judges.make_hudi_fixtures import unpack

# Of each key generator one, and one with keys of all kinds.
STORED = (
    "v6_mor_unpartitioned",
    "v9_mor",
    "v9_mor_hive_style",
    "v9_mor_strange_keys",
    "v9_mor_two_levels",
)
ROWS = pa.table(
    {
        "id": pa.array([1, -2, None], pa.int64()),
        "kind": ["a", "", None],
        "day": pa.array([date(2026, 11, 23), None, date(1, 1, 1)]),
        "part": ["x/y=ä%", None, ""],
        "at": pa.array([0, 1, 2], pa.timestamp("us", "UTC")),
    }
)
NAMES = pa.schema([("name", pa.string()), ("kind", pa.string())])


def config(**properties: str) -> TableConfig:
    named = {f"hoodie.table.{key.replace('_', '.')}": value for key, value in properties.items()}
    return table_config({"hoodie.table.version": "9", "hoodie.table.name": "t", **named})


@pytest.mark.parametrize("name", STORED)
def test_stored_rows_have_the_keys_and_paths_that_are_made(name: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    table = HudiTable(str(path), Location.parse(str(path)), {})
    files, inventory = table.files(table.snapshot()), table.inventory(table.snapshot())
    reader = SliceReader.of(files, inventory)
    batches = [batch for one in inventory.slices() for batch in reader.batches(one)]
    stored = pa.Table.from_batches(batches)
    users = stored.select([one for one in stored.column_names if not one.startswith("_hoodie")])
    made = keyed(files, users, inventory)
    for column in (RECORD_KEY, PARTITION_PATH):
        assert made[column].to_pylist() == stored[column].to_pylist()


@pytest.mark.parametrize("name", ["v9_mor_custom_keys", "v9_mor_timestamp_keys"])
def test_key_generators_with_settings_of_their_own_are_refused(name: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    table = HudiTable(str(path), Location.parse(str(path)), {})
    files = table.files(table.snapshot())
    with pytest.raises(UnsupportedTableError, match=r"the key generator (CUSTOM|TIMESTAMP)"):
        key_rule(files.config, files.schema.arrow, ())


def test_several_columns_have_their_names_in_keys_and_say_what_is_missing() -> None:
    rule = key_rule(
        config(recordkey_fields="id,kind", partition_fields="day,part"), ROWS.schema, ()
    )
    assert rule.keys(ROWS.slice(0, 2)).to_pylist() == ["id:1,kind:a", "id:-2,kind:__empty__"]
    assert rule.paths(ROWS.slice(1)).to_pylist() == [
        "__HIVE_DEFAULT_PARTITION__/__HIVE_DEFAULT_PARTITION__",
        "0001-01-01/__HIVE_DEFAULT_PARTITION__",
    ]
    with pytest.raises(UnsupportedTableError, match="no record key: id, kind"):
        rule.keys(ROWS)


def test_values_in_paths_are_encoded_as_they_are_told_to_be() -> None:
    told = {
        "hoodie.datasource.write.hive_style_partitioning": "true",
        "hoodie.datasource.write.partitionpath.urlencode": "true",
        "hoodie.table.version": "9",
        "hoodie.table.recordkey.fields": "id",
        "hoodie.table.partition.fields": "part",
    }
    rule = key_rule(table_config(told), ROWS.schema, ())
    assert rule.paths(ROWS).to_pylist() == [
        "part=x%2Fy%3Dä%25",
        "part=__HIVE_DEFAULT_PARTITION__",
        "part=__HIVE_DEFAULT_PARTITION__",
    ]


@pytest.mark.parametrize("value", ["a,kind:b", ",kind:", "__null__", "__empty__"])
def test_values_whose_record_key_others_make_too_are_refused(value: str) -> None:
    rule = key_rule(config(recordkey_fields="name,kind"), NAMES, ())
    plain = pa.table(
        {"name": ["a,b:c", "é:,", None], "kind": ["x", "", "id:__null__"]}, schema=NAMES
    )
    rule.require_own(plain)
    for name in ("name", "kind"):
        rows = plain.set_column(plain.schema.get_field_index(name), name, [["x", value, None]])
        with pytest.raises(UnsupportedTableError, match=f"a value of {name} makes a record key"):
            rule.require_own(rows)
    alone = key_rule(config(recordkey_fields="name"), NAMES, ())
    alone.require_own(pa.table({"name": [value]}))


@pytest.mark.parametrize("value", ["..", "a//b", "/a", "a/", ".", ".hoodie", "a/../b", "p=1"])
def test_values_that_lead_out_of_the_table_are_refused(value: str) -> None:
    rule = key_rule(config(recordkey_fields="id", partition_fields="part"), ROWS.schema, ())
    with pytest.raises(UnsupportedTableError, match="no path of a partition"):
        rule.paths(pa.table({"part": [value]}))


def test_values_that_make_folders_of_their_own_are_refused_among_others() -> None:
    rows = pa.table({"day": ["a/b"], "part": ["c"]})
    alone, both = (
        key_rule(config(recordkey_fields="id", partition_fields=one), ROWS.schema, ())
        for one in ("day", "day,part")
    )
    assert alone.paths(rows).to_pylist() == ["a/b"]
    with pytest.raises(UnsupportedTableError, match="a value of day is not encoded"):
        both.paths(rows)


def test_one_column_of_a_complex_key_is_told_by_stored_rows() -> None:
    old = {
        "hoodie.table.version": "6",
        "hoodie.table.recordkey.fields": "id",
        "hoodie.table.partition.fields": "day,part",
        "hoodie.table.keygenerator.class": "org.apache.hudi.keygen.ComplexKeyGenerator",
    }
    rows = ROWS.slice(0, 1).set_column(3, "part", [["yä%"]])
    with pytest.raises(UnsupportedTableError, match="cannot be told whether the name"):
        key_rule(table_config(old), ROWS.schema, ())
    for key in ("id:1", "1"):
        stored = rows.append_column(RECORD_KEY, [[key]])
        stored = stored.append_column(PARTITION_PATH, [["2026-11-23/yä%"]])
        rule = key_rule(table_config(old), ROWS.schema, [stored])
        assert rule.keys(rows).to_pylist() == [key]
    with pytest.raises(UnsupportedTableError, match="other record keys"):
        key_rule(table_config(old), ROWS.schema, [stored.set_column(5, RECORD_KEY, [["one"]])])


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({}, "keys that are generated"),
        ({"recordkey_fields": "at"}, "keys of at: timestamp"),
        ({"recordkey_fields": "a.b"}, "nested or missing column a.b"),
        ({"recordkey_fields": "id", "keygenerator_class": "com.example.Mine"}, "generator Mine"),
        ({"recordkey_fields": "id,kind", "partition_fields": "day", "keygenerator_type": "SIMPLE"},
         "SIMPLE with several"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_by_name(told: dict[str, str], reason: str) -> None:
    with pytest.raises(UnsupportedTableError, match=reason):
        key_rule(config(**told), ROWS.schema, ())
