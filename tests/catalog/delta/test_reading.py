"""Tables as deltalake writes them: files, partitions, row counts, versions, deletion vectors."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable as PeerTable
from deltalake import write_deltalake

from catalog.delta.deletion_vectors import DeletionVector, file_name, file_of_vectors, inline_vector
from catalog.delta.table import READ_PREFIXES, DeltaTable
from catalog.errors import (
    CatalogError,
    CorruptTableError,
    LocationError,
    ObjectNotFoundError,
    SnapshotNotFoundError,
    UnsupportedTableError,
)
from catalog.location import Location
from catalog.model import Inventory
from tests.catalog.delta.logs import PROTOCOL, HandWritten, add, column, features, metadata

UTC = dt.UTC
PARTITIONS = pa.table(
    {
        "text": ["a b", "ü/%", None, "..", ""],
        "day": [dt.date(2026, 1, 1), None, dt.date(1, 1, 1), dt.date(2026, 1, 1), None],
        "at": pa.array([dt.datetime(2026, 1, 1, 1, 2, 3, 4, UTC), None] * 2 + [None]).cast(
            pa.timestamp("us", "UTC")
        ),
        "local": pa.array([dt.datetime(2026, 1, 1), None, None, None, None]),
        "price": pa.array(
            [Decimal("1.50"), None, Decimal("7.25"), None, None], pa.decimal128(9, 2)
        ),
        "flag": [True, False, None, True, None],
        "ratio": [1.5, float("inf"), None, -0.0, None],
        "small": pa.array([1, -128, None, 127, 0], pa.int8()),
        "id": pa.array(range(5), pa.int64()),
    }
)
KEYS = PARTITIONS.column_names[:-1]


def table_at(directory: Path, **properties: str) -> DeltaTable:
    return DeltaTable("t", Location.parse(str(directory)), properties)


def inventory_of(table: DeltaTable, version: int | None = None) -> Inventory:
    return table.inventory(table.snapshot(None if version is None else str(version)))


def test_partition_values_of_every_type(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), PARTITIONS, partition_by=KEYS)
    table = table_at(tmp_path)
    side = pickle.loads(pickle.dumps(table.files(table.snapshot())))
    names = {column.field_id: column.name for column in side.partitions}
    found = {}
    for one in inventory_of(table).slices():
        data = pq.ParquetFile(side.locate(one.path).path).read()
        (identity,) = data["id"].to_pylist()
        values = {names[number]: filling.start for number, filling in side.fillings(one).items()}
        found[identity] = {name: value.as_py() for name, value in values.items()}
        for name, value in values.items():
            assert value.type == side.schema.arrow.field(name).type
    expected = {row.pop("id"): row for row in PARTITIONS.to_pylist()}
    expected[4]["text"] = None  # empty text is null to every reader
    assert found == expected
    assert set(side.schema.stored.arrow.names) == {"id"}


def test_new_files_lie_where_the_table_has_its_own(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), PARTITIONS, partition_by=KEYS)
    table = table_at(tmp_path)
    side = table.files(table.snapshot())
    for key in inventory_of(table).files["partition_key"].to_pylist():
        place = side.new_location(key, "x.parquet")
        assert place == side.new_location(key, "x.parquet")
        assert side.locate(str(place)) == place


@pytest.mark.parametrize("checkpoint", [False, True])
def test_versions_and_what_became_of_them(tmp_path: Path, checkpoint: bool) -> None:
    for number in range(4):
        write_deltalake(str(tmp_path), pa.table({"id": [number]}), mode="append")
        if checkpoint and number == 2:
            PeerTable(str(tmp_path)).create_checkpoint()
    PeerTable(str(tmp_path)).delete("id = 1")
    table = table_at(tmp_path)

    assert [inventory_of(table, version).row_count for version in range(5)] == [1, 2, 3, 4, 3]
    newest = table.snapshot()
    assert (newest.snapshot_id, newest.parent_id, newest.operation) == ("4", "3", "DELETE")
    assert newest.sequence_number == 4
    peer = PeerTable(str(tmp_path))
    assert {str(tmp_path / path) for path in peer.file_uris()} == set(
        inventory_of(table).files["path"].to_pylist()
    )
    for absent in ("5", "-1", "x", "", "٣", "9" * 40):
        with pytest.raises(SnapshotNotFoundError):
            table.snapshot(absent)


def test_cleaned_versions_are_not_found(tmp_path: Path) -> None:
    for number in range(4):
        write_deltalake(str(tmp_path), pa.table({"id": [number]}), mode="append")
    PeerTable(str(tmp_path)).create_checkpoint()
    for version in range(3):
        (tmp_path / "_delta_log" / f"{version:020}.json").unlink()

    with pytest.raises(SnapshotNotFoundError, match="version 2 can no longer be read"):
        table_at(tmp_path).snapshot("2")
    assert inventory_of(table_at(tmp_path)).row_count == 4


STATISTICS: dict[str, Any] = {
    "in front": '{"numRecords":3,"minValues":{"id":1}}',
    "behind": '{"minValues":{"numRecords":77},"numRecords":3}',
    "with spaces": ' { "numRecords" : 3 }',
    "over lines": '{\n "minValues": {},\n "numRecords": 3\n}',
    "as a float": '{"numRecords":3.0}',
    "without": '{"minValues":{"numRecords":77}}',
    "negative": '{"numRecords":-3}',
    "no object": "[3]",
    "no JSON": '{"numRecords":',
    "empty": "",
    "none": None,
}


@pytest.mark.parametrize("stats", STATISTICS.values(), ids=STATISTICS)
@pytest.mark.parametrize("form", ["commit", "checkpoint"])
def test_row_counts_by_statistics_or_by_footers(
    tmp_path: Path, stats: str | None, form: str
) -> None:
    pq.write_table(pa.table({"id": [1, 2, 3]}), tmp_path / "a.parquet")
    size_bytes = (tmp_path / "a.parquet").stat().st_size
    log = HandWritten(tmp_path)
    one = add("a.parquet", rows=None, size=size_bytes, stats=stats)
    if form == "commit":
        log.commit(0, PROTOCOL, metadata(), one)
    else:
        log.checkpoint(0, PROTOCOL, metadata(), one)

    assert inventory_of(table_at(tmp_path)).row_count == 3


def test_files_without_statistics_that_are_missing_or_damaged(tmp_path: Path) -> None:
    log = HandWritten(tmp_path)
    log.commit(0, PROTOCOL, metadata(), add("a.parquet", rows=None))
    with pytest.raises(ObjectNotFoundError, match=r"a\.parquet"):
        inventory_of(table_at(tmp_path))
    (tmp_path / "a.parquet").write_bytes(b"PAR1" * 25)
    with pytest.raises(CorruptTableError, match=r"a\.parquet"):
        inventory_of(table_at(tmp_path))


def test_row_counts_in_columns_of_their_own(tmp_path: Path) -> None:
    log = HandWritten(tmp_path)
    actions = [PROTOCOL, metadata(), add("a", rows=5), add("b", rows=7), add("c", rows=9)]
    (path,) = log.checkpoint(0, *actions)
    rows = pq.read_table(path).to_pylist()
    plain = pq.read_schema(path)
    kind = pa.struct(
        [*plain.field("add").type, ("stats_parsed", pa.struct([("numRecords", pa.int64())]))]
    )
    for row, count in zip(rows[2:], (50, 70, None), strict=True):
        row["add"]["stats_parsed"] = {"numRecords": count}
    schema = plain.set(plain.get_field_index("add"), pa.field("add", kind))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)

    assert inventory_of(table_at(tmp_path)).files["row_count"].to_pylist() == [50, 70, 9]
    for row in rows[2:]:
        row["add"]["stats"] = None
    rows[4]["add"]["stats_parsed"] = {"numRecords": 90}
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    assert inventory_of(table_at(tmp_path)).files["row_count"].to_pylist() == [50, 70, 90]


def test_old_versions_are_read_with_the_columns_of_today(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.table({"id": [1]}))
    write_deltalake(
        str(tmp_path), pa.table({"id": [2], "text": ["x"]}), mode="append", schema_mode="merge"
    )
    table = table_at(tmp_path)
    assert table.files(table.snapshot("0")).schema.arrow.names == ["id", "text"]

    again = pa.table({"id": [3], "day": ["a"]})
    write_deltalake(
        str(tmp_path), again, mode="overwrite", schema_mode="overwrite", partition_by="day"
    )
    table.snapshot()
    assert table.files(table.snapshot("1")).schema.arrow.names == ["id", "text"]
    assert table.files(table.snapshot("2")).schema.unstored


# --- deletion vectors --------------------------------------------------------------------------

VECTORS = features(readers=["deletionVectors"])


def described(vector: DeletionVector) -> dict[str, Any]:
    said = {
        "storageType": vector.storage_type,
        "pathOrInlineDv": vector.path_or_inline,
        "sizeInBytes": vector.size_bytes,
        "cardinality": vector.cardinality,
    }
    return said if vector.offset is None else {**said, "offset": vector.offset}


def with_vectors(directory: Path) -> tuple[HandWritten, Path]:
    """Write a table of four files of ten rows: vectors inline, relative, absolute, and none."""
    identity = bytes(range(16))
    content, (relative, other) = file_of_vectors(identity, [np.array([1, 2]), np.array([9])])
    path = directory / file_name(identity)
    log = HandWritten(directory)
    path.write_bytes(content)
    absolute = {**described(other), "storageType": "p", "pathOrInlineDv": f"file://{path}"}
    log.commit(
        0,
        VECTORS,
        metadata(),
        add("a", deletionVector=described(inline_vector(np.array([0, 5])))),
        add("b", deletionVector=described(relative)),
        add("c", deletionVector=absolute),
        add("d"),
    )
    return log, path


def test_vectors_in_each_of_their_places(tmp_path: Path) -> None:
    with_vectors(tmp_path)
    table = table_at(tmp_path)
    inventory = inventory_of(table)
    side = pickle.loads(pickle.dumps(table.files(table.snapshot())))
    dropped = {
        Path(path).name: one.dropped.tolist() for path, one in side.selections(inventory).items()
    }

    assert dropped == {"a": [0, 5], "b": [1, 2], "c": [9]}
    assert inventory.delete_files["row_count"].to_pylist() == [2, 2, 1]
    assert [len(one.deletes) for one in inventory.slices()] == [1, 1, 1, 0]
    one_of_them = inventory.take(np.array([1]))
    assert [*side.selections(one_of_them)] == [str(tmp_path / "b")]


def test_missing_and_damaged_vectors_are_named(tmp_path: Path) -> None:
    _, path = with_vectors(tmp_path)
    table = table_at(tmp_path)
    inventory, side = inventory_of(table), table.files(table.snapshot())
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(ObjectNotFoundError, match=path.name):
        side.selections(inventory)
    for damaged in (data[:-3], bytes([data[0], *data[1:20], data[20] ^ 1, *data[21:]])):
        path.write_bytes(damaged)
        with pytest.raises(CorruptTableError, match=path.stem):
            side.selections(inventory)


def test_vectors_of_another_cardinality(tmp_path: Path) -> None:
    vector = {**described(inline_vector(np.array([1, 2]))), "cardinality": 3}
    HandWritten(tmp_path).commit(0, VECTORS, metadata(), add("a", deletionVector=vector))
    table = table_at(tmp_path)
    with pytest.raises(CorruptTableError, match="2 positions, 3 were announced"):
        table.files(table.snapshot()).selections(inventory_of(table))


# --- other tables' files, other writers' commits -----------------------------------------------


def test_files_of_another_table_have_partitions_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, clone = tmp_path / "source", tmp_path / "clone"
    source.mkdir()
    foreign = add(f"file://{source}/k=x/a", partitionValues={"k": "x"})
    own = add("k=x/b", partitionValues={"k": "x"})
    keyed = metadata(column("id"), column("k", "string"), partitions=["k"])
    HandWritten(clone).commit(0, PROTOCOL, keyed, foreign, own)

    with pytest.raises(LocationError) as caught:
        inventory_of(table_at(clone))
    assert READ_PREFIXES in caught.value.hint
    table = DeltaTable("t", Location.parse(str(clone)), {READ_PREFIXES: f" file://{source} ,"})
    files = inventory_of(table).files.to_pylist()
    assert [one["partition"] for one in files] == ["k=x", "k=x"]
    assert len({one["partition_key"] for one in files}) == 2
    side = table.files(table.snapshot())
    assert side.locate(files[0]["path"]).is_within(Location.parse(str(source)))
    for one in files:
        assert side.new_location(one["partition_key"], "c").is_within(Location.parse(str(clone)))
    monkeypatch.setenv("DELTA_READ_PREFIXES", f"s3://other/lake,{source}")
    assert inventory_of(table_at(clone)).file_count == 2


def test_tables_whose_writers_agree_elsewhere_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_S3_LOCKING_PROVIDER", "dynamodb")
    with pytest.raises(UnsupportedTableError, match="dynamodb"):
        DeltaTable("t", Location.parse("s3://bucket/t"), {}).load()
    HandWritten(tmp_path).commit(0, PROTOCOL, metadata())
    assert table_at(tmp_path).snapshot().snapshot_id == "0"


def test_rows_are_tracked_where_the_log_says_from_where(tmp_path: Path) -> None:
    names = {
        "delta.enableRowTracking": "true",
        "delta.rowTracking.materializedRowIdColumnName": "_row-id",
        "delta.rowTracking.materializedRowCommitVersionColumnName": "_row-version",
    }
    log = HandWritten(tmp_path)
    log.commit(
        0,
        features("rowTracking", "domainMetadata"),
        metadata(configuration=names),
        add("a", baseRowId=40, defaultRowCommitVersion=2),
        add("b"),
    )
    table = table_at(tmp_path)
    side = table.files(table.snapshot())
    tracked, untracked = inventory_of(table).slices()

    assert (tracked.first_row_id, tracked.row_version) == (40, 2)
    fillings = {
        one.start.as_py(): (one.step, one.fills_nulls) for one in side.fillings(tracked).values()
    }
    assert fillings == {40: (1, True), 2: (0, True)}
    with pytest.raises(CorruptTableError, match=r"gives .*/b no ids"):
        side.fillings(untracked)


def test_statistics_that_speak_of_other_things(tmp_path: Path) -> None:
    """A column called like the count of rows must not be taken for it."""
    stats = json.dumps({"numRecords": 4, "minValues": {"numRecords": 1}})
    HandWritten(tmp_path).commit(0, PROTOCOL, metadata(), add("a", rows=None, stats=stats))
    assert inventory_of(table_at(tmp_path)).row_count == 4


def test_errors_of_the_catalog_alone(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no commits"):
        table_at(tmp_path / "absent").load()
