"""What follows from the file a row is in is stored before the row leaves that file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.commits import Commit, Rewrite
from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.memory import ROW_ID, ROW_VERSION, Features, MemoryTable
from catalog.model import Filling
from catalog.schema import TableSchema
from catalog.table import Table
from compactor.jobs.verification import verify_snapshots
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.task import Proof, RewriteResult, RewriteTask
from compactor.splicing import SpliceLimits
from runtime.connect import connect
from tests.catalog.conformance import fill
from tests.catalog.delta.tracked import TrackedLake
from tests.catalog.groups import partitions, read_group
from tests.compactor.rewrite.tables import LocalTable, make_task, with_ids, write_file
from tests.compactor.rewrite.test_mixed import ANYTHING

SCHEMA = with_ids(
    pa.schema(
        [
            pa.field("id", pa.int64()),
            pa.field("day", pa.int32()),
            pa.field("tags", pa.list_(pa.field("element", pa.string()))),
        ]
    )
)


def sample(start: int, count: int) -> pa.Table:
    numbers = list(range(start, start + count))
    return pa.table([numbers, [7] * count, [[f"tag {n}", None] for n in numbers]], SCHEMA)


def rows(table: MemoryTable) -> list[dict[str, object]]:
    snapshot = table.snapshot()
    found, _ = read_group(table.files(snapshot), table.inventory(snapshot))
    return sorted(found.to_pylist(), key=lambda row: row["id"])


def compact(table: Table, splice: SpliceLimits | None = ANYTHING) -> list[RewriteResult]:
    """Rewrite every partition and commit it."""
    snapshot = table.snapshot()
    groups = partitions(table.inventory(snapshot))
    tasks = [
        RewriteTask(
            table=table.files(snapshot),
            partition_key=key,
            files=group,
            attempt_id=f"job-{snapshot.snapshot_id}-{number}",
            target_file_size_bytes=1 << 29,
            proof=Proof.FULL,
            splice=splice,
        )
        for number, (key, group) in enumerate(groups.items())
    ]
    results = [rewrite_group(task) for task in tasks]
    rewrites = tuple(
        Rewrite(task.attempt_id, task.files, result.outputs, result.rows_dropped)
        for task, result in zip(tasks, results, strict=True)
    )
    assert not table.commit(Commit(snapshot.snapshot_id, snapshot, rewrites)).conflicts
    return results


def outputs(results: Sequence[RewriteResult]) -> list[pq.ParquetFile]:
    return [pq.ParquetFile(one.path) for result in results for one in result.outputs]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    dropped=st.sets(st.integers(0, 59)),
    stored=st.sampled_from(["nothing", "ids", "some ids"]),
    splice=st.sampled_from([ANYTHING, None]),
)
def test_ids_and_versions_of_rows_survive(
    sizes: list[int],
    dropped: set[int],
    stored: str,
    splice: SpliceLimits | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("lineage")
    table = MemoryTable(directory, SCHEMA, features=Features(has_row_lineage=True))
    for number, size in enumerate(sizes):
        some = sample(number * 100, size)
        if stored != "nothing" and number % 2:
            ids = [n + 10_000 for n in range(size)]
            if stored == "some ids":
                ids[::2] = [None] * len(ids[::2])
            some = some.append_column(ROW_ID, pa.array(ids, pa.int64()))
            some = some.append_column(ROW_VERSION, pa.array(ids, pa.int64()))
        path = table.append(some)
        table.delete_rows(path, [row for row in sorted(dropped) if row < size])
    before = rows(table)
    results = compact(table, splice)
    assert rows(table) == before
    for file in outputs(results):
        assert file.read()[ROW_ID.name].null_count == 0
    again = compact(table, splice)
    assert rows(table) == before
    if splice is not None:
        assert not any(one.splice.reasons for one in again)


def test_rows_of_a_delta_table_keep_their_ids(tmp_path: Path) -> None:
    lake = TrackedLake(tmp_path)
    files = fill(lake)
    lake.delete({files["b"][1]: [0, 9]})
    lake.update(files["a"][0], [2, 3], "changed")
    ids, before = lake.lineage(), lake.rows()
    first, second = compact(lake.table), compact(lake.table)
    assert (lake.lineage(), lake.rows()) == (ids, before)
    # Only the file with deleted rows was encoded as a whole, and nothing the second time.
    assert sum(one.splice.row_groups_patched for one in first) == 5
    assert sum(one.splice.row_groups for one in second) == 6


def test_rows_whose_ids_are_not_stored_are_not_copied_as_they_are(tmp_path: Path) -> None:
    table = MemoryTable(tmp_path, SCHEMA, features=Features(has_row_lineage=True))
    ids = pa.array([5, None], pa.int64())
    some = sample(0, 2).append_column(ROW_ID, ids)
    table.append(some.append_column(ROW_VERSION, pa.array([1, 1], pa.int64())))
    (result,) = compact(table)
    assert (result.splice.row_groups, result.splice.row_groups_patched) == (0, 1)
    row_ids = outputs([result])[0].read()[ROW_ID.name]
    assert row_ids.to_pylist() == [5, 1]


@pytest.mark.parametrize("splice", [ANYTHING, None])
def test_files_without_field_ids_stay_without(tmp_path: Path, splice: SpliceLimits | None) -> None:
    table = MemoryTable(tmp_path, SCHEMA, features=Features(has_field_ids=False))
    paths = [table.append(sample(n * 100, 50)) for n in range(3)]
    table.delete_rows(paths[1], [3])
    before = rows(table)
    (result,) = compact(table, splice)
    assert result.splice.row_groups == (0 if splice is None else 2)
    assert rows(table) == before
    for file in outputs([result]):
        assert "field_id=-1 id" in str(file.schema)
        assert "field_id=-1 element" in str(file.schema)


def test_field_ids_mean_nothing_where_the_table_has_none(tmp_path: Path) -> None:
    """A file brought along from another table: its ids are those of other columns."""
    names = SCHEMA.names
    numbers = {("id",): 1, ("day",): 2, ("tags",): 3, ("tags", "element"): 4}
    schema = TableSchema(SCHEMA, tuple(numbers.items()), has_field_ids=False)
    table = LocalTable(str(tmp_path), schema)
    foreign = with_ids(pa.schema(reversed(list(SCHEMA))))
    path = write_file(tmp_path / "a.parquet", sample(0, 9).select(names[::-1]).cast(foreign))
    result = rewrite_group(replace(make_task(table, [path]), splice=ANYTHING))
    assert pq.read_table(result.outputs[0].path).to_pylist() == sample(0, 9).to_pylist()


@pytest.mark.parametrize("has_field_ids", [True, False])
def test_partition_columns_are_seen_and_not_stored(tmp_path: Path, has_field_ids: bool) -> None:
    features = Features(has_field_ids, partition_columns=frozenset({"day"}))
    table = MemoryTable(tmp_path, SCHEMA, features=features)
    for number in range(6):
        table.append(sample(number * 10, 10), f"day={number % 2}")
    before, first = rows(table), table.snapshot()
    results = compact(table)
    assert rows(table) == before
    assert {row["day"] for row in before} == {0, 1}
    assert all(file.schema_arrow.names == ["id", "tags"] for file in outputs(results))
    with connect("inline") as runtime:
        last = table.snapshot().snapshot_id
        assert verify_snapshots(table, first.snapshot_id, last, runtime=runtime).is_equal
        # The same rows in another partition are other rows.
        inventory = table.inventory(table.snapshot())
        moved = next(one for one in inventory.slices() if one.partition_key == "day=0")
        table.append(pq.read_table(moved.path), "day=2")
        table.remove(moved.path)
        last = table.snapshot().snapshot_id
        assert not verify_snapshots(table, first.snapshot_id, last, runtime=runtime).is_equal


def test_a_column_that_is_in_no_file_is_not_read_from_one(tmp_path: Path) -> None:
    table = LocalTable(
        str(tmp_path),
        TableSchema(SCHEMA, unstored=frozenset({2})),
        fixed=((2, Filling(pa.scalar(1, pa.int32()))),),
    )
    path = write_file(tmp_path / "a.parquet", sample(0, 9))
    result = rewrite_group(make_task(table, [path]))
    assert pq.read_schema(result.outputs[0].path).names == ["id", "tags"]


def test_values_that_cannot_be_counted_are_refused(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.parquet", sample(0, 9).drop_columns(["day"]))
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA))
    counted = replace(table, fixed=((2, Filling(pa.scalar(1), step=1)),))
    with pytest.raises(UnsupportedTableError, match="counts rows"):
        rewrite_group(make_task(counted, [path]))
    long = TableSchema(pa.schema([SCHEMA.field(0), SCHEMA.field(1).with_type(pa.int64())]))
    beyond = Filling(pa.scalar((1 << 63) - 3), step=1)
    with pytest.raises(CorruptTableError, match="exceed 64 bits"):
        rewrite_group(make_task(replace(table, schema=long, fixed=((2, beyond),)), [path]))
