"""The workers' side: schema, layout, selections, fillings and places of new files."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from catalog.errors import CorruptTableError, LocationError, ObjectNotFoundError
from catalog.iceberg.files import IcebergFiles, Placement
from catalog.iceberg.partition import Spec, SpecField, encode_key
from catalog.iceberg.position_deletes import _positions
from catalog.iceberg.properties import file_layout
from catalog.iceberg.schema import arrow_schema, name_mapping
from catalog.location import Confinement, Location
from catalog.model import FileSlice, Filling, Inventory
from catalog.open import open_table
from catalog.schema import TableSchema
from catalog.storage import Storage
from tests.iceberg_tables import (
    catalog_properties,
    commit_deletes,
    data_files,
    delete_positions,
    make_table,
    rows,
    write_position_deletes,
)

SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("k", pa.string())])
EVERY_TYPE = Schema(
    NestedField(1, "boolean", BooleanType(), required=True),
    NestedField(2, "int", IntegerType()),
    NestedField(3, "long", LongType()),
    NestedField(4, "float", FloatType()),
    NestedField(5, "double", DoubleType()),
    NestedField(6, "decimal", DecimalType(38, 10)),
    NestedField(7, "date", DateType()),
    NestedField(8, "time", TimeType()),
    NestedField(9, "timestamp", TimestampType()),
    NestedField(10, "timestamptz", TimestamptzType()),
    NestedField(11, "string", StringType(), doc="words"),
    NestedField(12, "binary", BinaryType()),
    NestedField(13, "fixed", FixedType(7)),
    NestedField(14, "uuid", UUIDType()),
    NestedField(
        15,
        "list",
        ListType(16, StructType(NestedField(17, "x", LongType())), element_required=True),
    ),
    NestedField(18, "map", MapType(19, StringType(), 20, ListType(21, FloatType()))),
    NestedField(22, "struct", StructType(NestedField(23, "a", DecimalType(3, 1), required=True))),
)


def _inventory(directory: Path) -> tuple[Inventory, IcebergFiles]:
    opened = open_table("lake.ns.t", catalog_properties(directory))
    snapshot = opened.snapshot()
    files = opened.files(snapshot)
    assert isinstance(files, IcebergFiles)
    return opened.inventory(snapshot), files


def _files(directory: Path) -> IcebergFiles:
    return _inventory(directory)[1]


def _append(table: Table, start: int, count: int = 10) -> None:
    columns = {"id": range(start, start + count), "k": [f"k{at}" for at in range(count)]}
    table.append(pa.table(columns, schema=SCHEMA))


# --- schema ------------------------------------------------------------------------------------


def test_every_type_is_as_the_library_has_it_but_for_the_width_of_offsets() -> None:
    theirs = schema_to_pyarrow(EVERY_TYPE, include_field_ids=True)

    text = str(theirs).replace("large_", "")
    assert _without_docs(str(arrow_schema(EVERY_TYPE))) == _without_docs(text)


def _without_docs(text: str) -> list[str]:
    return [line for line in text.splitlines() if "doc" not in line]


def test_parquet_files_keep_ids_and_logical_types(tmp_path: Path) -> None:
    ours = arrow_schema(EVERY_TYPE)
    path = tmp_path / "out.parquet"
    pq.write_table(ours.empty_table(), path, store_schema=False)
    columns = {
        column.path: str(column.logical_type)
        for column in (pq.ParquetFile(path).schema.column(at) for at in range(18))
    }

    assert columns["uuid"] == "UUID"
    assert columns["timestamptz"].startswith("Timestamp(isAdjustedToUTC=true")
    assert columns["decimal"].startswith("Decimal(precision=38, scale=10")
    assert pq.read_schema(path).field("list").type.value_field.metadata == {
        b"PARQUET:field_id": b"16"
    }


def test_name_mapping_with_aliases_and_nesting() -> None:
    mapping = [
        {"field-id": 1, "names": ["id", "record_id"]},
        {
            "field-id": 2,
            "names": ["point", "location"],
            "fields": [{"field-id": 3, "names": ["x"]}, {"names": ["ignored"]}],
        },
        {
            "field-id": 4,
            "names": ["tags"],
            "fields": [{"field-id": 5, "names": ["element"]}],
        },
    ]

    assert name_mapping(json.dumps(mapping)) == (
        (("id",), 1),
        (("record_id",), 1),
        (("point",), 2),
        (("location",), 2),
        (("point", "x"), 3),
        (("location", "x"), 3),
        (("tags",), 4),
        (("tags", "element"), 5),
    )
    assert name_mapping(None) == ()


# --- layout ------------------------------------------------------------------------------------


def test_layout_of_a_table_without_properties() -> None:
    layout = file_layout({})

    assert (layout.codec, layout.codec_level) == ("zstd", None)
    assert layout.target_file_size_bytes == 512 << 20
    assert layout.row_group_size_bytes == 128 << 20
    assert layout.bloom_filters == ()


def test_layout_from_properties() -> None:
    layout = file_layout(
        {
            "write.target-file-size-bytes": "1000000",
            "write.parquet.compression-codec": "UNCOMPRESSED",
            "write.parquet.compression-level": "5",
            "write.parquet.row-group-size-bytes": "2000",
            "write.parquet.row-group-limit": "300",
            "write.parquet.page-size-bytes": "400",
            "write.parquet.dict-size-bytes": "500",
            "write.parquet.bloom-filter-enabled.column.b.c": "true",
            "write.parquet.bloom-filter-enabled.column.a": "true",
            "write.parquet.bloom-filter-fpp.column.a": "0.05",
            "write.parquet.bloom-filter-enabled.column.z": "false",
        }
    )

    assert layout.target_file_size_bytes == 1000000
    assert (layout.codec, layout.codec_level) == ("none", 5)
    assert (layout.row_group_size_bytes, layout.row_group_rows_max) == (2000, 300)
    assert (layout.page_size_bytes, layout.dictionary_page_size_bytes) == (400, 500)
    assert layout.bloom_filters == (("a", 0.05), ("b.c", 0.01))


# --- where new files go ------------------------------------------------------------------------


def _key(files: IcebergFiles, *values: Any) -> str:
    return encode_key(max(spec.spec_id for spec in files.specs), values)


def _partitioned(directory: Path, properties: dict[str, str]) -> IcebergFiles:
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "k", StringType()))
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "k"))
    make_table(directory, schema, spec=spec, properties=properties)
    return _files(directory)


def test_new_files_lie_in_their_partition(tmp_path: Path) -> None:
    files = _partitioned(tmp_path, {})
    root = f"file://{tmp_path}/warehouse/ns/t"

    assert str(files.new_location(_key(files, "a/b"), "x.parquet")) == (
        f"{root}/data/k=a%2Fb/x.parquet"
    )
    assert files.confinement.admits(files.new_location(_key(files, "../.."), "x.parquet"))
    with pytest.raises(CorruptTableError, match="no partition spec 9"):
        files.new_location(encode_key(9, []), "x.parquet")


def test_a_data_path_of_its_own(tmp_path: Path) -> None:
    files = _partitioned(tmp_path, {"write.data.path": "s3://bucket/elsewhere/"})
    location = files.new_location(_key(files, None), "x.parquet")

    assert str(location) == "s3://bucket/elsewhere/k=null/x.parquet"
    assert files.confinement.admits(location)


@pytest.mark.parametrize("partitioned_paths", ["true", "false"])
def test_files_of_an_object_layout_are_spread(tmp_path: Path, partitioned_paths: str) -> None:
    files = _partitioned(
        tmp_path,
        {
            "write.object-storage.enabled": "true",
            "write.object-storage.partitioned-paths": partitioned_paths,
        },
    )
    names = [f"{at}.parquet" for at in range(200)]
    places = [files.new_location(_key(files, "a"), name) for name in names]

    assert places == [files.new_location(_key(files, "a"), name) for name in names]
    heads = {place.relative_to(files.placement.prefix).split("/")[0] for place in places}
    assert len(heads) == 16
    assert all(len(head) == 4 and set(head) <= {"0", "1"} for head in heads)
    assert all(("k=a" in place.segments) == (partitioned_paths == "true") for place in places)


# --- fillings ----------------------------------------------------------------------------------


def _scalars() -> dict[int, Any]:
    return {
        1: True,
        2: 7,
        3: -(2**40),
        4: 0.5,
        5: -1.25,
        6: Decimal("1234567890123456789012345678.0123456789"),
        7: 20000,
        8: 5_000_001,
        9: 1_800_000_000_000_001,
        10: 1_800_000_000_000_001,
        11: "é",
        12: b"\xff",
        13: b"1234567",
        14: uuid.UUID(int=5),
    }


@pytest.mark.parametrize("is_null", [False, True])
def test_identity_values_become_scalars_of_their_columns(tmp_path: Path, is_null: bool) -> None:
    values = dict.fromkeys(_scalars()) if is_null else _scalars()
    make_table(tmp_path, EVERY_TYPE)
    files = _files(tmp_path)
    fields = tuple(SpecField(1000 + at, f"p{at}", at, "identity", "") for at in values)
    bucket = SpecField(2000, "b", 3, "bucket[4]", "long")
    gone = SpecField(2001, "g", 99, "identity", "")
    spec = Spec(4, (*fields, bucket, gone))
    files = IcebergFiles(
        files.storage,
        files.schema,
        files.layout,
        files.confinement,
        files.placement,
        (spec,),
        4,
    )
    key = encode_key(4, [*values.values(), 3, "dropped"])
    found = files.fillings(FileSlice("p", 1, 1, key, 1, ()))

    assert all(one == Filling(one.start) for one in found.values())
    found = {field_id: one.start for field_id, one in found.items()}
    assert found.keys() == values.keys()
    for field in files.schema.arrow:
        field_id = int(field.metadata[b"PARQUET:field_id"])
        if field_id in values:
            assert found[field_id].type == field.type
            assert found[field_id].is_valid != is_null
            plain = found[field_id].value if hasattr(found[field_id], "value") else None
            given = values[field_id]
            if not isinstance(given, uuid.UUID):
                assert given in (plain, found[field_id].as_py())


# --- selections --------------------------------------------------------------------------------


def test_selections_are_what_readers_no_longer_see(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    for start in (0, 100, 200):
        _append(table, start)
    first, second, third = data_files(table)
    delete_positions(table, first, [9, 0])
    wide = {first.file_path: [0, 4], second.file_path: [5], "file:///not/of/this/table": [1]}
    commit_deletes(table, write_position_deletes(table, wide, like=first))
    inventory, files = _inventory(tmp_path)

    found = {path: one.dropped.tolist() for path, one in files.selections(inventory).items()}

    assert found == {first.file_path: [0, 4, 9], second.file_path: [5]}
    dropped = {f"{path}" for path in found}
    assert third.file_path not in dropped
    assert len(rows(table)) == 30 - 4


def test_only_the_files_asked_for_are_looked_up(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    for start in (0, 100):
        _append(table, start)
    one, two = data_files(table)
    delete_positions(table, one, [1])
    delete_positions(table, two, [2])
    inventory, files = _inventory(tmp_path)
    paths = inventory.files["path"].to_pylist()
    part = inventory.take(np.array([paths.index(two.file_path)]))
    storage = files.storage.metered()
    asked = IcebergFiles(
        storage, files.schema, files.layout, files.confinement, files.placement, files.specs, 0
    )

    assert list(asked.selections(part)) == [two.file_path]
    assert asked.selections(Inventory.empty()) == {}


def test_a_delete_older_than_the_file_drops_nothing(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    for start in (0, 100):
        _append(table, start)
    old = data_files(table)[0]
    wide = {"file:///a": [0], old.file_path: [0, 1], "file:///z": [0]}
    commit_deletes(table, write_position_deletes(table, wide, like=old, bounds=False))
    _append(table, 200)
    inventory, files = _inventory(tmp_path)

    assert list(files.selections(inventory)) == [old.file_path]
    deletes = inventory.files["deletes"].to_pylist()
    assert sorted(map(len, deletes)) == [0, 1, 1]


@pytest.mark.parametrize("position", [-1, 10, 2**40])
def test_rows_that_do_not_exist_are_refused(tmp_path: Path, position: int) -> None:
    table = make_table(tmp_path, SCHEMA)
    _append(table, 0)
    delete_positions(table, data_files(table)[0], [3, position])
    inventory, files = _inventory(tmp_path)

    with pytest.raises(CorruptTableError, match="which has 10 rows"):
        files.selections(inventory)


def test_damaged_and_missing_delete_files(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    _append(table, 0)
    deletes = delete_positions(table, data_files(table)[0], [3])
    path = Path(deletes.file_path.removeprefix("file://"))
    inventory, files = _inventory(tmp_path)
    whole = path.read_bytes()

    for damaged in (whole[:100] + bytes(4), bytes(len(whole)), b"PAR1" + whole[4:-8] + bytes(8)):
        path.write_bytes(damaged)
        with pytest.raises(CorruptTableError, match="delete"):
            files.selections(inventory)
    pq.write_table(pa.table({"other": [1]}), path)
    with pytest.raises(CorruptTableError, match="no column file_path"):
        files.selections(inventory)
    path.unlink()
    with pytest.raises(ObjectNotFoundError):
        files.selections(inventory)


@given(st.binary(min_size=1, max_size=1), st.integers(0, 10**6))
@example(mask=b"\0", seed=51)  # the header of a page, which no checksum covers
def test_a_flipped_byte_in_a_delete_file_is_noticed_or_harmless(mask: bytes, seed: int) -> None:
    positions = list(range(0, 900, 3))
    sink = pa.BufferOutputStream()
    table = pa.table({"file_path": ["file:///t/data/a.parquet"] * 300, "pos": positions})
    pq.write_table(table, sink, write_page_checksum=True)
    content = bytearray(sink.getvalue().to_pybytes())
    # Within the pages, which their checksums protect.
    pages_end = int.from_bytes(content[-8:-4], "little") + 8
    content[4 + seed % (len(content) - pages_end - 4)] ^= mask[0] or 1
    try:
        found = list(_positions(pa.BufferReader(bytes(content)), "d", ["file:///t/data/a.parquet"]))
    except CorruptTableError:
        return
    assert [one for _, part in found for one in part.tolist()] == positions


# --- the value itself --------------------------------------------------------------------------


def test_the_value_crosses_processes_without_the_library(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    _append(table, 0)
    delete_positions(table, data_files(table)[0], [3])
    inventory, files = _inventory(tmp_path)
    assert pickle.loads(pickle.dumps(files)) == files
    program = (
        "import pickle, sys\n"
        "files, inventory = pickle.load(sys.stdin.buffer)\n"
        "found = files.selections(inventory)\n"
        "loaded = sorted(name for name in sys.modules if name.startswith('pyiceberg'))\n"
        "print([one.dropped.tolist() for one in found.values()], loaded)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps((files, inventory)),
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )

    assert done.stdout.decode().strip() == "[[3]] []"


def test_paths_are_confined() -> None:
    prefix = Location.parse("s3://bucket/t")
    files = IcebergFiles(
        Storage(),
        TableSchema(SCHEMA),
        file_layout({}),
        Confinement((prefix,)),
        Placement(prefix.child("data"), is_hashed=False, has_partitions=True),
        (Spec(0, ()),),
        0,
    )

    assert str(files.locate("s3a://bucket/t/data/x")) == "s3a://bucket/t/data/x"
    assert str(files.new_location("[0]", "x")) == "s3://bucket/t/data/x"
    with pytest.raises(LocationError):
        files.locate("s3://bucket/other/x")


def test_bucketed_partitions_fix_no_values(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    with table.update_spec() as update:
        update.add_field("id", BucketTransform(2))
    _append(table, 0)
    inventory, files = _inventory(tmp_path)

    assert [files.fillings(one) for one in inventory.slices()] == [{}, {}]
