"""The inventory against PyIceberg's own plan, and deletes against the rule of the specification."""

from __future__ import annotations

import datetime as dt
import math
import pickle
import uuid
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.typedef import Record
from pyiceberg.types import (
    DecimalType,
    FixedType,
    FloatType,
    NestedField,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from catalog.errors import CorruptTableError, SnapshotNotFoundError, UnsupportedTableError
from catalog.iceberg.inventory import attach
from catalog.iceberg.manifest import DELETE_FILES_SCOPED, FILES
from catalog.iceberg.partition import decode_key
from catalog.model import DATA_FILES, DELETE_FILES, Inventory
from catalog.open import open_table
from catalog.table import Table as CatalogTable
from tests.iceberg_tables import (
    catalog_properties,
    commit_deletes,
    data_files,
    delete_positions,
    make_table,
    write_equality_deletes,
    write_position_deletes,
)

TIME = pa.timestamp("us")
# One column for each transform: PyIceberg writes no two partition fields of one column.
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64()),
        *(pa.field(name, TIME) for name in ("year", "month", "at")),
        *(pa.field(name, pa.timestamp("us", "UTC")) for name in ("seen", "void")),
        pa.field("day", pa.date32()),
        *(pa.field(name, pa.string()) for name in ("name", "short")),
        *(pa.field(name, pa.decimal128(30, 2)) for name in ("price", "step")),
        pa.field("blob", pa.binary()),
        pa.field("flag", pa.bool_()),
    ]
)
FIELDS = [
    ("id", BucketTransform(3)),
    ("year", YearTransform()),
    ("month", MonthTransform()),
    ("at", DayTransform()),
    ("seen", HourTransform()),
    ("day", IdentityTransform()),
    ("short", TruncateTransform(2)),
    ("name", IdentityTransform()),
    ("price", IdentityTransform()),
    ("step", TruncateTransform(50)),
    ("blob", IdentityTransform()),
    ("flag", IdentityTransform()),
    ("void", VoidTransform()),
]


