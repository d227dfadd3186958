"""A rewritten group holds the surviving rows of its inputs, in order, in the table's layout."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import ObjectExistsError, StorageFullError, UnsupportedTableError
from catalog.schema import TableSchema
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.leftovers import leftovers
from compactor.rewrite.task import Proof
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

SCHEMA = with_ids(
    pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("name", pa.string()),
            pa.field("price", pa.decimal128(12, 2)),
            pa.field("at", pa.timestamp("us", "UTC")),
            pa.field("key", pa.uuid()),
            pa.field("code", pa.binary(3)),
            pa.field("tags", pa.list_(pa.field("element", pa.string(), nullable=False))),
            pa.field("place", pa.struct([("x", pa.float64()), ("y", pa.float32())])),
            pa.field("more", pa.map_(pa.string(), pa.int32())),
        ]
    )
)


def sample(start: int, count: int, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed + start)
    return pa.Table.from_pylist(
        [
            {
                "id": start + i,
                "name": None if i % 7 == 0 else random.bytes(12).hex(),
                "price": int(random.integers(0, 10**6)),
                "at": 1_700_000_000_000_000 + i,
                "key": random.bytes(16),
                "code": b"abc",
                "tags": ["a"] * (i % 3),
                "place": None if i % 5 == 0 else {"x": float(i), "y": None},
                "more": [("k", i)],
            }
            for i in range(count)
        ],
        SCHEMA,
    )


def read_all(paths: list[Path]) -> pa.Table:
    return pa.concat_tables([pq.ParquetFile(path).read() for path in paths]).cast(SCHEMA)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), rows=tables(min_size=1, max_size=30))
def test_any_rows_survive_as_a_plain_read_and_filter_has_them(
    data: st.DataObject, rows: pa.Table, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("any")
    cut = data.draw(st.integers(0, rows.num_rows))
    parts = [rows.slice(0, cut), rows.slice(cut)]
    options = {"row_group_size": data.draw(st.integers(1, 40)), "use_dictionary": cut % 2 == 0}
    paths = [
        write_file(directory / f"{i}.parquet", part, **options) for i, part in enumerate(parts)
    ]
    dropped = data.draw(st.sets(st.integers(0, parts[1].num_rows - 1))) if parts[1] else set()
    table = LocalTable(str(directory), TableSchema(rows.schema)).dropping(paths[1], sorted(dropped))
    result = rewrite_group(make_task(table, paths))
    kept = [i for i in range(rows.num_rows) if i - cut not in dropped]
    expected = rows.take(pa.array(kept, pa.int64()))
    assert result.rows_dropped == len(dropped)
    assert result.rows_written == len(kept)
    written = [pq.ParquetFile(one.path).read() for one in result.outputs]
    assert bool(written) == bool(kept)
    if written:
        found = pa.concat_tables(written).cast(rows.schema)
        assert found.equals(expected)


def test_schema_and_layout_are_the_tables(tmp_path: Path) -> None:
    layout = replace(
        LAYOUT, row_group_rows_max=400, bloom_filters=(("name", 0.01), ("tags.element", 0.05))
    )
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA), layout)
    paths = [write_file(tmp_path / f"{i}.parquet", sample(i * 100, 100)) for i in range(10)]
    result = rewrite_group(pickle.loads(pickle.dumps(make_task(table, paths))))
    metadata = pq.read_metadata(result.outputs[0].path)
    schema = str(metadata.schema)
    assert [metadata.row_group(i).num_rows for i in range(3)] == [400, 400, 200]
    assert "required int64 field_id=1 id;" in schema
    assert "optional int64 field_id=3 price (Decimal(precision=12, scale=2));" in schema
    assert "field_id=4 at (Timestamp(isAdjustedToUTC=true, timeUnit=microseconds" in schema
    assert "fixed_len_byte_array(16) field_id=5 key (UUID);" in schema
    assert "fixed_len_byte_array(3) field_id=6 code;" in schema
    assert "required binary field_id=8 element (String);" in schema
    assert "required binary field_id=13 key (String);" in schema
    assert metadata.metadata == {b"owner": b"tests"}
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    assert all(one.has_offset_index and one.has_column_index for one in columns)
    assert {one.compression for one in columns} == {"ZSTD"}
    filtered = [one.path_in_schema for one in columns if one.bloom_filter_offset]
    assert filtered == ["name", "tags.list.element"]
    assert all(one.is_stats_set for one in columns)
    assert read_all([Path(one.path) for one in result.outputs])["id"].to_pylist() == list(
        range(1000)
    )


def test_files_come_out_near_the_target_in_row_order(tmp_path: Path) -> None:
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA))
    paths = [write_file(tmp_path / f"{i:02}.parquet", sample(i * 500, 500)) for i in range(20)]
    target = 100_000
    result = rewrite_group(make_task(table, paths, target_bytes=target))
    sizes = [one.size_bytes for one in result.outputs]
    assert len(sizes) >= 3
    assert all(0.75 * target <= size <= 1.8 * target for size in sizes), sizes
    assert [Path(one.path).name for one in result.outputs] == [
        f"job-1-a-{i:05d}.parquet" for i in range(len(sizes))
    ]
    assert read_all(output_files(table))["id"].to_pylist() == list(range(10_000))
    assert result.bytes_written == sum(sizes)
    assert result.bytes_read > sum(Path(path).stat().st_size for path in paths)


def test_one_file_below_the_target_is_one_row_group(tmp_path: Path) -> None:
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA))
    paths = [write_file(tmp_path / f"{i}.parquet", sample(i, 10)) for i in range(30)]
    (output,) = rewrite_group(make_task(table, paths)).outputs
    assert pq.read_metadata(output.path).num_row_groups == 1


def test_full_proof_gives_the_same_digest_however_the_rows_are_cut(tmp_path: Path) -> None:
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA))
    rows = sample(0, 100)
    whole = write_file(tmp_path / "whole.parquet", rows)
    halves = [
        write_file(tmp_path / f"{i}.parquet", rows.slice(i * 50, 50), row_group_size=7)
        for i in range(2)
    ]
    one = rewrite_group(make_task(table, [whole]))
    written = leftovers(table, "p", "job-1-a")
    assert written
    table.storage.delete(written)
    assert one.digest is not None
    assert one.digest == rewrite_group(make_task(table, halves)).digest
    table.storage.delete(leftovers(table, "p", "job-1-a"))
    assert rewrite_group(make_task(table, [whole], proof=Proof.COUNTS)).digest is None


def test_a_group_without_survivors_writes_nothing(tmp_path: Path) -> None:
    path = write_file(tmp_path / "in.parquet", sample(0, 10), row_group_size=4)
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA)).dropping(path, range(10))
    result = rewrite_group(make_task(table, [path]))
    assert (result.outputs, result.rows_dropped, result.rows_written) == ((), 10, 0)
    assert output_files(table) == []


def test_a_name_that_is_taken_is_never_written_over(tmp_path: Path) -> None:
    path = write_file(tmp_path / "in.parquet", sample(0, 10))
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA))
    rewrite_group(make_task(table, [path]))
    (before,) = [one.read_bytes() for one in output_files(table)]
    with pytest.raises(ObjectExistsError):
        rewrite_group(make_task(table, [path]))
    assert [one.read_bytes() for one in output_files(table)] == [before]


def test_columns_with_dots_in_their_names_are_not_mistaken(tmp_path: Path) -> None:
    schema = with_ids(pa.schema([(name, pa.int64()) for name in ("a.b", "a", "b")]))
    path = write_file(tmp_path / "in.parquet", pa.table([[1], [2], [3]], schema))
    table = LocalTable(
        str(tmp_path), TableSchema(pa.schema([schema.field("a"), schema.field("b")]))
    )
    (output,) = rewrite_group(make_task(table, [path])).outputs
    assert pq.ParquetFile(output.path).read().to_pylist() == [{"a": 2, "b": 3}]


@pytest.mark.parametrize(
    "layout",
    [replace(LAYOUT, codec="lzo"), replace(LAYOUT, bloom_filters=(("nothing", 0.1),))],
)
def test_a_layout_that_cannot_be_written_is_refused_by_name(tmp_path: Path, layout: object) -> None:
    path = write_file(tmp_path / "in.parquet", sample(0, 10))
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA), layout)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedTableError, match=r"lzo|nothing"):
        rewrite_group(make_task(table, [path]))
    assert output_files(table) == []


@pytest.mark.parametrize("codec", ["zstd", "snappy", "gzip", "lz4", "brotli", "none"])
def test_every_codec(tmp_path: Path, codec: str) -> None:
    path = write_file(tmp_path / "in.parquet", sample(0, 10))
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA), replace(LAYOUT, codec=codec))
    (output,) = rewrite_group(make_task(table, [path])).outputs
    assert read_all([Path(output.path)]).equals(sample(0, 10))


def test_leftovers_are_found_by_name_alone(tmp_path: Path) -> None:
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA))
    paths = [write_file(tmp_path / f"{i}.parquet", sample(i * 500, 500)) for i in range(10)]
    rewrite_group(make_task(table, paths, target_bytes=50_000))
    written = output_files(table)
    other = written[0].with_name("job-1-b-00000.parquet")
    other.write_bytes(b"another attempt")
    written[1].unlink()
    found = leftovers(table, "p", "job-1-a")
    assert len(found) == len(written) - 1 > 1
    assert {one.name for one in output_files(table)} == {other.name, *(one.name for one in found)}


def test_the_inventory_of_a_group_may_be_empty(tmp_path: Path) -> None:
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA))
    result = rewrite_group(make_task(table, [], files=inventory([])))
    assert result.outputs == ()


def test_heavy_imports_stay_out() -> None:
    code = (
        "import sys, compactor.rewrite.group;"
        "print([m for m in ('pyarrow.dataset','duckdb','polars','pandas','obstore','pyiceberg',"
        "'runtime','compactor.jobs') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_column_with_nan_has_no_statistics_that_would_hide_its_rows(tmp_path: Path) -> None:
    place = pa.struct([("y", pa.float32())])
    schema = with_ids(pa.schema([("id", pa.int64()), ("x", pa.float64()), ("s", place)]))
    plain = pa.table({"id": [1, 2], "x": [1.0, 2.0], "s": [{"y": 1.0}, None]}).cast(schema)
    odd = pa.table({"id": [3, 4], "x": [1.0, np.nan], "s": [{"y": np.nan}, None]}).cast(schema)
    paths = [write_file(tmp_path / f"{i}.parquet", rows) for i, rows in enumerate((plain, odd))]
    # One row to a row group: a file with statistics is already begun when NaN is met.
    layout = replace(LAYOUT, row_group_rows_max=1)
    table = LocalTable(str(tmp_path), TableSchema(schema), layout=layout)
    result = rewrite_group(make_task(table, paths))
    assert result.rows_written == 4
    footers = [pq.read_metadata(path) for path in output_files(table)]
    groups = [one.row_group(index) for one in footers for index in range(one.num_row_groups)]
    described = [
        [group.column(index).is_stats_set for index in range(group.num_columns)] for group in groups
    ]
    assert described == [
        [True, True, True],
        [True, True, True],
        [True, True, False],
        [True, False, False],
    ]


def test_rows_that_ask_for_another_encoding_do_not_end_a_file(tmp_path: Path) -> None:
    names = [f"x{number}" for number in range(6)]
    schema = with_ids(pa.schema([(name, pa.float64()) for name in names]))
    chance = np.random.default_rng(4)

    def rows(odd: int) -> pa.Table:
        columns = {name: chance.random(2_000) for name in names}
        columns[f"x{odd}"][7] = np.nan if odd % 2 else -0.0
        return pa.table(columns).cast(schema)

    paths = [write_file(tmp_path / f"{odd}.parquet", rows(odd)) for odd in range(6)]
    layout = replace(LAYOUT, row_group_rows_max=1_000)
    table = LocalTable(str(tmp_path), TableSchema(schema), layout=layout)
    result = rewrite_group(make_task(table, paths))
    (path,) = output_files(table)
    assert [str(path)] == [urlsplit(one.path).path for one in result.outputs]
    expected = pa.concat_tables(map(pq.read_table, paths))
    for name, column in zip(names, pq.read_table(path).columns, strict=True):
        assert np.array_equal(column.to_numpy(), expected[name].to_numpy(), equal_nan=True)
    footer = pq.read_metadata(path)
    assert footer.num_row_groups == 12
    assert footer.row_group(0).column(1).is_stats_set
    assert not footer.row_group(11).column(1).is_stats_set


def test_pieces_of_a_file_are_removed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = with_ids(pa.schema([("x", pa.float64())]))
    rows = pa.table({"x": [1.0, np.nan, 2.0]}).cast(schema)
    layout = replace(LAYOUT, row_group_rows_max=1)
    table = LocalTable(str(tmp_path), TableSchema(schema), layout=layout)

    def refuse(*_: object) -> None:
        assert len(output_files(table)) == 2
        raise StorageFullError("no room")

    monkeypatch.setattr("compactor.rewrite.write.write_splice", refuse)
    with pytest.raises(StorageFullError):
        rewrite_group(make_task(table, [write_file(tmp_path / "in.parquet", rows)]))
    assert output_files(table) == []


def test_a_column_with_negative_zeros_has_no_dictionary_that_would_hide_them(
    tmp_path: Path,
) -> None:
    schema = with_ids(pa.schema([("x", pa.float64()), ("y", pa.float32())]))
    rows = pa.table({"x": [0.0, -0.0, None] * 9, "y": [0.0, -1.0, 1.0] * 9}).cast(schema)
    table = LocalTable(str(tmp_path), TableSchema(schema))
    rewrite_group(make_task(table, [write_file(tmp_path / "in.parquet", rows)]))
    (path,) = output_files(table)
    group = pq.read_metadata(path).row_group(0)
    has_dictionary = [group.column(index).has_dictionary_page for index in range(2)]
    assert has_dictionary == [False, True]


def test_numbers_that_hardly_repeat_get_no_dictionary(tmp_path: Path) -> None:
    kinds = {
        "few": pa.int64(),
        "many": pa.float64(),
        "text": pa.string(),
        "lists": pa.list_(pa.float64()),
        "maps": pa.map_(pa.int32(), pa.float64()),
    }
    schema = with_ids(pa.schema(kinds))
    count = 1_000
    thirds = [n / 3 for n in range(count)]
    lists, maps = [[n, n + 0.5] for n in thirds], [[(n % 7, n / 3)] for n in range(count)]
    columns = [[n % 7 for n in range(count)], thirds, ["a"] * count, lists, maps]
    rows = pa.table([pa.array(c, t) for c, t in zip(columns, schema.types, strict=True)], schema)
    table = LocalTable(str(tmp_path), TableSchema(schema))
    rewrite_group(make_task(table, [write_file(tmp_path / "in.parquet", rows)]))
    (path,) = output_files(table)
    group = pq.read_metadata(path).row_group(0)
    has_dictionary = [group.column(index).has_dictionary_page for index in range(6)]
    assert has_dictionary == [True, False, True, False, True, False]


def test_rows_are_dropped_from_files_that_are_read_as_views(tmp_path: Path) -> None:
    """As `deltalake` leaves them after a merge, an update or a compaction of its own."""

    def schema(text: pa.DataType, binary: pa.DataType) -> pa.Schema:
        place, tags = pa.struct([("x", text)]), pa.list_(pa.field("element", text))
        more = pa.map_(binary, text)
        return with_ids(pa.schema({"t": text, "place": place, "tags": tags, "more": more}))

    plain = schema(pa.string(), pa.binary())
    values = [
        ("a", {"x": "a"}, ["a"], []),
        (None, None, None, None),
        ("b", {"x": None}, [None], []),
    ]
    rows = pa.Table.from_pylist(
        [dict(zip(plain.names, one, strict=True)) for one in [*values, values[0]]], plain
    )
    views = rows.cast(schema(pa.string_view(), pa.binary_view()))
    path = write_file(tmp_path / "in.parquet", views, store_schema=True)
    assert pq.read_schema(path).types == views.schema.types
    table = LocalTable(str(tmp_path), TableSchema(plain)).dropping(path, [0])
    (output,) = rewrite_group(make_task(table, [path])).outputs
    assert pq.ParquetFile(output.path).read().equals(rows.slice(1))
