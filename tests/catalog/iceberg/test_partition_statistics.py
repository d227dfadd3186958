"""Statistics of partitions are what PyIceberg counts, in the form of the specification."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform
from pyiceberg.types import DecimalType, LongType, NestedField, StringType, TimestampType

from catalog.iceberg.partition_statistics import PartitionStatistics
from catalog.iceberg.table import IcebergTable
from catalog.puffin import Blob
from catalog.upkeep import UpkeepOrder, UpkeepResult
from tests.catalog.iceberg.lakes import IcebergLake

COUNTED = (
    "data_record_count",
    "data_file_count",
    "total_data_file_size_in_bytes",
    "position_delete_record_count",
    "position_delete_file_count",
    "equality_delete_record_count",
    "equality_delete_file_count",
)


@pytest.fixture
def lake(tmp_path: Path) -> IcebergLake:
    made = IcebergLake(tmp_path, 2)
    paths = [made.append(range(start, start + 10), "bab"[start // 10]) for start in (0, 10, 20)]
    made.delete({paths[0]: [1, 2], paths[2]: [0]})
    return made


def keep(lake: IcebergLake, *, is_dry_run: bool = False) -> UpkeepResult:
    return PartitionStatistics(lake.table).run(UpkeepOrder(is_dry_run=is_dry_run))


def kept(lake: IcebergLake) -> list[dict[str, Any]]:
    """Return the rows of the newest file."""
    table = lake.other
    with table.io.new_input(table.metadata.partition_statistics[-1].statistics_path).open() as file:
        return list(pq.read_table(io.BytesIO(file.read())).to_pylist())


def test_they_are_what_pyiceberg_counts(lake: IcebergLake) -> None:
    result = keep(lake)
    assert (result.files, result.note) == (1, "")
    assert lake.other.metadata.partition_statistics[0].file_size_in_bytes == result.bytes
    own = {row["partition"]["part"]: row for row in kept(lake)}
    assert list(own) == ["a", "b"]
    for row in lake.other.inspect.partitions().to_pylist():
        found = own[row["partition"]["part"]]
        assert found["data_record_count"] == row["record_count"]
        assert found["data_file_count"] == row["file_count"]
        assert found["position_delete_record_count"] == row["position_delete_record_count"]
        assert found["position_delete_file_count"] == row["position_delete_file_count"]
    assert own["b"]["position_delete_record_count"] == 3


def test_their_columns_have_the_ids_of_the_specification(lake: IcebergLake) -> None:
    keep(lake)
    table = lake.other
    with table.io.new_input(table.metadata.partition_statistics[0].statistics_path).open() as file:
        schema = pq.read_schema(io.BytesIO(file.read()))
    numbers = {one.name: int(one.metadata[b"PARQUET:field_id"]) for one in schema}
    assert [numbers[name] for name in ("partition", "spec_id", *COUNTED)] == list(range(1, 10))
    assert int(schema.field("partition").type.field(0).metadata[b"PARQUET:field_id"]) == 1000
    assert not any(schema.field(name).nullable for name in COUNTED[:3])


def test_they_are_kept_up_to_date_once_somebody_keeps_them(lake: IcebergLake) -> None:
    assert not PartitionStatistics(lake.table).is_usual
    assert keep(lake, is_dry_run=True).files == 1
    assert lake.other.metadata.partition_statistics == []
    keep(lake)
    assert keep(lake).note == "those of the current snapshot are there"
    lake.append(range(100, 110), "c")
    assert PartitionStatistics(lake.table).is_usual
    assert keep(lake).files == 1
    assert [row["partition"]["part"] for row in kept(lake)] == ["a", "b", "c"]
    assert len(lake.other.metadata.partition_statistics) == 2


def test_partitions_of_all_specs_share_their_columns(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path, 2)
    lake.append(range(3), "a")
    with lake.other.update_spec() as update:
        update.remove_field("part")
        update.add_field("id", BucketTransform(4), "bucket")
    lake.other.append(lake.other.scan().to_arrow())
    keep(lake)
    rows = kept(lake)
    assert {row["spec_id"] for row in rows} == {0, 1}
    # Nulls come first: files of the newer spec have no `part`.
    assert rows[-1]["partition"] == {"part": "a", "bucket": None}
    assert sum(row["data_record_count"] for row in rows) == 6


def test_values_of_every_kind_are_told(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path, 2)
    schema = Schema(
        NestedField(1, "at", TimestampType(), required=False),
        NestedField(2, "price", DecimalType(9, 2), required=False),
        NestedField(3, "name", StringType(), required=False),
        NestedField(4, "id", LongType(), required=False),
    )
    table = lake.catalog.create_table("ns.kinds", schema)
    with table.update_spec() as update:
        update.add_field("at", DayTransform(), "day")
        update.add_field("price", IdentityTransform(), "price")
        update.add_field("name", IdentityTransform(), "name")
    at = dt.datetime(2026, 11, 23, 5)
    rows = [
        {"at": at, "price": Decimal("1.50"), "name": "ä", "id": 1},
        {"at": None, "price": None, "name": None, "id": 2},
    ]
    table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))
    PartitionStatistics(IcebergTable("lake.ns.kinds", lake.catalog, ("ns", "kinds"))).run(
        UpkeepOrder()
    )
    table = lake.catalog.load_table("ns.kinds")
    with table.io.new_input(table.metadata.partition_statistics[0].statistics_path).open() as file:
        found = pq.read_table(io.BytesIO(file.read()))["partition"].to_pylist()
    assert found == [
        {"day": None, "price": None, "name": None},
        {"day": dt.date(2026, 11, 23), "price": Decimal("1.50"), "name": "ä"},
    ]


def test_a_table_without_partitions_has_none(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path, 2)
    assert keep(lake).note == "the table is empty"


def keep_for_planning(lake: IcebergLake) -> object:
    table = lake.table
    return table.add_sidecar(table.snapshot(), [Blob("kind", (), {}, b"x")])


@pytest.mark.parametrize("write", [keep, keep_for_planning])
def test_a_file_that_the_table_names_stays_whatever_the_catalog_answered(
    lake: IcebergLake, monkeypatch: pytest.MonkeyPatch, write: Callable[[IcebergLake], object]
) -> None:
    with lake.other.transaction() as change:
        change.set_properties({"commit.retry.num-retries": "0"})
    commit = lake.catalog.commit_table

    def refused(*arguments: Any) -> Any:
        commit(*arguments)
        raise CommitFailedException("a copy of the request was there first")

    with monkeypatch.context() as patch:
        patch.setattr(lake.catalog, "commit_table", refused)
        assert write(lake)
    metadata = lake.other.metadata
    (named,) = [*metadata.partition_statistics, *metadata.statistics]
    assert Path(named.statistics_path.removeprefix("file://")).exists()


@pytest.mark.parametrize(
    ("answer", "is_left"), [(CommitFailedException("no"), False), (ConnectionError("?"), True)]
)
def test_a_file_whose_naming_may_still_arrive_is_left(
    lake: IcebergLake, monkeypatch: pytest.MonkeyPatch, answer: Exception, is_left: bool
) -> None:
    with lake.other.transaction() as change:
        change.set_properties({"commit.retry.num-retries": "1"})

    def fail(*_: Any) -> Any:
        raise answer

    with monkeypatch.context() as patch:
        patch.setattr(lake.catalog, "commit_table", fail)
        assert not keep_for_planning(lake)
    place = Path(lake.other.location().removeprefix("file://"))
    assert bool(list(place.rglob("compact-*.puffin"))) == is_left
