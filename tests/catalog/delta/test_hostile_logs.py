"""Logs that are cut off, absurd or hostile: every one ends in an error of the catalog."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.delta.table import DeltaTable
from catalog.errors import CatalogError, CorruptTableError, LocationError
from catalog.location import Location
from catalog.model import Inventory
from tests.catalog.delta.logs import CHECKPOINT, PROTOCOL, HandWritten, add, metadata, remove

TABLE = metadata()


@pytest.fixture
def log(tmp_path: Path) -> HandWritten:
    return HandWritten(tmp_path)


def read(log: HandWritten) -> Inventory:
    table = DeltaTable("t", Location.parse(str(log.directory)), {})
    return table.inventory(table.snapshot())


def refused(log: HandWritten, match: str = ".") -> CorruptTableError:
    with pytest.raises(CorruptTableError, match=match) as caught:
        read(log)
    return caught.value


VECTOR = {
    "storageType": "u",
    "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k",
    "offset": 1,
    "sizeInBytes": 34,
    "cardinality": 2,
}


@pytest.mark.parametrize(
    "action",
    [
        {"add": {"path": "a", "partitionValues": {}}},
        {"add": {"size": 5}},
        {"add": {"path": None, "size": 5}},
        {"add": {"path": 5, "size": 5}},
        {"add": {"path": "a", "size": "5"}},
        {"add": {"path": "a", "size": -1}},
        {"add": {"path": "a", "size": 1.5}},
        {"add": {"path": "a", "size": 10**30}},
        {"add": [1, 2]},
        {"add": "a"},
        {"remove": {"size": 1}},
        {"add": {"path": "a", "size": 5}, "remove": {"path": "a"}},
        add("a", baseRowId=-1),
        add("a", deletionVector={**VECTOR, "storageType": "x"}),
        add("a", deletionVector={**VECTOR, "pathOrInlineDv": None}),
        add("a", deletionVector={**VECTOR, "offset": None}),
        add("a", deletionVector={**VECTOR, "cardinality": -1}),
        add("a", deletionVector={**VECTOR, "cardinality": None}),
        add("a", deletionVector={**VECTOR, "sizeInBytes": -5}),
        {"metaData": {"id": 5}},
        {"metaData": {**TABLE["metaData"], "partitionColumns": [3]}},
        {"protocol": {"minReaderVersion": "1", "minWriterVersion": 2}},
        {"protocol": {}},
        {"txn": {"appId": "a"}},
        {"domainMetadata": {"configuration": "x"}},
        [1],
        "text",
        5,
    ],
)
def test_malformed_actions(log: HandWritten, action: Any) -> None:
    log.commit(0, PROTOCOL, TABLE, action)
    refused(log)


@pytest.mark.parametrize("facts", [[], [PROTOCOL], [TABLE]])
def test_a_log_without_protocol_or_metadata(log: HandWritten, facts: list[Any]) -> None:
    log.commit(0, *facts, add("a"))
    refused(log, "has no (protocol|metadata)")


def test_a_commit_that_is_empty(log: HandWritten) -> None:
    log.commit(0, PROTOCOL, TABLE)
    log.commit(1)
    refused(log, f"{1:020}.json is empty")


def test_a_commit_cut_off_anywhere(log: HandWritten) -> None:
    log.commit(0, PROTOCOL, TABLE)
    whole = log.commit(1, {"commitInfo": {"operation": "WRITE"}}, add("a"), remove("b"))
    data = whole.read_bytes()
    for length in range(1, len(data) - 1):
        whole.write_bytes(data[:length])
        if data[length - 1 : length] == b"\n" or data[length : length + 1] == b"\n":
            continue  # whole lines: nothing tells that others followed
        refused(log)


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b'{"add":{"path":"a\xff","size":1}}',
        b'{"commitInfo":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"add":{"path":"a","path":"b","size":1}}',
        b"{" * 100_000,
        b"null",
        b"\x00\x00\x00\x00",
    ],
)
def test_lines_that_are_no_json(log: HandWritten, line: bytes) -> None:
    log.commit(0, PROTOCOL, TABLE)
    log.commit(1).write_bytes(line + b"\n")
    refused(log, f"{1:020}.json")


def test_keys_that_are_written_in_another_way(log: HandWritten) -> None:
    log.commit(0, PROTOCOL, TABLE)
    escaped = json.dumps(add("b")).replace('"add"', '"\\u0061dd"')
    spaced = json.dumps(add("a")).replace("{", " { ", 1)
    log.commit(1).write_text(f"\r\n{spaced}\r\n\n{escaped}")
    assert read(log).file_count == 2


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(0, 2000), value=st.integers(0, 255))
def test_a_damaged_byte_never_escapes_as_another_error(
    log: HandWritten, at: int, value: int
) -> None:
    data = bytearray(log.commit(0, PROTOCOL, TABLE, add("k=1/a"), remove("b")).read_bytes())
    data[at % len(data)] = value
    log.commit(0).write_bytes(data)
    with suppress(CatalogError):
        read(log)


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "k=1/%2e%2e/%2e%2e/x", "s3://b/x"])
@pytest.mark.parametrize("form", ["commit", "checkpoint", "remove"])
def test_paths_that_lead_out(log: HandWritten, path: str, form: str) -> None:
    if form == "checkpoint":
        log.checkpoint(0, PROTOCOL, TABLE, add(path))
    else:
        log.commit(0, PROTOCOL, TABLE, add(path) if form == "commit" else remove(path))
    if form == "remove" and path.startswith(("s3://", "/")):
        assert read(log).file_count == 0  # a clone may have had files of another table
        return
    with pytest.raises(LocationError):
        read(log)


# --- checkpoints -------------------------------------------------------------------------------


def _without_add(path: Path) -> None:
    schema = pa.schema([field for field in CHECKPOINT if field.name != "add"])
    _rewrite(path, schema)


def _without_path(path: Path) -> None:
    add_type = pa.struct([one for one in CHECKPOINT.field("add").type if one.name != "path"])
    _rewrite(path, pa.schema([("add", add_type), *(CHECKPOINT.field(i) for i in range(1, 6))]))


def _with_numbers(path: Path) -> None:
    kinds = [pa.field(one.name, pa.string()) for one in CHECKPOINT.field("add").type]
    rows = [{"add": {"path": "a", "size": "many"}}]
    pq.write_table(pa.Table.from_pylist(rows, pa.schema([("add", pa.struct(kinds))])), path)


def _rewrite(path: Path, schema: pa.Schema) -> None:
    rows = [{name: row[name] for name in schema.names} for row in pq.read_table(path).to_pylist()]
    for row in rows:
        if row.get("add"):
            row["add"].pop("path")
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [_without_path, _with_numbers, _truncated, _damaged, _empty])
def test_spoilt_checkpoints(log: HandWritten, spoil: Callable[[Path], None]) -> None:
    (path,) = log.checkpoint(0, PROTOCOL, TABLE, add("a"), add("b"))
    spoil(path)
    refused(log)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damage=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1))
def test_a_damaged_checkpoint_never_escapes_as_another_error(
    log: HandWritten, damage: list[tuple[int, int]]
) -> None:
    vector = {**VECTOR, "storageType": "u"}
    (path,) = log.checkpoint(0, PROTOCOL, TABLE, add("a"), add("b", deletionVector=vector))
    data = bytearray(path.read_bytes())
    for at, value in damage:
        data[at % len(data)] = value
    path.write_bytes(data)
    with suppress(CatalogError):
        read(log)


def test_texts_in_checkpoints_that_are_none(log: HandWritten) -> None:
    said = "what is said here"
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    stats = json.dumps({"said": said, "numRecords": 3})
    one = add("k=1/a", rows=None, stats=stats, deletionVector=VECTOR)
    domain = {"domainMetadata": {"domain": "domain", "configuration": "x", "removed": False}}
    (path,) = log.checkpoint(0, PROTOCOL, TABLE, domain, one)
    pq.write_table(pq.read_table(path), path, **plain)
    data = path.read_bytes()

    path.write_bytes(data.replace(said.encode(), b"\xff" * len(said)))
    assert read(log).row_count == 3
    for text in ("k=1/a", "domain", VECTOR["pathOrInlineDv"]):
        path.write_bytes(data.replace(str(text).encode(), b"\xff" * len(str(text))))
        refused(log, "UTF-?8|cannot be read")


def test_a_checkpoint_without_files(log: HandWritten) -> None:
    (path,) = log.checkpoint(0, PROTOCOL, TABLE)
    _without_add(path)
    assert read(log).file_count == 0


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_sidecars_that_are_missing(log: HandWritten, form: str) -> None:
    log.v2_checkpoint(0, PROTOCOL, TABLE, add("a"), form=form)
    assert read(log).file_count == 1
    for path in (log.log / "_sidecars").iterdir():
        path.unlink()
    refused(log, "missing")


@pytest.mark.parametrize(
    ("sidecar", "error"),
    [
        ({"path": "../../outside.parquet", "sizeInBytes": 5}, LocationError),
        ({"path": "/etc/passwd", "sizeInBytes": 5}, LocationError),
        ({"path": "%2e%2e", "sizeInBytes": 5}, LocationError),
        ({"path": "a.parquet"}, CorruptTableError),
        ({"path": "a.parquet", "sizeInBytes": -5}, CorruptTableError),
        ({"path": "", "sizeInBytes": 5}, LocationError),
        ({"path": None, "sizeInBytes": 5}, CorruptTableError),
    ],
)
def test_sidecars_elsewhere(
    log: HandWritten, sidecar: dict[str, Any], error: type[CatalogError]
) -> None:
    name = f"{0:020}.checkpoint.3a0d65cd-4056-49b8-937b-95f9e3ee90e5.json"
    log.write(name, PROTOCOL, TABLE, {"sidecar": sidecar})
    with pytest.raises(error):
        read(log)


def test_a_sidecar_may_be_named_absolutely(log: HandWritten) -> None:
    log.v2_checkpoint(0, PROTOCOL, TABLE, add("a"), form="json", sidecars=1)
    (top,) = log.log.glob("*.checkpoint.*.json")
    (sidecar,) = (log.log / "_sidecars").iterdir()
    top.write_text(top.read_text().replace(f'"{sidecar.name}"', f'"file://{sidecar}"'))
    assert read(log).file_count == 1


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"version": 99}', '{"version": -1, "parts": 9}'])
def test_the_hint_of_the_last_checkpoint_may_be_wrong(log: HandWritten, text: str) -> None:
    log.checkpoint(0, PROTOCOL, TABLE, add("a"))
    log.commit(1, add("b"))
    (log.log / "_last_checkpoint").write_text(text)
    assert read(log).file_count == 2
