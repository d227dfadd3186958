"""Manifests and their lists go through our codec without a loss, whoever wrote them."""

from __future__ import annotations

import json
import string
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.manifest import ManifestContent, ManifestEntryStatus
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema

from catalog.avro.container import AvroFile
from catalog.avro.container_writing import Container
from catalog.avro.read import reader
from catalog.avro.schema import defined_once, encoding_of, spelled_out
from catalog.avro.write import writer
from catalog.errors import CorruptTableError
from catalog.iceberg.entries import decoding
from catalog.iceberg.manifest_entries import Entry, Layout, read_entries
from catalog.iceberg.manifest_lists import (
    ListedManifest,
    ListHeader,
    read_manifest_list,
    with_row_ids,
    write_manifest_list,
)
from catalog.iceberg.manifest_writing import ManifestForm, begin

FIXTURES = Path(__file__).parent.parent.parent / "fixtures" / "manifests"
NAMES = ("v1/data", "v2/data", "v2/deletes", "v3/data", "v3/deletes")
# What is deprecated is not written any more.
RETIRED = {"block_size_in_bytes", "distinct_counts"}

_LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "bytes": st.binary(max_size=20),
    "string": st.text(max_size=20),
}


def _wrapped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Strategies of (schema, strategy of values) around other ones."""
    return st.one_of(
        inner.map(lambda one: (["null", one[0]], st.none() | one[1])),
        inner.map(lambda one: ({"type": "array", "items": one[0]}, st.lists(one[1], max_size=4))),
        inner.map(lambda one: (_map_of(one[0]), st.dictionaries(_LEAVES["int"], one[1]))),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda some: (_record_of([one[0] for one in some]), st.tuples(*(o[1] for o in some)))
        ),
    )


def _record_of(kinds: list[Any]) -> dict[str, Any]:
    fields = [{"name": f"f{at}", "type": kind} for at, kind in enumerate(kinds)]
    return {"type": "record", "name": f"r{abs(hash(json.dumps(kinds)))}", "fields": fields}


def _map_of(value: Any) -> dict[str, Any]:
    pair = _record_of(["int", value])
    return {"type": "array", "items": pair, "logicalType": "map"}


def _is_plain(pair: Any) -> bool:
    return not isinstance(pair[0], list)


LEAVES = st.sampled_from(sorted(_LEAVES)).map(lambda name: (name, _LEAVES[name]))
TYPES = LEAVES | _wrapped(LEAVES) | _wrapped(_wrapped(LEAVES).filter(_is_plain))


@given(TYPES.flatmap(lambda pair: st.tuples(st.just(pair[0]), pair[1])))
def test_values_come_back(pair: tuple[Any, Any]) -> None:
    kind, value = pair
    out = bytearray(b"before")
    writer(kind)(out, value)
    assert reader(kind)(bytes(out), 6) == (value, len(out))


@given(st.lists(st.text(string.printable), max_size=200), st.sampled_from(["null", "deflate"]))
def test_files_are_read_by_another_implementation(texts: list[str], codec: str) -> None:
    record = {"type": "record", "name": "r", "fields": [{"name": "a", "type": "string"}]}
    file = Container(record, {"hello": "world"}, codec)
    write = writer(record)
    for text in texts:
        out = bytearray()
        write(out, (text,))
        file.append(out)
    found = fastavro.reader(BytesIO(file.finish()))
    assert found.metadata["hello"] == "world"
    assert [one["a"] for one in found] == texts


def test_large_files_have_many_blocks_in_every_codec() -> None:
    record = {"type": "record", "name": "r", "fields": [{"name": "a", "type": "bytes"}]}
    for codec in ("null", "deflate", "zstandard"):
        file = Container(record, {}, codec)
        for number in range(300):
            out = bytearray()
            writer(record)(out, (bytes([number % 256]) * 1000,))
            file.append(out)
        parsed = AvroFile.parse("f", file.finish())
        found = [one[0] for one in parsed.encoded(record["fields"])]
        assert [len(one) for one in found] == [1002] * 300


def test_names_stand_for_the_types_that_they_were_given_to() -> None:
    fixed = {"type": "fixed", "name": "decimal_9_2", "size": 4}
    twice = {
        "type": "record",
        "name": "r",
        "fields": [{"name": "a", "type": ["null", fixed]}, {"name": "b", "type": fixed}],
    }
    named = defined_once(twice)
    assert named["fields"][1]["type"] == "decimal_9_2"
    assert spelled_out(named) == twice
    assert encoding_of(spelled_out(named)) == encoding_of(twice)


def _fixture(name: str) -> AvroFile:
    return AvroFile.parse(name, (FIXTURES / f"{name}.avro").read_bytes())


def _records(data: bytes) -> list[dict[str, Any]]:
    return list(fastavro.reader(BytesIO(data)))


def _row(name: str) -> ListedManifest:
    """Return the row of a manifest in the list at its side."""
    version, kind = name.split("/")
    content = ManifestContent.DELETES if kind == "deletes" else ManifestContent.DATA
    rows = read_manifest_list(_fixture(f"{version}/list"))
    return next(one for one in rows if one.content == content)


def _entries(name: str) -> list[Entry]:
    return list(read_entries(_fixture(name), _row(name), with_deleted=True))


def _form(name: str, version: int) -> ManifestForm:
    header = fastavro.reader(BytesIO((FIXTURES / f"{name}.avro").read_bytes())).metadata
    fields = json.loads(header["partition-spec"])
    spec = PartitionSpec.model_validate({"spec-id": 0, "fields": fields})
    content = ManifestContent.DELETES if name.endswith("deletes") else ManifestContent.DATA
    schema = Schema.model_validate_json(header["schema"])
    return ManifestForm(version, spec, schema, content, 5, "deflate")


def _written(name: str, version: int, entries: list[Entry]) -> tuple[bytes, ListedManifest]:
    making = begin(_form(name, version), entries)
    for entry in entries:
        making.add(entry)
    return making.finish("there")


def _file_of(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record["data_file"].items() if key not in RETIRED}


@pytest.mark.parametrize("name", NAMES)
def test_what_spark_wrote_is_written_again_with_every_field(name: str) -> None:
    version = int(name[1])
    before = _records((FIXTURES / f"{name}.avro").read_bytes())
    content, listed = _written(name, version, _entries(name))
    after = _records(content)
    assert len(after) == len(before) > 0
    for new, old in zip(after, before, strict=True):
        found, expected = _file_of(new), _file_of(old)
        if version == 3 and not name.endswith("deletes"):
            # What was inherited is now its own.
            assert found.pop("first_row_id") is not None
            assert expected.pop("first_row_id") is None
        assert {key: value for key, value in found.items() if key in expected} == expected
        assert not any(value for key, value in found.items() if key not in expected)
    row = _row(name)
    assert listed.partitions is not None
    for found, expected in zip(listed.partitions, row.partitions or [], strict=True):
        assert (found.lower_bound, found.upper_bound, found.contains_null) == (
            expected.lower_bound, expected.upper_bound, expected.contains_null,
        )  # fmt: skip


@pytest.mark.parametrize("name", NAMES[:3])
def test_manifests_of_older_versions_are_written_in_newer_ones(name: str) -> None:
    before = _records((FIXTURES / f"{name}.avro").read_bytes())
    content, _ = _written(name, 3, _entries(name))
    for new, old in zip(_records(content), before, strict=True):
        expected = _file_of(old)
        assert {key: new["data_file"][key] for key in expected} == expected
        assert (new["snapshot_id"], new["data_file"]["first_row_id"]) == (old["snapshot_id"], None)


@pytest.mark.parametrize("name", NAMES)
def test_entries_tell_their_files(name: str) -> None:
    before = _records((FIXTURES / f"{name}.avro").read_bytes())
    for entry, old in zip(_entries(name), before, strict=True):
        file, expected = entry.data_file, old["data_file"]
        assert (file.file_path, file.record_count) == (expected["file_path"], entry.row_count)
        assert file.file_format.value == expected["file_format"]
        assert file.partition[3] == 0.1  # a double that is no float
        assert [str(file.partition[at]) for at in (1, 2)] == ["1.50", "-2.25"]
        lower = {one["key"]: one["value"] for one in expected["lower_bounds"] or []}
        assert (file.lower_bounds or {}) == lower
        assert file.referenced_data_file == expected.get("referenced_data_file")
        assert entry.without_metrics().data_file.lower_bounds is None
    assert len({entry.name for entry in _entries(name)}) == len(before)


@given(st.sampled_from(NAMES), st.data())
def test_damaged_manifests_are_called_that(name: str, data: st.DataObject) -> None:
    file = _fixture(name)
    plain = Container(file.schema, {}, "null")
    begin_of_blocks = len(plain.finish())
    for encoded in file.encoded(Layout.of(file.schema).fields):
        plain.append(b"".join(encoded))
    content = bytearray(plain.finish())
    at = data.draw(st.integers(begin_of_blocks, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    found: list[Entry] = []
    with suppress(CorruptTableError), decoding(name):
        found += read_entries(AvroFile.parse(name, bytes(content)), _row(name))
    with suppress(CorruptTableError):
        for entry in found:
            assert entry.data_file.record_count == entry.row_count
            assert entry.name
            assert entry.without_metrics().data_file.lower_bounds is None


def test_fields_that_nobody_knows_are_kept() -> None:
    file = _fixture("v3/data")
    schema = json.loads(json.dumps(file.schema))
    inner = next(one for one in schema["fields"] if one["field-id"] == 2)["type"]["fields"]
    unknown = {"type": "record", "name": "u", "fields": [{"name": "x", "type": "long"}]}
    inner.insert(3, {"name": "later", "field-id": 4711, "type": ["null", unknown]})
    schema["fields"].append({"name": "outer", "field-id": 4712, "type": ["null", "string"]})
    records = _records((FIXTURES / "v3/data.avro").read_bytes())
    for one in records:
        one["outer"] = "kept"
        one["data_file"]["later"] = {"x": 7}
    sink = BytesIO()
    fastavro.writer(sink, defined_once(schema), records)
    parsed = AvroFile.parse("f", sink.getvalue())
    entries = list(read_entries(parsed, _row("v3/data")))
    # Beside others that do not have them.
    content, _ = _written("v3/data", 3, [*entries, *_entries("v3/data")])
    found = [(one["outer"], one["data_file"]["later"]) for one in _records(content)]
    half = len(found) // 2
    assert found == [("kept", {"x": 7})] * half + [(None, None)] * half


@pytest.mark.parametrize("version", [1, 2, 3])
def test_manifest_lists_are_written_again_with_every_field(version: int) -> None:
    data = (FIXTURES / f"v{version}" / "list.avro").read_bytes()
    rows = read_manifest_list(AvroFile.parse("list", data))
    header = ListHeader(version, 5, None, 9, 100)
    again = write_manifest_list(header, rows, codec="null")
    assert _records(again) == _records(data)
    metadata = fastavro.reader(BytesIO(again)).metadata
    assert metadata["parent-snapshot-id"] == "null"
    assert metadata.get("first-row-id") == ("100" if version == 3 else None)


def test_fields_of_lists_that_nobody_knows_are_kept() -> None:
    data = (FIXTURES / "v3" / "list.avro").read_bytes()
    schema = json.loads(json.dumps(AvroFile.parse("list", data).schema))
    schema["fields"].append({"name": "later", "field-id": 4711, "type": ["null", "string"]})
    records = [{**one, "later": "kept"} for one in _records(data)]
    sink = BytesIO()
    fastavro.writer(sink, defined_once(schema), records)
    rows = read_manifest_list(AvroFile.parse("list", sink.getvalue()))
    _, new = _written("v3/data", 3, _entries("v3/data"))
    again = write_manifest_list(ListHeader(3, 5, None, 9, 0), [*rows, new], codec="deflate")
    assert [one["later"] for one in _records(again)] == ["kept"] * len(rows) + [None]
    assert _records(again)[-1]["sequence_number"] == 9


def test_rows_without_ids_are_given_the_next_ones() -> None:
    """Of files that were there before, too; deletes have none, and what has ids keeps them."""
    rows = read_manifest_list(_fixture("v3/list"))
    _, new = _written("v3/data", 3, _entries("v3/data"))
    existing = [replace(one, status=ManifestEntryStatus.EXISTING) for one in _entries("v2/data")]
    _, old = _written("v2/data", 3, existing)
    given, following = with_row_ids([new, *rows, old], 1000)
    assert [one.first_row_id for one in given[1:-1]] == [one.first_row_id for one in rows]
    assert (given[0].first_row_id, given[-1].first_row_id) == (1000, 1020)
    assert following == 1040
    assert new.first_row_id is None  # what another attempt begins with


def test_first_row_ids_follow_the_rows_before() -> None:
    entries = _entries("v3/data")
    ids = [one.first_row_id for one in entries]
    rows = [one.row_count for one in entries]
    assert ids == [sum(rows[:at]) for at in range(len(rows))]
