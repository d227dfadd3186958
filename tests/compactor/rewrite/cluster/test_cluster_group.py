"""What a worker makes of a file group: the same rows in order across its files, and their stamp."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import StorageFullError
from catalog.layout import SortField
from catalog.schema import TableSchema
from compactor.clustering import STAMP_KEY, Clustering, Strategy
from compactor.errors import VerificationError
from compactor.rewrite.cluster import group as group_module
from compactor.rewrite.cluster.bounds import BoundsReader
from compactor.rewrite.cluster.external import put_together
from compactor.rewrite.cluster.group import cluster_group
from compactor.rewrite.cluster.row_order import RowOrder, make_frame
from compactor.rewrite.cluster.sample import sample_keys
from compactor.rewrite.cluster.stamp import decode_stamp, encode_stamp
from compactor.rewrite.task import RewriteResult
from tests.compactor.rewrite.cluster.orders import clusterings, has_order, sorted_rows
from tests.compactor.rewrite.generated import tables
from tests.compactor.rewrite.tables import (
    LAYOUT,
    LocalTable,
    inventory,
    make_task,
    output_files,
    with_ids,
    write_file,
)

MIB = 1 << 20
FIELDS = (SortField(1, ("a",)), SortField(2, ("b",)))
SORT = Clustering(Strategy.SORT, FIELDS)


def numbers(seed: int, rows: int = 3_000) -> pa.Table:
    chance = np.random.default_rng(seed)
    columns = {
        "a": pa.array(chance.integers(0, 100, rows), mask=chance.random(rows) < 0.05),
        "b": pa.array([f"text {one}" for one in chance.integers(0, 1_000, rows)]),
        "f": chance.integers(0, 1 << 63, rows, dtype=np.uint64).view(np.float64),
    }
    table = pa.table(columns)
    return table.cast(with_ids(table.schema))


def make_table(directory: Path, parts: list[pa.Table]) -> tuple[LocalTable, list[str]]:
    paths = [write_file(directory / f"{i}.parquet", part) for i, part in enumerate(parts)]
    layout = replace(LAYOUT, row_group_rows_max=700)
    return LocalTable(str(directory), TableSchema(parts[0].schema), layout), paths


def read_outputs(table: LocalTable, result: RewriteResult) -> pa.Table:
    assert [str(path) for path in output_files(table)] == [
        file.path.removeprefix("file://") for file in result.outputs
    ]
    return pa.concat_tables(
        pq.read_table(path, schema=table.schema.arrow) for path in output_files(table)
    )


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_rows_of_any_schema_come_out_in_order(data: st.DataObject) -> None:
    rows = data.draw(tables(min_size=1, max_size=30).filter(lambda one: has_order(one.schema)))
    clustering = data.draw(clusterings(rows.schema))
    cut = data.draw(st.integers(0, rows.num_rows))
    with TemporaryDirectory() as directory:
        table, paths = make_table(Path(directory), [rows.slice(0, cut), rows.slice(cut)])
        # Every row is decoded again: the proof compares them bit by bit, in any order.
        result = cluster_group(
            make_task(table, paths), clustering, data.draw(st.sampled_from([64, MIB]))
        )
        found = read_outputs(table, result)
    expected = rows.take(pa.array(sorted_rows(rows, clustering.fields)))
    assert found.equals(expected)


@pytest.mark.parametrize("strategy", list(Strategy)[1:])
@pytest.mark.parametrize("memory_bytes", [20_000, 64 * MIB])
def test_files_follow_each_other_and_say_so(
    tmp_path: Path, strategy: Strategy, memory_bytes: int
) -> None:
    parts = [numbers(seed) for seed in range(4)]
    table, paths = make_table(tmp_path, parts)
    table = table.dropping(paths[1], [0, 5, 2_999])
    files = inventory(paths)
    frame = make_frame(sample_keys(table, files, FIELDS), FIELDS) if strategy.is_curve else None
    clustering = Clustering(strategy, FIELDS, frame)
    result = cluster_group(make_task(table, paths, target_bytes=30_000), clustering, memory_bytes)
    assert len(result.outputs) > 2
    assert result.rows_written == 12_000 - 3
    rows = pa.concat_tables([parts[0], parts[1].slice(1, 4), parts[1].slice(6, 2_993), *parts[2:]])
    order = RowOrder(clustering, rows.schema)
    expected = rows.take(pa.array(order.permutation(put_together(rows.to_batches(), rows.schema))))
    found = read_outputs(table, result)
    # Floats of any bits are compared as numbers of the same bits.
    for one in (found, expected):
        bits = one["f"].combine_chunks().view(pa.int64())
        assert bits.equals(expected["f"].combine_chunks().view(pa.int64()))
    assert found.drop_columns("f").equals(expected.drop_columns("f"))
    stamps = [decode_stamp(pq.read_metadata(path).metadata[STAMP_KEY.encode()])
              for path in output_files(table)]  # fmt: skip
    ends = [end for stamp in stamps if stamp for end in (stamp.first, stamp.last)]
    assert ends == sorted(ends)
    assert {stamp.order_id for stamp in stamps if stamp} == {clustering.order_id}
    assert {stamp.frame for stamp in stamps if stamp} == {frame}


def test_bounds_are_read_from_footers(tmp_path: Path) -> None:
    table, paths = make_table(tmp_path, [numbers(1), numbers(2)])
    Path(paths[1]).write_bytes(b"PAR1 no more")
    files = pa.table({"path": paths, "size_bytes": [Path(path).stat().st_size for path in paths]})
    found = BoundsReader(table, SORT)(files)
    assert found.files["order_id"].to_pylist() == [None, None]
    assert found.files["lower"].is_valid().to_pylist() == [True, False]
    assert found.row_groups["rows"].to_pylist() == [3_000]
    assert found.row_groups["lower_1"].to_pylist() == [b"text 0"]
    a_bounds = [found.row_groups[name][0].as_py() for name in ("lower_0", "upper_0")]
    assert [int.from_bytes(one, "big") - (1 << 63) for one in a_bounds] == [0, 99]


def test_a_stamp_that_is_no_stamp_is_none() -> None:
    clustering = Clustering(Strategy.ZORDER, FIELDS, make_frame(numbers(1).to_batches()[0], FIELDS))
    assert clustering.frame is not None
    for text in (b"", b"?", b"eJwDAAAAAAE=", encode_stamp.__name__.encode()):
        assert decode_stamp(text) is None


def test_rows_out_of_order_are_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, paths = make_table(tmp_path, [numbers(1)])
    sort = group_module.ExternalSort
    monkeypatch.setattr(sort, "batches", lambda self: iter(self._ranges[0].waiting))
    with pytest.raises(VerificationError, match="not in the order"):
        cluster_group(make_task(table, paths), SORT, 64 * MIB)
    assert output_files(table) == []


def test_a_full_disk_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, paths = make_table(tmp_path, [numbers(1)])

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(StorageFullError, match="no room for rows"):
        cluster_group(make_task(table, paths), SORT, 20_000)
    assert output_files(table) == []


def test_a_group_without_rows_becomes_no_file(tmp_path: Path) -> None:
    table, paths = make_table(tmp_path, [numbers(1, rows=3)])
    table = table.dropping(paths[0], [0, 1, 2])
    result = cluster_group(make_task(table, paths), SORT, MIB)
    assert (result.outputs, result.rows_dropped) == ((), 3)
