"""Properties of tables: their text, and what they mean."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.config import TableType, format_properties, parse_properties, table_config

texts = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(texts.filter(bool), texts, max_size=4))
def test_properties_are_read_as_they_were_written(pairs):
    assert parse_properties(format_properties(pairs)) == pairs


def test_the_forms_of_java_are_read():
    text = "#Properties of 2026\n! and this\n\na=1\nb : 2\nc 3\n  d\\:e=x\\\n    y\nf=\\u00e9\ng\n"
    assert parse_properties(text) == {
        "a": "1", "b": "2", "c": "3", "d:e": "xy", "f": "é", "g": "",
    }  # fmt: skip


def properties(**more):
    found = {"hoodie.table.name": "t", "hoodie.table.version": "9"}
    return found | {name.replace("_", "."): value for name, value in more.items()}


def test_a_table_is_what_its_properties_say():
    found = table_config(
        properties(
            hoodie_table_type="MERGE_ON_READ",
            hoodie_table_partition_fields="day:TIMESTAMP,city:SIMPLE",
            hoodie_table_recordkey_fields="a,b",
            hoodie_table_ordering_fields="ts",
            hoodie_table_timeline_timezone="UTC",
            hoodie_table_metadata_partitions="files, column_stats",
        )
    )
    assert found.table_type is TableType.MERGE_ON_READ
    assert found.is_merge_on_read
    assert (found.layout, found.timeline_path) == (2, ".hoodie/timeline")
    assert found.history_path == ".hoodie/timeline/history"
    assert found.partition_fields == ("day", "city")
    assert (found.record_key_fields, found.ordering_fields) == (("a", "b"), ("ts",))
    assert found.is_utc
    assert found.populates_meta_fields
    assert found.metadata_partitions == ("files", "column_stats")
    assert found.get("hoodie.table.name") == "t"


def test_tables_before_version_8_have_the_other_layout():
    found = table_config(
        properties()
        | {"hoodie.table.version": "6", "hoodie.table.precombine.field": "ts"}
        | {"hoodie.archivelog.folder": ""}
    )
    assert (found.layout, found.timeline_path, found.history_path) == (1, ".hoodie", ".hoodie")
    assert found.ordering_fields == ("ts",)


@pytest.mark.parametrize("version", ["5", "7", "10"])
def test_other_versions_are_refused(version):
    with pytest.raises(UnsupportedTableError, match=f"version is {version}"):
        table_config({"hoodie.table.version": version})


def test_a_layout_that_does_not_belong_to_the_version_is_refused():
    with pytest.raises(UnsupportedTableError, match="layout"):
        table_config(properties(hoodie_timeline_layout_version="1"))


def test_an_unknown_type_is_refused():
    with pytest.raises(UnsupportedTableError, match="BOTH"):
        table_config(properties(hoodie_table_type="BOTH"))


@pytest.mark.parametrize("text", ["", "nine"])
def test_a_table_without_a_version_is_damaged(text):
    with pytest.raises(CorruptTableError, match=r"hoodie\.table\.version"):
        table_config({"hoodie.table.version": text})
