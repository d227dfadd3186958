"""Avro files: what another writer wrote is read, and what is broken is refused."""

from __future__ import annotations

import bz2
import io
import zlib
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.avro.container import AvroFile, decode_record
from catalog.errors import CorruptTableError


def _field(field_id: int, name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "field-id": field_id, "type": kind}


def _pairs(name: str, value: str) -> dict[str, Any]:
    fields = [_field(7, "key", "int"), _field(8, "value", value)]
    items = {"type": "record", "name": name, "fields": fields}
    return {"type": "array", "logicalType": "map", "items": items}


def _record(name: str, *fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


SCHEMA = _record(
    "entry",
    _field(0, "status", "int"),
    _field(1, "snapshot", ["null", "long"]),
    _field(
        2,
        "data_file",
        _record(
            "data_file",
            _field(100, "path", "string"),
            _field(102, "partition", _record("p", _field(1000, "k", ["null", "string"]))),
            _field(108, "sizes", ["null", _pairs("sizes_pair", "long")]),
            _field(125, "lower", ["null", _pairs("lower_pair", "bytes")]),
            _field(132, "offsets", ["null", {"type": "array", "items": "long"}]),
            _field(3, "ratio", "double"),
            _field(4, "fraction", "float"),
            _field(5, "flag", "boolean"),
            _field(6, "tag", {"type": "fixed", "name": "tag", "size": 3}),
            _field(9, "names", {"type": "map", "values": "string"}),
            _field(103, "rows", "long"),
        ),
    ),
)
LONGS = st.integers(-(2**63), 2**63 - 1)
INTS = st.integers(-(2**31), 2**31 - 1)


def _map_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = st.lists(st.fixed_dictionaries({"key": INTS, "value": values}), max_size=5)
    return st.none() | pairs


ENTRIES = st.lists(
    st.fixed_dictionaries(
        {
            "status": st.integers(0, 2),
            "snapshot": st.none() | LONGS,
            "data_file": st.fixed_dictionaries(
                {
                    "path": st.text(max_size=200),
                    "partition": st.fixed_dictionaries({"k": st.none() | st.text(max_size=5)}),
                    "sizes": _map_of(LONGS),
                    "lower": _map_of(st.binary(max_size=100)),
                    "offsets": st.none() | st.lists(LONGS, max_size=3),
                    "ratio": st.floats(allow_nan=False),
                    "fraction": st.floats(width=32, allow_nan=False),
                    "flag": st.booleans(),
                    "tag": st.binary(min_size=3, max_size=3),
                    "names": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
                    "rows": LONGS,
                }
            ),
        }
    ),
    max_size=8,
)
LEAVES = {
    100: "path",
    108: "sizes",
    125: "lower",
    132: "offsets",
    3: "ratio",
    4: "fraction",
    5: "flag",
    6: "tag",
    9: "names",
    103: "rows",
}


def _write(entries: list[Any], codec: str = "null", interval: int = 100) -> bytes:
    sink = io.BytesIO()
    fastavro.writer(sink, SCHEMA, entries, codec=codec, sync_interval=interval)
    return sink.getvalue()


def _plain(value: Any) -> Any:
    """Pairs of an int-keyed map as the dictionary they stand for."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {pair["key"]: pair["value"] for pair in value}
    return value


@given(ENTRIES, st.sampled_from(["null", "deflate", "bzip2"]), st.sets(st.sampled_from([*LEAVES])))
def test_wanted_fields_are_decoded_and_the_others_stepped_over(
    entries: list[Any], codec: str, wanted: set[int]
) -> None:
    file = AvroFile.parse("m", _write(entries, codec))
    columns = file.columns({1, *wanted}, raw=102)

    assert columns[1] == [entry["snapshot"] for entry in entries]
    for field_id in wanted:
        expected = [_plain(entry["data_file"][LEAVES[field_id]]) for entry in entries]
        assert [one or None for one in columns[field_id]] == [one or None for one in expected]
    partition = file.record_type(102)
    assert [decode_record("m", partition, raw) for raw in columns[102]] == [
        {1000: entry["data_file"]["partition"]["k"]} for entry in entries
    ]


@given(ENTRIES.filter(len), st.data())
def test_a_damaged_file_is_refused_or_read_and_nothing_else(
    entries: list[Any], data: st.DataObject
) -> None:
    whole = bytearray(_write(entries))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    damaged = bytes(whole)[: data.draw(st.integers(0, len(whole)))]
    try:
        file = AvroFile.parse("m", damaged)
        file.columns({0, 1, *LEAVES}, raw=102)
        file.columns({1})
    except CorruptTableError:
        pass


@pytest.mark.parametrize("codec", ["snappy", "zstandard"])
def test_blocks_of_other_codecs(codec: str) -> None:
    entry = {"status": 1, "snapshot": 5}
    schema = _record("e", _field(0, "status", "int"), _field(1, "snapshot", "long"))
    sink = io.BytesIO()
    fastavro.writer(sink, schema, [entry] * 100)
    plain = sink.getvalue()
    block = bytes([2, 10]) * 100
    packed = pa.Codec("snappy" if codec == "snappy" else "zstd").compress(block, asbytes=True)
    if codec == "snappy":
        packed += zlib.crc32(block).to_bytes(4, "big")
    head = plain[: plain.rindex(block) - 4].replace(b"null", codec.encode(), 1)
    head = head.replace(b"\x14avro.codec\x08", b"\x14avro.codec" + bytes([len(codec) * 2]))
    sync = plain[-16:]
    file = AvroFile.parse("m", head + _long(100) + _long(len(packed)) + packed + sync)

    assert file.columns({0, 1}) == {0: [1] * 100, 1: [5] * 100}


def _long(value: int) -> bytes:
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_runs_that_state_their_size_are_jumped_over() -> None:
    schema = _record(
        "e", _field(1, "a", {"type": "array", "items": "string"}), _field(2, "b", "int")
    )
    file = AvroFile("m", schema, b"", "null", 0)
    # Two strings in a run of five bytes: -2, 5, "x", "yz"; end; then the number 7.
    block = bytes([3, 10, 2, *b"x", 4, *b"yz", 0, 14])
    sync = bytes(16)
    data = sync + _long(1) + _long(len(block)) + block + sync
    file = AvroFile("m", schema, data, "null", 16)

    assert file.columns({2}) == {2: [7]}
    assert file.columns({1, 2}) == {1: [["x", "yz"]], 2: [7]}


def test_a_block_that_inflates_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalog.avro.container._BLOCK_BYTES_MAX", 1000)
    schema = _record("e", _field(0, "status", "int"))
    sync = bytes(16)
    deflater = zlib.compressobj(wbits=-15)
    packed = {
        "deflate": deflater.compress(bytes(5000)) + deflater.flush(),
        "bzip2": bz2.compress(bytes(5000)),
        "snappy": pa.Codec("snappy").compress(bytes(5000), asbytes=True) + bytes(4),
        "zstandard": pa.Codec("zstd").compress(bytes(5000), asbytes=True),
    }
    for codec, block in packed.items():
        data = sync + _long(5000) + _long(len(block)) + block + sync
        with pytest.raises(CorruptTableError):
            AvroFile("m", schema, data, codec, 16).columns({0})


@pytest.mark.parametrize("data", [b"", b"PAR1", b"Obj\x01", b"Obj\x01\x02\x02a"])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptTableError):
        AvroFile.parse("m", data)
