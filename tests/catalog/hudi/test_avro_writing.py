"""What we write as Avro is read by Avro's own library, and is the same as what it writes."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest

from catalog.hudi.avro_container import read_records
from catalog.hudi.avro_schemas import Kind, schema, schema_text
from catalog.hudi.avro_writing import Branch, container, writer

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
    writer(schema(kind))


def test_a_container_is_read_by_others() -> None:
    data = container(Kind.COMPACTION_PLAN, [PLAN])

    (theirs,) = fastavro.reader(io.BytesIO(data))
    (ours,) = read_records("plan", data)
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
    writer(kind)(value, found)
    assert bytes(found) == expected.getvalue()


def test_a_branch_says_which_kind_of_value_is_meant() -> None:
    kind = ["null", "int", "long", "string"]
    found = bytearray()
    writer(kind)(Branch(2, 7), found)
    assert fastavro.schemaless_reader(io.BytesIO(bytes(found)), kind, None) == 7
    assert found[0] == 4


def test_what_does_not_fit_is_refused() -> None:
    lacking = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}
    with pytest.raises(ValueError, match="record R lacks a"):
        writer(lacking)({}, bytearray())
    with pytest.raises(ValueError, match="exceeds 64 bits"):
        writer("long")(1 << 63, bytearray())
    with pytest.raises(ValueError, match="may not be null"):
        writer(["int", "string"])(None, bytearray())