def _rows(start: int, count: int = 6) -> pa.Table:
    start_time = dt.datetime(2026, 11, 20, 5)
    rows = []
    for i in range(count):
        price = Decimal(f"12345678901234567890{i % 2}.55")
        moment = start_time + dt.timedelta(days=20 * i)
        hour = (start_time + dt.timedelta(hours=i)).replace(tzinfo=dt.UTC)
        rows.append(
            {
                "id": start + i,
                **dict.fromkeys(("year", "month", "at"), moment),
                **dict.fromkeys(("seen", "void"), hour),
                "day": moment.date() if i % 3 else None,
                **dict.fromkeys(("name", "short"), f"né/{i % 2}=x"),
                **dict.fromkeys(("price", "step"), price),
                "blob": bytes([255, i % 2]),
                "flag": None if i % 3 == 2 else bool(i % 2),
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _open(directory: Path) -> CatalogTable:
    return open_table("lake.ns.t", catalog_properties(directory))


def _pickled(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """A map that does what processes do to functions, items and results."""
    for item in items:
        packed = pickle.dumps((function, item))
        run, argument = pickle.loads(packed)
        yield pickle.loads(pickle.dumps(run(argument)))


def _check(table: Table, opened: CatalogTable) -> Inventory:
    """Compare with the library's plan: files, partitions, sizes, and which deletes apply."""
    inventory = opened.inventory(opened.snapshot(), map_function=_pickled)
    assert inventory.files.schema == DATA_FILES
    assert inventory.delete_files.schema == DELETE_FILES
    found = {one.path: one for one in inventory.slices()}
    tasks = {task.file.file_path: task for task in table.refresh().scan().plan_files()}
    assert found.keys() == tasks.keys()
    partitions: dict[str, set[Any]] = {}
    for path, one in found.items():
        file = tasks[path].file
        assert one.size_bytes == file.file_size_in_bytes
        assert one.row_count == file.record_count
        assert {delete.path for delete in one.deletes} == {
            delete.file_path for delete in tasks[path].delete_files
        }
        spec_id, values = decode_key(one.partition_key)
        assert spec_id == file.spec_id
        expected = [file.partition[at] for at in range(len(file.partition))]
        assert values == expected
        partitions.setdefault(one.partition_key, set()).add((spec_id, repr(expected)))
    assert all(len(same) == 1 for same in partitions.values())
    return inventory


def _sequence_numbers(table: Table) -> dict[str, int]:
    head = table.refresh().current_snapshot()
    assert head is not None
    return {
        entry.data_file.file_path: entry.sequence_number
        for manifest in head.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
    }


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_table_whose_spec_has_evolved_through_every_transform(
    tmp_path: Path, version: str
) -> None:
    table = make_table(tmp_path, SCHEMA, properties={"format-version": version})
    table.append(_rows(0))
    for number, (column, transform) in enumerate(FIELDS):
        with table.update_spec() as update:
            update.add_field(column, transform, f"f{number}")
        if number % 4 == 0:
            table.append(_rows(number))
    table.append(_rows(100))
    with table.update_spec() as update:
        update.remove_field("f0")
        update.rename_field("f1", "année")
    table.append(_rows(200))

    inventory = _check(table, _open(tmp_path))

    numbers = _sequence_numbers(table)
    for one in inventory.slices():
        assert one.sequence_number == numbers[one.path]
    labels = inventory.files["partition"].unique().to_pylist()
    assert "" in labels
    assert any("année=2026/f2=2026-11/f3=2026-11-20/f4=2026-11-20-05" in one for one in labels)


def test_every_commit_is_dated_and_numbered(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    for start in (0, 10, 20):
        table.append(_rows(start))
    inventory = _open(tmp_path).inventory(_open(tmp_path).snapshot())

    times = {snapshot.sequence_number: snapshot.timestamp_ms for snapshot in table.snapshots()}
    found = zip(
        inventory.files["sequence_number"].to_pylist(),
        inventory.files["written_at_ms"].to_pylist(),
        strict=True,
    )
    assert dict(found) == times


def test_a_file_whose_snapshot_was_expired_has_no_date(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    table.append(_rows(0))
    first = table.current_snapshot()
    assert first is not None
    table.append(_rows(10))
    table.maintenance.expire_snapshots().by_id(first.snapshot_id).commit()
    opened = _open(tmp_path)

    times = opened.inventory(opened.snapshot()).files["written_at_ms"].to_pylist()
    assert times.count(None) == 1
    with pytest.raises(SnapshotNotFoundError, match="has no snapshot"):
        opened.snapshot(str(first.snapshot_id))


def test_deletes_of_one_file_of_a_partition_and_of_several(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    with table.update_spec() as update:
        update.add_field("name", IdentityTransform(), "name")
    table.append(_rows(0))
    first = data_files(table)
    delete_positions(table, first[0], [1])
    table.append(_rows(10))
    with table.update_spec() as update:
        update.remove_field("name")
    table.append(_rows(20))
    files = data_files(table)
    same = [file for file in files if file.spec_id == first[0].spec_id][:2]
    wide = {file.file_path: [0] for file in files if file.partition == same[0].partition}
    commit_deletes(
        table,
        write_position_deletes(table, wide, like=same[0]),
        write_position_deletes(table, wide, like=same[0], bounds=False),
        write_position_deletes(table, {files[-1].file_path: [2]}, like=files[-1]),
    )
    table.append(_rows(30))

    inventory = _check(table, _open(tmp_path))

    assert inventory.delete_files.num_rows == 4
    targets = inventory.delete_files["target"].to_pylist()
    assert sorted(map(bool, targets)) == [False, False, True, True]


def test_a_snapshot_of_the_past_is_read_as_it_was(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    opened = _open(tmp_path)
    empty = opened.snapshot()
    assert (empty.snapshot_id, empty.operation) == ("", "")
    assert opened.inventory(empty).file_count == 0
    table.append(_rows(0))
    one = opened.snapshot()
    table.append(_rows(10))
    two = opened.snapshot()

    assert two.parent_id == one.snapshot_id
    assert opened.inventory(two).file_count == 2
    assert opened.inventory(one).file_count == 1
    assert opened.snapshot(one.snapshot_id) == one
    assert opened.inventory(empty).file_count == 0


@pytest.mark.parametrize("version", ["1", "2"])
def test_manifests_of_files_that_an_older_snapshot_added(tmp_path: Path, version: str) -> None:
    table = make_table(tmp_path, SCHEMA, properties={"format-version": version})
    with table.update_spec() as update:
        update.add_field("name", IdentityTransform(), "name")
    table.append(_rows(0))
    added = _sequence_numbers(table)
    table.delete("name = 'né/0=x'")
    table.append(_rows(10))
    head = table.refresh().current_snapshot()
    assert head is not None
    counts = [(one.added_files_count, one.existing_files_count) for one in head.manifests(table.io)]
    assert (0, 1) in counts

    inventory = _check(table, _open(tmp_path))

    (kept,) = [one for one in inventory.slices() if one.path in added]
    assert kept.sequence_number == added[kept.path]


def test_a_table_whose_files_are_all_gone(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    table.append(_rows(0))
    table.delete("id >= 0")
    opened = _open(tmp_path)

    assert opened.inventory(opened.snapshot()).file_count == 0


def test_a_file_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    table.append(_rows(0))
    (file,) = data_files(table)
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        append.append_data_file(file)
    opened = _open(tmp_path)

    with pytest.raises(CorruptTableError, match="more than once"):
        opened.inventory(opened.snapshot())


FILE_ROWS = st.lists(st.tuples(st.sampled_from("pqr"), st.integers(0, 4)), max_size=20)
BOUNDS = st.none() | st.sampled_from(["f03", "f07", "f12"])
DELETE_ROWS = st.lists(
    st.tuples(
        st.sampled_from("pqs"),
        st.integers(0, 4),
        st.none() | st.integers(0, 25).map(lambda number: f"f{number:02}"),
        BOUNDS,
        BOUNDS,
        st.sampled_from(["positions", "values", "values everywhere"]),
    ),
    max_size=12,
)


def _applies(file: tuple[str, str, int], delete: tuple[Any, ...]) -> bool:
    path, partition, sequence = file
    scope, delete_sequence, target, lower, upper, kind = delete
    if kind != "positions":
        return delete_sequence > sequence and (scope == partition or kind == "values everywhere")
    if delete_sequence < sequence:
        return False
    if target is not None:
        return bool(target == path)
    inside = (lower is None or lower <= path) and (upper is None or path <= upper)
    return scope == partition and inside


@given(FILE_ROWS, DELETE_ROWS, st.integers(1, 30))
def test_deletes_attach_by_the_rule(
    file_rows: list[tuple[str, int]], delete_rows: list[tuple[Any, ...]], pairs_max: int
) -> None:
    files = [(f"f{at:02}", *row) for at, row in enumerate(file_rows)]
    file_table = pa.table(
        {
            "path": [path for path, _, _ in files],
            "size_bytes": [1] * len(files),
            "row_count": [1] * len(files),
            "partition_key": pa.array([part for _, part, _ in files], pa.string()),
            "partition": pa.array([part for _, part, _ in files], pa.string()),
            "sequence_number": [number for _, _, number in files],
            "snapshot_id": [None] * len(files),
            "first_row_id": [None] * len(files),
            "path_hash": range(len(files)),
        }
    ).cast(FILES)
    columns = list(zip(*delete_rows, strict=True)) or [[]] * 6
    delete_table = pa.table(
        {
            "path": [f"d{at}" for at in range(len(delete_rows))],
            "size_bytes": [1] * len(delete_rows),
            "row_count": [1] * len(delete_rows),
            "sequence_number": pa.array(columns[1], pa.int64()),
            "target": pa.array(columns[2], pa.string()),
            "equality_ids": pa.array(
                [None if kind == "positions" else [1] for kind in columns[5]],
                DELETE_FILES.field("equality_ids").type,
            ),
            "partition_key": pa.array(columns[0], pa.string()),
            "is_global": [kind == "values everywhere" for kind in columns[5]],
            "path_lower": pa.array(columns[3], pa.string()),
            "path_upper": pa.array(columns[4], pa.string()),
        }
    ).cast(DELETE_FILES_SCOPED)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("catalog.iceberg.inventory._PAIRS_MAX", pairs_max)
        found = attach(file_table, delete_table, lambda _, __: ()).to_pylist()

    assert found == [
        [at for at, delete in enumerate(delete_rows) if _applies(file, delete)] for file in files
    ]


def test_more_pairs_by_values_than_memory_should_hold_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(tmp_path, pa.schema([("id", pa.int64())]))
    for number in range(2):
        table.append(pa.table({"id": [number]}))
    commit_deletes(table, write_equality_deletes(table, "id", [1]))
    opened = _open(tmp_path)
    assert opened.inventory(opened.snapshot()).files["deletes"].to_pylist() == [[0], [0]]

    monkeypatch.setattr("catalog.iceberg.inventory._PAIRS_IN_ALL_MAX", 1)
    with pytest.raises(UnsupportedTableError, match="more than 1 times"):
        opened.inventory(opened.snapshot())


RARE = Schema(
    NestedField(1, "uuid", UUIDType()),
    NestedField(2, "fixed", FixedType(3)),
    NestedField(3, "time", TimeType()),
    NestedField(4, "float", FloatType()),
    NestedField(5, "moment", TimestamptzType()),
    NestedField(6, "wide", DecimalType(38, 0)),
)
RARE_VALUES: list[tuple[Any, ...]] = [
    (uuid.UUID(int=7), b"\x00a\xff", 86399999999, 0.1, -1, Decimal(10**38 - 1)),
    (uuid.UUID(int=8), b"abc", 0, math.inf, 2**52, Decimal(-1)),
    (None,) * 6,
]


def test_partitions_of_rare_types(tmp_path: Path) -> None:
    fields = (
        PartitionField(field.field_id, 1000 + field.field_id, IdentityTransform(), f"p{field.name}")
        for field in RARE.fields
    )
    table = make_table(tmp_path, RARE, spec=PartitionSpec(*fields))
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for number, values in enumerate(RARE_VALUES):
            file = DataFile.from_args(
                content=DataFileContent.DATA,
                file_path=f"{table.location()}/data/{number}.parquet",
                file_format=FileFormat.PARQUET,
                partition=Record(*values),
                record_count=1,
                file_size_in_bytes=100,
            )
            file.spec_id = table.spec().spec_id
            append.append_data_file(file)

    inventory = _check(table, _open(tmp_path))

    by_path = {one.path[-9]: decode_key(one.partition_key)[1] for one in inventory.slices()}
    for number, values in enumerate(RARE_VALUES):
        found = by_path[str(number)]
        assert found[3] == (values[3] and pytest.approx(values[3]))
        assert found[:3] + found[4:] == [*values[:3], *values[4:]]
    assert "ptime=23:59:59.999999/" in inventory.files["partition"].to_pylist()[0]


def test_partitions_of_a_column_that_was_dropped(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    with table.update_spec() as update:
        update.add_field("day", IdentityTransform(), "day")
    table.append(_rows(0))
    with table.update_spec() as update:
        update.remove_field("day")
    with table.update_schema(allow_incompatible_changes=True) as change:
        change.delete_column("day")
    table.append(_rows(10).drop_columns(["day"]))
    opened = _open(tmp_path)

    snapshot = opened.snapshot()
    inventory = opened.inventory(snapshot)
    assert "day=2026-12-10" in inventory.files["partition"].to_pylist()
    files = opened.files(snapshot)
    assert all(files.fillings(one) == {} for one in inventory.slices())
    assert files.schema.arrow.get_field_index("day") == -1
