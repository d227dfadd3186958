"""Commits to tables of every transform, of evolved specs and of dropped columns."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, PartitionFieldSummary
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.typedef import Record
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from catalog.commits import Commit, Rewrite
from catalog.errors import UnsupportedTableError
from catalog.iceberg.entries import live_entries, manifests_of
from catalog.iceberg.head import schema_for
from catalog.iceberg.manifest_lists import ListedManifest
from catalog.iceberg.pruning import may_hold
from catalog.iceberg.schema import arrow_schema
from catalog.iceberg.table import IcebergTable
from tests.catalog.groups import make_commit, outputs, paths, plan_all, write_output
from tests.catalog.groups import partitions as by_partition
from tests.iceberg_tables import make_table, rows, sql_catalog

DAY = datetime(2026, 3, 1, 13, 30)
ZONED = DAY.replace(tzinfo=UTC)
CASES: list[tuple[IcebergType, Transform[Any, Any], list[Any]]] = [
    (LongType(), IdentityTransform(), [1, -1, None]),
    (LongType(), BucketTransform(4), [1, 2, 3, None]),
    (LongType(), TruncateTransform(10), [1, 11, -11]),
    (LongType(), VoidTransform(), [1, 2]),
    (StringType(), IdentityTransform(), ["", "a/b c%é", None]),
    (StringType(), TruncateTransform(2), ["abc", "abd", "x"]),
    (StringType(), BucketTransform(8), ["abc", "abd"]),
    (BinaryType(), IdentityTransform(), [b"\x00\xff", b"b"]),
    (FixedType(2), IdentityTransform(), [b"ab", b"\xff\x00"]),
    (BooleanType(), IdentityTransform(), [True, False, None]),
    (FloatType(), IdentityTransform(), [1.5, -0.0, 0.0, None]),
    # The library reads these with the digits of a float, we do not.
    (DoubleType(), IdentityTransform(), [0.1, -0.0, None]),
    (DecimalType(9, 2), IdentityTransform(), [Decimal("1.25"), Decimal("-1.30")]),
    (DecimalType(9, 2), TruncateTransform(50), [Decimal("1.25"), Decimal("-1.30")]),
    (DecimalType(9, 2), BucketTransform(3), [Decimal("1.25"), Decimal("-1.30")]),
    (DateType(), IdentityTransform(), [date(1969, 1, 1), date(2026, 1, 1)]),
    (DateType(), YearTransform(), [date(1969, 1, 1), date(2026, 1, 1)]),
    (DateType(), MonthTransform(), [date(1969, 1, 1), date(2026, 1, 1)]),
    (DateType(), DayTransform(), [date(1969, 1, 1), None]),
    (TimeType(), IdentityTransform(), [DAY.time()]),
    (TimestampType(), HourTransform(), [DAY, None]),
    (TimestampType(), DayTransform(), [DAY, datetime(1960, 1, 1)]),
    (TimestampType(), IdentityTransform(), [DAY]),
    (TimestamptzType(), DayTransform(), [ZONED]),
    (TimestamptzType(), BucketTransform(3), [ZONED, None]),
]
IDS = [f"{transform}({kind})" for kind, transform, _ in CASES]


def ours(directory: Path) -> IcebergTable:
    return IcebergTable("lake.ns.t", sql_catalog(directory), ("ns", "t"))


def fill(table: Table, values: list[Any]) -> None:
    schema = table.schema().as_arrow()
    for first in (0, 100):
        ids = list(range(first, first + len(values)))
        table.append(
            pa.table({"id": ids, "key": pa.array(values, schema.field("key").type)}, schema)
        )


def partitions(table: Table) -> list[str]:
    """The partitions as the library reads them, each once."""
    files = table.refresh().inspect.files().to_pylist()
    return sorted({str((one["spec_id"], one["partition"])) for one in files})


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(("kind", "transform", "values"), CASES, ids=IDS)
def test_partitions_are_copied_exactly(
    tmp_path: Path,
    version: str,
    kind: IcebergType,
    transform: Transform[Any, Any],
    values: list[Any],
) -> None:
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "key", kind))
    spec = PartitionSpec(PartitionField(2, 1000, transform, "p"))
    table = make_table(tmp_path, schema, spec=spec, properties={"format-version": version})
    fill(table, values)
    before, where = rows(table), partitions(table)
    commit = plan_all(ours(tmp_path))
    assert len(commit.rewrites) == len(where)
    result = ours(tmp_path).commit(commit)
    assert result.conflicts == ()
    assert rows(table) == before
    assert partitions(table) == where
    after = ours(tmp_path).inventory(ours(tmp_path).snapshot())
    assert paths(after) == outputs(commit.rewrites)
    planned = {one.files.files["partition_key"][0].as_py() for one in commit.rewrites}
    assert set(after.files["partition_key"].to_pylist()) == planned
    again = ours(tmp_path).commit(plan_all(ours(tmp_path)))
    assert again.conflicts == ()
    assert rows(table) == before


def test_partitions_by_uuid_are_copied_exactly(tmp_path: Path) -> None:
    """The library reads such partitions and cannot write their rows: the files are made here."""
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "key", UUIDType()))
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "p"))
    table = make_table(tmp_path, schema, spec=spec)
    for number, value in enumerate([UUID(int=1), UUID(int=2**127), UUID(int=1)]):
        path = f"{table.location()}/data/{number}.parquet"
        columns = [pa.array([number]), pa.array([value.bytes], pa.uuid())]
        content = pa.table(columns, schema=arrow_schema(schema))
        with table.io.new_output(path).create() as sink:
            pq.write_table(content, sink)
        file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=path,
            file_format=FileFormat.PARQUET,
            partition=Record(value),
            record_count=1,
            file_size_in_bytes=len(table.io.new_input(path)),
        )
        file.spec_id = 0
        with table.refresh().transaction() as change, change.update_snapshot().fast_append() as add:
            add.append_data_file(file)
    before = _ids(ours(tmp_path))
    commit = _plan_ids(ours(tmp_path))
    assert [one.files.file_count for one in commit.rewrites] in ([1, 2], [2, 1])
    assert ours(tmp_path).commit(commit).conflicts == ()
    assert _ids(ours(tmp_path)) == before
    assert {str(file.partition[0]) for file in _live_files(table)} == {
        str(UUID(int=1)),
        str(UUID(int=2**127)),
    }
    again = ours(tmp_path).commit(_plan_ids(ours(tmp_path)))
    assert (again.conflicts, _ids(ours(tmp_path))) == ((), before)


SCHEMA = Schema(
    NestedField(1, "id", LongType()),
    NestedField(2, "key", StringType()),
    NestedField(3, "day", DateType()),
)


@pytest.mark.parametrize("version", ["1", "2"])
def test_files_of_old_specs_stay_in_their_specs(tmp_path: Path, version: str) -> None:
    table = make_table(tmp_path, SCHEMA, properties={"format-version": version})

    def append(first: int) -> None:
        content = {
            "id": list(range(first, first + 4)),
            "key": ["a", "b", "a", "b"],
            "day": [date(2026, 1, 1)] * 4,
        }
        table.refresh().append(pa.table(content, table.schema().as_arrow()))

    append(0)
    append(10)
    with table.update_spec() as update:
        update.add_field("key", IdentityTransform(), "key")
    append(20)
    append(30)
    with table.update_spec() as update:
        update.add_field("day", MonthTransform(), "month")
        update.remove_field("key")
    append(40)
    append(50)
    before, where = rows(table), partitions(table)
    commit = plan_all(ours(tmp_path))
    assert ours(tmp_path).commit(commit).conflicts == ()
    assert rows(table) == before
    assert partitions(table) == where
    specs = {file.spec_id for file in _live_files(table)}
    assert specs == {0, 1, 2}
    assert len(_live_files(table)) == len(commit.rewrites) == 4


def _live_files(table: Table) -> list[Any]:
    snapshot = table.refresh().current_snapshot()
    assert snapshot is not None
    return [
        entry.data_file
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
    ]


def test_a_spec_outlives_the_column_it_was_computed_from(tmp_path: Path) -> None:
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "key"))
    table = make_table(tmp_path, SCHEMA, spec=spec)
    for first in (0, 10):
        content = {"id": [first, first + 1], "key": ["a", "b"], "day": [None, None]}
        table.append(pa.table(content, table.schema().as_arrow()))
    with table.update_spec() as update:
        update.remove_field("key")
    with table.update_schema(allow_incompatible_changes=True) as change:
        change.delete_column("key")
    # The library can no longer read these partitions: the rows are counted by id.
    assert _ids(ours(tmp_path)) == [0, 1, 10, 11]
    commit = _plan_ids(ours(tmp_path))
    assert ours(tmp_path).commit(commit).conflicts == ()
    assert _ids(ours(tmp_path)) == [0, 1, 10, 11]
    after = ours(tmp_path).inventory(ours(tmp_path).snapshot())
    assert sorted(after.files["partition"].to_pylist()) == ["key=a", "key=b"]
    content = {"id": [20], "day": [None]}
    table.refresh().append(pa.table(content, table.schema().as_arrow()))
    assert ours(tmp_path).commit(_plan_ids(ours(tmp_path))).conflicts == ()
    assert _ids(ours(tmp_path)) == [0, 1, 10, 11, 20]


def _ids(table: IcebergTable) -> list[int]:
    snapshot = table.snapshot()
    files = table.files(snapshot)
    some = [
        pq.ParquetFile(files.locate(path).path).read(["id"])["id"].to_pylist()
        for path in paths(table.inventory(snapshot))
    ]
    return sorted(identity for ids in some for identity in ids)


def _plan_ids(table: IcebergTable) -> Commit:
    """Plan as `plan_all` does, reading the columns that are left."""
    snapshot = table.snapshot()
    files = table.files(snapshot)
    names = files.schema.arrow.names
    rewrites = []
    for key, group in by_partition(table.inventory(snapshot)).items():
        parts = [
            pq.ParquetFile(files.locate(one.path).path).read(names).cast(files.schema.arrow)
            for one in group.slices()
        ]
        output = write_output(files, key, pa.concat_tables(parts))
        rewrites.append(Rewrite(key, group, (output,), 0))
    return make_commit(snapshot, *rewrites)


@pytest.mark.parametrize(("kind", "transform", "values"), CASES, ids=IDS)
def test_summaries_admit_the_partitions_they_were_made_of(
    tmp_path: Path, kind: IcebergType, transform: Transform[Any, Any], values: list[Any]
) -> None:
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "key", kind))
    spec = PartitionSpec(PartitionField(2, 1000, transform, "p"))
    table = make_table(tmp_path, schema, spec=spec)
    fill(table, values)
    snapshot = table.refresh().current_snapshot()
    assert snapshot is not None
    types = [field.field_type for field in spec.partition_type(schema).fields]
    for manifest in manifests_of(snapshot, table.io):
        for entry in live_entries(manifest, table.io):
            assert may_hold(manifest, types, [[entry.data_file.partition[0]]])


@pytest.mark.parametrize(
    ("kind", "lower", "upper", "value"),
    [
        # As Iceberg for Java puts them in order, by signed halves.
        (UUIDType(), UUID(int=2**127).bytes, UUID(int=9).bytes, UUID(int=2**127 + 5)),
        (UUIDType(), UUID(int=2**127).bytes, UUID(int=9).bytes, UUID(int=5)),
        (LongType(), None, None, 5),
        (LongType(), b"\1", b"\1", 5),
        (LongType(), b"\1\0\0\0", b"\7\0\0\0", 5),
    ],
)
def test_a_summary_that_does_not_tell_excludes_nothing(
    kind: PrimitiveType, lower: bytes | None, upper: bytes | None, value: Any
) -> None:
    """What is left unopened may be old enough for the equality deletes that are taken out."""
    manifest = ListedManifest.from_args(
        2, partitions=[PartitionFieldSummary(False, False, lower, upper)]
    )
    assert may_hold(manifest, [kind], [[value]])


def test_a_spec_whose_types_are_lost_is_refused(tmp_path: Path) -> None:
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "key"))
    metadata = make_table(tmp_path, SCHEMA, spec=spec).metadata
    assert schema_for(metadata, metadata.spec()) == SCHEMA
    forgotten = Schema(*(field for field in SCHEMA.fields if field.field_id != 2))
    with pytest.raises(UnsupportedTableError, match="partition spec 0"):
        schema_for(metadata.model_copy(update={"schemas": [forgotten]}), metadata.spec())
