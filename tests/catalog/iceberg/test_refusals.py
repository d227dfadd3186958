"""What is not handled is refused by name, before a file is read or written."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import UnknownTransform
from pyiceberg.typedef import Record
from pyiceberg.types import (
    LongType,
    NestedField,
    StructType,
    TimestampNanoType,
    UnknownType,
)

from catalog.errors import (
    CatalogError,
    CorruptTableError,
    LocationError,
    ObjectNotFoundError,
    UnsupportedTableError,
)
from catalog.iceberg.metadata import refuse_unsupported
from catalog.iceberg.schema import arrow_schema
from catalog.model import Inventory
from catalog.open import open_table
from tests.iceberg_tables import (
    catalog_properties,
    commit_deletes,
    data_files,
    delete_positions,
    make_table,
    write_equality_deletes,
    write_position_deletes,
)

SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("k", pa.string())])
ROWS = pa.table({"id": [1, 2, 3], "k": ["a", "b", "c"]}, schema=SCHEMA)


def _table(directory: Path, properties: dict[str, str] | None = None) -> Table:
    table = make_table(directory, SCHEMA, properties=properties)
    table.append(ROWS)
    return table


def _refusal(directory: Path, kind: type[CatalogError] = UnsupportedTableError) -> str:
    """Open and inventory the table; return what the refusal says."""
    with pytest.raises(kind) as caught:
        _read(directory)
    if kind is UnsupportedTableError and "property" not in str(caught.value):
        assert caught.value.hint, "a refusal says what to do"
    return str(caught.value)


def _read(directory: Path) -> Inventory:
    opened = open_table("lake.ns.t", catalog_properties(directory))
    snapshot = opened.snapshot()
    opened.files(snapshot)
    return opened.inventory(snapshot)


def _edit_metadata(table: Table, changes: dict[str, Any]) -> None:
    """Change the metadata file in place, to what the library itself would not write."""
    path = Path(table.metadata_location.removeprefix("file://"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _data_file(table: Table, **changes: Any) -> DataFile:
    """A data file that exists in metadata only."""
    facts: dict[str, Any] = {
        "content": DataFileContent.DATA,
        "file_path": f"{table.location()}/data/{uuid.uuid4()}.parquet",
        "file_format": FileFormat.PARQUET,
        "partition": Record(),
        "record_count": 1,
        "file_size_in_bytes": 100,
    }
    file = DataFile.from_args(**{**facts, **changes})
    file.spec_id = table.spec().spec_id
    return file


def _append(table: Table, **changes: Any) -> None:
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        append.append_data_file(_data_file(table, **changes))


@pytest.mark.parametrize("name", ["file_path", "record_count", "file_size_in_bytes"])
def test_entries_without_a_value_that_every_file_has(tmp_path: Path, name: str) -> None:
    table = _table(tmp_path)
    (manifest,) = table.current_snapshot().manifests(table.io)
    path = Path(manifest.manifest_path.removeprefix("file://"))
    with path.open("rb") as file:
        reader = fastavro.reader(file)
        schema, entries = reader.writer_schema, list(reader)
    parts = {field["name"]: field["type"] for field in schema["fields"]}
    (field,) = (field for field in parts["data_file"]["fields"] if field["name"] == name)
    field["type"] = ["null", field["type"]]
    entries[0]["data_file"][name] = None
    with path.open("wb") as file:
        fastavro.writer(file, schema, entries)

    assert f"without a value of field {field['field-id']}" in _refusal(tmp_path, CorruptTableError)


def test_format_version_3_without_row_ids(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    _edit_metadata(table, {"format-version": 3})

    assert "next-row-id" in _refusal(tmp_path, CorruptTableError)


def test_later_format_versions(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    _edit_metadata(table, {"format-version": 9})

    assert "format version 9" in _refusal(tmp_path)


@pytest.mark.parametrize("kind", ["variant", "geometry"])
def test_column_types_of_version_3(tmp_path: Path, kind: str) -> None:
    table = make_table(tmp_path, SCHEMA)
    field = {"id": 1, "name": "v", "required": False, "type": kind}
    schema = {"type": "struct", "schema-id": 0, "fields": [field]}
    _edit_metadata(table, {"format-version": 3, "next-row-id": 0, "schemas": [schema]})

    assert f"columns of type {kind}" in _refusal(tmp_path)


def test_equality_deletes_by_a_field_that_is_no_plain_column(tmp_path: Path) -> None:
    table = _table(tmp_path)
    deletes = write_equality_deletes(table, "id", [2])
    deletes[14] = [99]
    commit_deletes(table, deletes)

    assert "by the field 99" in _refusal(tmp_path)


def test_puffin_files_that_are_no_deletion_vectors(tmp_path: Path) -> None:
    table = _table(tmp_path)
    (file,) = data_files(table)
    deletes = write_position_deletes(table, {file.file_path: [0]}, like=file)
    deletes[2] = FileFormat.PUFFIN
    commit_deletes(table, deletes)

    assert "PUFFIN files" in _refusal(tmp_path)


@pytest.mark.parametrize("name", ["ORC", "AVRO"])
def test_other_file_formats(tmp_path: Path, name: str) -> None:
    _append(_table(tmp_path), file_format=FileFormat[name])

    assert f"{name} files" in _refusal(tmp_path)


def test_encrypted_files(tmp_path: Path) -> None:
    _append(_table(tmp_path), key_metadata=b"key")

    assert "encrypted files" in _refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encryption.key-id", "k1"),
        ("write.location-provider.impl", "com.example.Provider"),
        ("write.py-location-provider.impl", "example.Provider"),
        ("write.format.default", "orc"),
        ("write.parquet.compression-codec", "lzo"),
        ("write.target-file-size-bytes", "0"),
        ("write.parquet.page-size-bytes", "large"),
        ("write.parquet.compression-level", "best"),
    ],
)
def test_properties_that_cannot_be_followed(tmp_path: Path, name: str, value: str) -> None:
    _edit_metadata(make_table(tmp_path, SCHEMA), {"properties": {name: value}})
    message = _refusal(tmp_path)

    assert name in message or value in message


@pytest.mark.parametrize("text", ["{", '{"names": ["a"]}', "[1]", '[{"field-id": 1}]'])
def test_malformed_name_mapping(tmp_path: Path, text: str) -> None:
    make_table(tmp_path, SCHEMA, properties={"schema.name-mapping.default": text})

    assert "schema.name-mapping.default" in _refusal(tmp_path, CorruptTableError)


@pytest.mark.parametrize(
    "properties", [{"s3.remote-signing-enabled": "true"}, {"s3.signer": "S3V4RestSigner"}]
)
def test_catalogs_that_sign_each_request(tmp_path: Path, properties: dict[str, str]) -> None:
    make_table(tmp_path, SCHEMA)

    with pytest.raises(UnsupportedTableError, match="signs the requests"):
        open_table("lake.ns.t", {**catalog_properties(tmp_path), **properties})


def test_metadata_without_its_current_snapshot(tmp_path: Path) -> None:
    _edit_metadata(_table(tmp_path), {"current-snapshot-id": 77, "refs": {}})
    assert "77" in _refusal(tmp_path, CorruptTableError)


def test_sequence_numbers_that_are_still_to_be_given_out(tmp_path: Path) -> None:
    # Deletes of the next snapshots would not apply to files with the number of this one.
    _edit_metadata(_table(tmp_path), {"last-sequence-number": 0})
    assert "sequence number 1" in _refusal(tmp_path, CorruptTableError)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_history_that_goes_round(tmp_path: Path, steps: int) -> None:
    table = _table(tmp_path)
    table.append(ROWS)
    snapshots = json.loads(table.metadata.model_dump_json())["snapshots"]
    snapshots[0]["parent-snapshot-id"] = snapshots[steps - 1]["snapshot-id"]
    _edit_metadata(table, {"snapshots": snapshots})
    assert "its own ancestors" in _refusal(tmp_path, CorruptTableError)


def test_metadata_that_cannot_be_read(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    _edit_metadata(table, {"current-schema-id": 77})
    _refusal(tmp_path, CorruptTableError)
    path = Path(table.metadata_location.removeprefix("file://"))
    path.write_bytes(b"{")
    _refusal(tmp_path, CorruptTableError)
    path.unlink()
    assert "metadata.json" in _refusal(tmp_path, ObjectNotFoundError)


def test_unknown_transforms(tmp_path: Path) -> None:
    metadata = make_table(tmp_path, SCHEMA).metadata
    field = PartitionField(1, 1000, UnknownTransform("zigzag[4]"), "z")
    odd = metadata.model_copy(update={"partition_specs": [PartitionSpec(field, spec_id=1)]})

    with pytest.raises(UnsupportedTableError, match="unknown transform"):
        refuse_unsupported(odd)


def test_defaults_within_columns() -> None:
    default = NestedField(2, "x", LongType(), initial_default=5)
    inner = Schema(NestedField(1, "s", StructType(default)))

    with pytest.raises(UnsupportedTableError, match="default value"):
        arrow_schema(inner)


def test_nanoseconds_are_kept_and_what_holds_nothing_is_left_out() -> None:
    columns = Schema(NestedField(1, "at", TimestampNanoType()), NestedField(2, "u", UnknownType()))

    assert [(one.name, one.type) for one in arrow_schema(columns)] == [("at", pa.timestamp("ns"))]


@pytest.mark.parametrize(
    "path",
    [
        "file:///etc/passwd",
        "{table}-other/data/x.parquet",
        "{table}/data/../../../secret.parquet",
        "{table}/data/%2e%2e/x.parquet",
        "s3://elsewhere/x.parquet",
        "data/x.parquet",
        "",
    ],
)
def test_files_outside_of_the_table(tmp_path: Path, path: str) -> None:
    table = _table(tmp_path)
    _append(table, file_path=path.format(table=table.location()))

    assert "refused location" in _refusal(tmp_path, LocationError)


def test_odd_names_inside_of_the_table_are_welcome(tmp_path: Path) -> None:
    table = _table(tmp_path, {"write.data.path": f"file://{tmp_path}/elsewhere"})
    for name in ("day=2026-11-20/a b.parquet", "k=%C3%A9/ü.parquet", "k=a%2Fb/.x.parquet"):
        _append(table, file_path=f"file://{tmp_path}/elsewhere/{name}")
        _append(table, file_path=f"{table.location()}/data/{name}")

    assert _read(tmp_path).file_count == 7


def test_delete_files_outside_of_the_table(tmp_path: Path) -> None:
    table = _table(tmp_path)
    (file,) = data_files(table)
    deletes = write_position_deletes(table, {file.file_path: [0]}, like=file)
    deletes[1] = "file:///etc/passwd"
    commit_deletes(table, deletes)

    assert "refused location" in _refusal(tmp_path, LocationError)


def test_a_manifest_that_is_no_manifest(tmp_path: Path) -> None:
    table = _table(tmp_path)
    head = table.current_snapshot()
    assert head is not None
    (manifest,) = head.manifests(table.io)
    path = Path(manifest.manifest_path.removeprefix("file://"))
    whole = path.read_bytes()
    list_path = Path(head.manifest_list.removeprefix("file://"))
    for damaged in (b"", whole[:-30], b"x" + whole, list_path.read_bytes()):
        path.write_bytes(damaged)
        _refusal(tmp_path, CorruptTableError)
    path.write_bytes(whole)
    list_path.write_bytes(whole)
    _refusal(tmp_path, CorruptTableError)


@pytest.mark.parametrize("is_delete", [False, True])
def test_files_of_another_kind_than_their_manifest(tmp_path: Path, is_delete: bool) -> None:
    table = _table(tmp_path)
    if is_delete:
        commit_deletes(table, write_equality_deletes(table, "id", [2]))
    head = table.refresh().current_snapshot()
    assert head is not None
    (manifest,) = (one for one in head.manifests(table.io) if (one.content == 1) == is_delete)
    path = Path(manifest.manifest_path.removeprefix("file://"))
    with path.open("rb") as file:
        reader = fastavro.reader(file)
        schema, entries = reader.writer_schema, list(reader)
    entries[0]["data_file"]["content"] = 0 if is_delete else 1
    with path.open("wb") as file:
        fastavro.writer(file, schema, entries)
    assert "of another kind than its list says" in _refusal(tmp_path, CorruptTableError)


def test_a_manifest_that_lost_its_end_at_a_block(tmp_path: Path) -> None:
    table = _table(tmp_path)
    files = [f"{table.location()}/data/{name}.parquet" for name in "abc"]
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for path in files:
            append.append_data_file(_data_file(table, file_path=path))
    head = table.current_snapshot()
    assert head is not None
    path = Path(head.manifests(table.io)[0].manifest_path.removeprefix("file://"))
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(whole[-16:], 0, -16) + 16])

    assert "has 2 live files, its list says 3" in _refusal(tmp_path, CorruptTableError)


def test_delete_files_that_are_there_but_fine(tmp_path: Path) -> None:
    table = _table(tmp_path)
    delete_positions(table, data_files(table)[0], [0])

    assert _read(tmp_path).delete_files.num_rows == 1
