"""Schemas of tables are read as far as anybody could hold what they describe."""

import json

import pytest

from catalog.avro.container import MAGIC, AvroFile
from catalog.errors import CorruptTableError
from catalog.hudi.schema import parse_avro, table_schema


def record(kind, name="r"):
    return {"type": "record", "name": name, "fields": [{"name": "a", "type": kind}]}


def doubled(times):
    found = record("long", "r0")
    for number in range(1, times):
        again = {"name": "b", "type": f"r{number - 1}"}
        found = record(found, f"r{number}")
        found["fields"].append(again)
    return found


def nested(depth):
    return '{"type":"array","items":' * depth + '"long"' + "}" * depth


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(doubled(40)),
        json.dumps(record("?")).replace('"?"', nested(120)),
        json.dumps(record("?")).replace('"?"', nested(5000)),
    ],
)
def test_schemas_that_nobody_could_hold_are_damaged_ones(text):
    with pytest.raises(CorruptTableError, match="does not parse"):
        parse_avro(text)


def test_deep_schemas_are_read():
    text = json.dumps(record("?")).replace('"?"', nested(20))
    assert table_schema(text, has_meta_columns=False).arrow.names == ["a"]


def test_instants_with_a_bottomless_schema_are_damaged_ones():
    schema = nested(5000).encode()
    # Twice the length, low bits first, seven in each byte.
    length, size = bytearray(), 2 * len(schema)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    header = b"\x02\x16avro.schema" + bytes(length) + bytes([size]) + schema + b"\x00"
    data = MAGIC + header + bytes(16) + b"\x02\x02\x02" + bytes(16)
    with pytest.raises(CorruptTableError, match="does not decode"):
        AvroFile.parse("1.commit", data)
