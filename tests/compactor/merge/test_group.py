"""A merged file group holds what a dictionary would hold, and copies what no change touches."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import ObjectNotFoundError
from catalog.layout import SortField
from catalog.memory import Features, MemoryTable
from catalog.model import Inventory
from catalog.schema import TableSchema
from catalog.table import TableFiles
from compactor.clustering import Clustering, Strategy
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import ChangeSet, Source, change_set, changeable
from compactor.merge.choice import WriteMode
from compactor.merge.completing import completed
from compactor.merge.finding import find_hits
from compactor.merge.group import MergeTask, Replacing, merge_group
from compactor.merge.latest import latest
from compactor.merge.matching import Matcher
from compactor.merge.outcome import settle
from compactor.merge.rules import MergeRules
from compactor.merge.tasks import MergeOptions, merge_tasks
from compactor.rewrite.read import SliceReader
from compactor.rewrite.task import Proof, RewriteResult
from compactor.splicing import SpliceLimits
from tests.compactor.merge import drawn, model
from tests.compactor.rewrite.tables import (
    MIB,
    LocalTable,
    described,
    inventory,
    output_files,
    with_ids,
    write_file,
)

EVERYTHING = SpliceLimits(
    row_group_bytes_min=0,
    chunk_bytes_min=0,
    row_group_bytes_max=512 * MIB,
    row_groups_max=1 << 15,
    footer_bytes_max=64 * MIB,
    keeps_layout=False,
)


def merge(
    table: TableFiles,
    files: Inventory,
    changes: ChangeSet,
    rules: MergeRules,
    **options: Any,
) -> tuple[list[MergeTask], Inventory]:
    """Return the tasks that merge changes into the files they hit, and the other files."""
    last = latest(changes, rules, changeable(table.schema))
    outcome = settle(last, find_hits(table, files, Matcher(last, [], rules)).hits)
    rows = completed(table, last, outcome, files)
    target = options.pop("target_file_size_bytes", 512 * MIB)
    wanted = MergeOptions("job-1-a", target, Proof.FULL, **options)
    tasks = list(merge_tasks(table, files, outcome, rows, options=wanted))
    is_kept = [path not in outcome.dropped for path in files.files["path"].to_pylist()]
    return tasks, files.take(np.flatnonzero(is_kept))


def rows_in(table: TableFiles, files: Inventory) -> list[dict[str, Any]]:
    reader = SliceReader.of(table, files, TableSchema(changeable(table.schema)))
    found = [batch for file in files.slices() for batch in reader.batches(file)]
    return [row for batch in found for row in batch.to_pylist()]


def outputs_of(result: RewriteResult) -> Inventory:
    return described([(one.path, one.size_bytes, one.row_count) for one in result.outputs])


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    lacking=st.booleans(),
    splice=st.sampled_from([None, EVERYTHING]),
    mode=st.sampled_from(WriteMode),
    target=st.sampled_from([600, 512 * MIB]),
)
def test_any_merge_gives_what_a_dictionary_gives(
    data: st.DataObject,
    lacking: bool,
    splice: SpliceLimits | None,
    mode: WriteMode,
    target: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    schema = data.draw(drawn.schemas())
    key = drawn.key_of(schema)
    records = data.draw(st.lists(drawn.rows(schema), min_size=1, max_size=12))
    unique = {repr([model.canonical(row[name]) for name in key]): row for row in records}
    base = pa.Table.from_pylist(list(unique.values()), schema)
    directory = tmp_path_factory.mktemp("table")
    cut = data.draw(st.integers(0, base.num_rows))
    paths = [
        write_file(directory / f"{at}.parquet", part, row_group_size=2, compression="zstd")
        for at, part in enumerate((base.slice(0, cut), base.slice(cut)))
        if part.num_rows
    ]
    table: LocalTable = LocalTable(str(directory), TableSchema(schema))
    files = data.draw(drawn.files_of_changes(schema, lacking=lacking))
    rules = MergeRules(key, op_column="op")
    changes = data.draw(drawn.batched([source for source, _ in files], schema, rules))
    tasks, kept = merge(
        table,
        inventory(paths),
        changes,
        rules,
        splice=splice,
        write_mode=mode,
        can_mark=True,
        target_file_size_bytes=target,
    )
    results = [merge_group(pickle.loads(pickle.dumps(task))) for task in tasks]
    expected = model.merged(
        base.to_pylist(),
        [change for _, some in files for change in some],
        columns=schema.names,
        key=key,
    )
    found = [row for result in results for row in rows_in(table, outputs_of(result))]
    for task in tasks:
        assert not (task.marks and task.replaced)
        assert set(task.marks or task.replaced) == set(task.rewrite.files.files["path"].to_pylist())
        if task.marks:
            found += rows_in(Replacing(table, task.marks), task.rewrite.files)
    assert model.as_bag(found + rows_in(table, kept)) == model.as_bag(expected)
    for result in results:
        assert result.rows_read - result.rows_dropped + result.rows_added == result.rows_written
        assert result.digest is not None
        assert result.digest.row_count == result.rows_written


WIDE = with_ids(pa.schema([("id", pa.int64()), ("a", pa.string()), ("b", pa.string())]))


def rows_of(ids: range, suffix: str = "") -> pa.Table:
    numbers = list(ids)
    texts = [f"{one}{suffix}" for one in numbers]
    return pa.table([numbers, texts, texts], schema=WIDE)


def test_only_row_groups_with_a_hit_are_encoded_anew(tmp_path: Path) -> None:
    table = LocalTable(str(tmp_path), TableSchema(WIDE))
    paths = [
        write_file(
            tmp_path / f"{at}.parquet",
            rows_of(range(at * 1000, at * 1000 + 1000)),
            row_group_size=100,
            compression="zstd",
        )
        for at in range(3)
    ]
    rules = MergeRules(("id",))
    changes = change_set(Source(rows_of(range(1150, 1160), " new"), "changes"), WIDE, rules)
    (task,), kept = merge(table, inventory(paths), changes, rules, splice=EVERYTHING)
    result = merge_group(task)
    assert kept.files["path"].to_pylist() == [paths[0], paths[2]]
    assert result.splice.row_groups == 9
    assert (result.rows_dropped, result.rows_added, result.rows_written) == (10, 10, 1000)
    found = {row["id"]: row["a"] for row in rows_in(table, outputs_of(result))}
    assert found == {n: f"{n} new" if 1150 <= n < 1160 else str(n) for n in range(1000, 2000)}


def test_new_rows_need_no_file(tmp_path: Path) -> None:
    table = LocalTable(str(tmp_path), TableSchema(WIDE))
    rules = MergeRules(("id",))
    changes = change_set(Source(rows_of(range(10)), "changes"), WIDE, rules)
    (task,), _ = merge(table, Inventory.empty(), changes, rules)
    result = merge_group(task)
    assert (result.rows_read, result.rows_added, result.rows_written) == (0, 10, 10)
    assert len(rows_in(table, outputs_of(result))) == 10


def test_new_rows_take_their_place_in_the_order_of_the_table(tmp_path: Path) -> None:
    table = LocalTable(str(tmp_path), TableSchema(WIDE))
    path = write_file(tmp_path / "a.parquet", rows_of(range(0, 100, 2)))
    rules = MergeRules(("id",))
    changes = change_set(Source(rows_of(range(31, 41)), "changes"), WIDE, rules)
    order = Clustering(Strategy.SORT, (SortField(1, ("id",)),))
    (task,), _ = merge(table, inventory([path]), changes, rules, clustering=order)
    merge_group(task)
    (output,) = output_files(table)
    ids = pq.read_table(output)["id"].to_pylist()
    assert ids == sorted([*range(0, 100, 2), *range(31, 41, 2)])


def test_a_merge_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    schema = with_ids(
        pa.schema([pa.field("id", pa.int64()), pa.field("must", pa.string(), nullable=False)])
    )
    table = LocalTable(str(tmp_path), TableSchema(schema))
    rows = pa.table([[1], ["x"]], schema=schema)
    path = write_file(tmp_path / "a.parquet", rows)
    rules = MergeRules(("id",))
    known = change_set(Source(pa.table({"id": [1]}), "changes"), schema, rules)
    (task,), _ = merge(table, inventory([path]), known, rules)
    assert rows_in(table, outputs_of(merge_group(task))) == rows.to_pylist()
    output_files(table)[0].unlink()
    unknown = change_set(Source(pa.table({"id": [1, 2]}), "changes"), schema, rules)
    with pytest.raises(ChangesRefusedError, match="new keys lack it"):
        merge(table, inventory([path]), unknown, rules)
    Path(path).unlink()
    with pytest.raises(ObjectNotFoundError):
        merge_group(task)
    assert output_files(table) == []


def test_rows_keep_their_ids_when_they_are_updated_and_new_ones_have_none(tmp_path: Path) -> None:
    table = MemoryTable(tmp_path, WIDE, features=Features(has_row_lineage=True))
    table.append(rows_of(range(10)))
    snapshot = table.snapshot()
    side, rules = table.files(snapshot), MergeRules(("id",))
    changes = change_set(
        Source(rows_of(range(8, 12), " new"), "changes"), changeable(side.schema), rules
    )
    assert not changes.is_partial
    (task,), _ = merge(side, table.inventory(snapshot), changes, rules)
    (output,) = merge_group(task).outputs
    rows = pq.read_table(output.path.removeprefix("file://")).to_pylist()
    assert [row["_row_id"] for row in rows] == [*range(10), None, None]


def test_a_row_moves_to_the_partition_that_its_new_values_belong_to(tmp_path: Path) -> None:
    features = Features(partition_columns=frozenset({"b"}))
    table = MemoryTable(tmp_path, WIDE, features=features)
    for part in ("x", "y"):
        numbers = [1, 2] if part == "x" else [3, 4]
        rows = pa.table([numbers, ["old"] * 2, [part] * 2], schema=WIDE)
        table.append(rows, f"b={part}")
    snapshot = table.snapshot()
    side, rules = table.files(snapshot), MergeRules(("id",))
    moved = pa.table({"id": [2, 3, 9], "b": ["y", "y", "z"]})
    changes = change_set(Source(moved, "changes"), changeable(side.schema), rules)
    tasks, kept = merge(side, table.inventory(snapshot), changes, rules)
    found = {
        task.rewrite.partition_key: sorted(
            (row["id"], row["a"])
            for one in merge_group(task).outputs
            for row in pq.ParquetFile(one.path.removeprefix("file://")).read().to_pylist()
        )
        for task in tasks
    }
    assert kept.file_count == 0
    assert found == {
        "b=x": [(1, "old")],
        "b=y": [(2, "old"), (3, "old"), (4, "old")],
        "b=z": [(9, None)],
    }
