"""What we write as Avro is read by Avro's own library, and is the same as what it writes."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest

from catalog.avro.container import AvroFile
from catalog.avro.records import record_writer
from catalog.avro.schema import spelled_out
from catalog.avro.write import Branch
from catalog.hudi.avro_schemas import Kind, schema, schema_text
from catalog.hudi.avro_writing import container

PLAN = {
    "operations": [
        {
            "baseInstantTime": "20261120101010123",
            "deltaFilePaths": [".f-0_20261120101010123.log.1_0-1-2"],
            "dataFilePath": None,
            "fileId": "größe-0",
            "partitionPath": "day=2026-11-20",
            "metrics": {"TOTAL_LOG_FILES": 1.0},
            "bootstrapFilePath": None,
        }
    ],
    "extraMetadata": {"compactor.job": "j1"},
}


@pytest.mark.parametrize("kind", Kind)
def test_every_schema_is_one(kind: Kind) -> None:
    fastavro.parse_schema(json.loads(schema_text(kind)))
    record_writer(spelled_out(schema(kind)))


def test_a_container_is_read_by_others() -> None:
    data = container(Kind.COMPACTION_PLAN, [PLAN])

    (theirs,) = fastavro.reader(io.BytesIO(data))
    ours = AvroFile.parse("plan", data).the_record()
    assert theirs == ours
    assert theirs["operations"] == PLAN["operations"]
    assert (theirs["version"], theirs["extraMetadata"]) == (1, {"compactor.job": "j1"})
    assert data == container(Kind.COMPACTION_PLAN, [PLAN])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("long", -(1 << 63)),
        ("long", (1 << 63) - 1),
        ("int", -1),
        ("double", 1.5),
        ("float", -0.25),
        ("boolean", True),
        ("bytes", b"\x00\xff" * 70),
        (["null", "string"], None),
        (["null", "string"], "x"),
        (["string", "null"], None),
        ({"type": "array", "items": "long"}, []),
        ({"type": "array", "items": "long"}, [1, 2, 300]),
        ({"type": "map", "values": ["null", "int"]}, {"a": 1, "b": None}),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B"),
        ({"type": "fixed", "name": "F", "size": 3}, b"abc"),
    ],
)
def test_values_are_the_bytes_of_the_library(kind: Any, value: Any) -> None:
    expected = io.BytesIO()
    fastavro.schemaless_writer(expected, fastavro.parse_schema(kind), value)
    found = bytearray()
    record_writer(kind)(found, value)
    assert bytes(found) == expected.getvalue()


def test_a_branch_says_which_kind_of_value_is_meant() -> None:
    kind = ["null", "int", "long", "string"]
    found = bytearray()
    record_writer(kind)(found, Branch(2, 7))
    assert fastavro.schemaless_reader(io.BytesIO(bytes(found)), kind, None) == 7
    assert found[0] == 4


def test_what_does_not_fit_is_refused() -> None:
    lacking = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}
    with pytest.raises(ValueError, match="record R lacks a"):
        record_writer(lacking)(bytearray(), {})
    with pytest.raises(ValueError, match="exceeds 64 bits"):
        record_writer("long")(bytearray(), 1 << 63)
    for value in (None, 7):
        with pytest.raises(ValueError, match="does not say of which type"):
            record_writer(["int", "string"])(bytearray(), value)
