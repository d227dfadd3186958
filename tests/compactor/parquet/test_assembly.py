"""Row groups put together from column chunks of several files: only what must is encoded anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import UnsupportedTableError
from compactor.parquet import Assembly, SpliceSource, plan_splice
from compactor.parquet.reading import read_page_indexes
from compactor.parquet.rendering import render_tail
from tests.compactor.parquet import decoded
from tests.compactor.parquet.corpus import (
    FILTERS,
    STORAGE,
    opened,
    read,
    rows,
    spliced,
    whole,
    with_pyarrow,
)

GROUPS = 3
LAYOUT = {"store_schema": False, "write_page_index": True, "write_page_checksum": True}


def file(path: Path, table: pa.Table, **options: object) -> SpliceSource:
    with_pyarrow(path, table, **(LAYOUT | options))
    return whole(path)


def columns(source: SpliceSource, row_group: int, first: int, last: int) -> SpliceSource:
    return SpliceSource(source.footer, [row_group], range(first, last))


def test_a_column_added_later_is_all_that_is_encoded(tmp_path: Path) -> None:
    """Files from before a column was added, and one from after, become one file."""
    old_rows = rows(0).drop_columns(["list"])
    old = file(tmp_path / "old", old_rows, bloom_filter_options=FILTERS)
    new = file(tmp_path / "new", rows(1), compression="zstd", bloom_filter_options=FILTERS)
    added = pa.table({"list": pa.nulls(600, pa.list_(pa.int64()))})
    nulls = file(tmp_path / "nulls", added, compression="zstd")
    at = 18
    count = old.footer.column_count
    assemblies = [
        Assembly(
            (
                columns(old, group, 0, at),
                columns(nulls, group, 0, 1),
                columns(old, group, at, count),
            )
        )
        for group in range(GROUPS)
    ]
    output = tmp_path / "out.parquet"
    plan = plan_splice([*assemblies, new], like=new.footer)
    assert plan.row_counts == (250, 250, 100) * 2
    spliced([*assemblies, new], output, like=new.footer)
    want = pa.concat_tables(
        [read(tmp_path / "old").add_column(at, "list", added["list"]).select(rows(1).column_names)]
    )
    found = read(output)
    assert repr(found.slice(0, 600).to_pylist()) == repr(want.to_pylist())
    assert repr(found.slice(600).to_pylist()) == repr(read(tmp_path / "new").to_pylist())
    met = decoded.check_pages(output)
    assert met["filters"] == 2 * 2 * GROUPS
    assert met["indexed pages"] > met["chunks"]
    for one, group in enumerate(decoded.footer(output)[4]):
        assert group[2] == sum(chunk[3][6] for chunk in group[1]), one
        assert group[6] == sum(chunk[3][7] for chunk in group[1]), one
    with duckdb.connect() as connection:
        query = f"SELECT count(*), count(list), max(id) FROM '{output}'"
        lists = 600 - rows(1)["list"].null_count
        assert connection.sql(query).fetchall() == [(1200, lists, 1199)]
    frame = pl.scan_parquet(output).filter(pl.col("id") == 601).select("name").collect()
    assert frame.rows() == [("name-0000601",)]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    replaced=st.sets(st.integers(0, 5)),
    codecs=st.tuples(*[st.sampled_from(["none", "snappy", "zstd"])] * 2),
    pages=st.tuples(*[st.sampled_from(["1.0", "2.0"])] * 2),
    index=st.tuples(st.booleans(), st.booleans()),
)
def test_any_columns_from_either_of_two_files(
    replaced: set[int],
    codecs: tuple[str, str],
    pages: tuple[str, str],
    index: tuple[bool, bool],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("either")
    names = ["id", "name", "double", "list", "price", "labels"]
    spans = {"id": 1, "name": 1, "double": 1, "list": 1, "price": 1, "labels": 2}
    tables = [rows(seed).select(names) for seed in range(2)]
    sources = [
        file(
            directory / str(one),
            table,
            compression=codecs[one],
            data_page_version=pages[one],
            write_page_index=index[one],
        )
        for one, table in enumerate(tables)
    ]
    assemblies = []
    for group in range(GROUPS):
        parts, leaf = [], 0
        for number, name in enumerate(names):
            source = sources[number in replaced]
            parts.append(columns(source, group, leaf, leaf + spans[name]))
            leaf += spans[name]
        assemblies.append(Assembly(tuple(parts)))
    output = spliced(list(assemblies), directory / "out.parquet")
    decoded.check_pages(output)
    want = {name: tables[number in replaced][name] for number, name in enumerate(names)}
    assert repr(read(output).to_pylist()) == repr(pa.table(want).to_pylist())


def test_assemblies_that_do_not_fit(tmp_path: Path) -> None:
    table = rows(0).select(["id", "name", "point"])
    source = file(tmp_path / "a", table)
    other = file(tmp_path / "b", table.slice(0, 400))
    with pytest.raises(ValueError, match="same rows"):
        plan_splice([Assembly((columns(source, 1, 0, 1), columns(other, 1, 1, 4)))])
    with pytest.raises(ValueError, match="same rows"):
        plan_splice([Assembly((source,))])
    with pytest.raises(ValueError, match="not all columns"):
        plan_splice([columns(source, 0, 0, 2)])
    for ranges in ([(0, 2)], [(0, 3), (3, 4)], [(1, 2), (0, 1), (2, 4)], [(0, 4), (3, 4)]):
        parts = tuple(columns(source, 0, *one) for one in ranges)
        with pytest.raises(UnsupportedTableError, match=r"not those of the schema|are divided"):
            plan_splice([Assembly(parts)])


def test_page_indexes_of_a_file_are_read_at_once(tmp_path: Path) -> None:
    """Though its row groups are many sources, and the end of the file was not kept."""
    names = ["id", "name", "double"]
    first, second = (file(tmp_path / str(one), rows(one).select(names)) for one in range(2))
    parts = [replace(one, footer=replace(one.footer, tail=b"")) for one in (first, second)]
    assemblies = [
        Assembly((columns(parts[0], at, 0, 1), columns(parts[1], at, 1, 3))) for at in range(GROUPS)
    ]
    storage = STORAGE.metered()
    plan = plan_splice(assemblies)
    with_tail = plan_splice(
        [Assembly((columns(first, at, 0, 1), columns(second, at, 1, 3))) for at in range(GROUPS)]
    )
    found = render_tail(plan, read_page_indexes(storage, plan.sources))
    assert storage.tally().requests == 2
    assert found == render_tail(with_tail, read_page_indexes(storage, with_tail.sources))
    assert storage.tally().requests == 2


def test_sorted_row_groups_are_not_assembled(tmp_path: Path) -> None:
    table = rows(0).select(["id", "tag"])
    order = [pq.SortingColumn(0)]
    source = file(tmp_path / "a", table, sorting_columns=order)
    parts = (columns(source, 0, 0, 1), columns(source, 0, 1, 2))
    with pytest.raises(UnsupportedTableError, match="sorted"):
        plan_splice([Assembly(parts)])
    output = spliced([source, source], tmp_path / "out.parquet")
    metadata = pq.read_metadata(output)
    assert all(list(metadata.row_group(i).sorting_columns) == order for i in range(2 * GROUPS))


def test_the_file_says_what_it_is_told_to_say(tmp_path: Path) -> None:
    source = file(tmp_path / "in", rows(0))
    empty = opened_with_notes(tmp_path / "like", {"iceberg.schema": "{}"})
    output = spliced([source], tmp_path / "out.parquet", like=empty.footer)
    assert pq.read_metadata(output).metadata[b"iceberg.schema"] == b"{}"
    assert repr(read(output).to_pylist()) == repr(read(tmp_path / "in").to_pylist())


def opened_with_notes(path: Path, notes: dict[str, str]) -> SpliceSource:
    schema = rows(0).schema
    with pq.ParquetWriter(path, schema, store_schema=False) as writer:
        writer.add_key_value_metadata(notes)
    return SpliceSource(opened(path), [])
