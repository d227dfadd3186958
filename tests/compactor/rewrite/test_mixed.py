"""Row groups copied and encoded in one file read as a plain read of the inputs does."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pyiceberg.types import LongType, StringType

from catalog.errors import ObjectExistsError
from catalog.iceberg.metrics import Column, file_metrics, metrics_modes, split_offsets
from catalog.location import Location
from catalog.schema import TableSchema
from compactor.parquet import ARROW_SCHEMA
from compactor.rewrite import fitting, ladder
from compactor.rewrite.encoding import schema_text
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.task import NOT_SPLICED, Proof, RewriteResult
from compactor.splicing import SpliceLimits
from tests.catalog.storage.s3_server import new_bucket, s3_server, s3_storage
from tests.compactor.parquet import decoded
from tests.compactor.rewrite.generated import tables
from tests.compactor.rewrite.tables import (
    LAYOUT,
    LocalTable,
    described,
    make_task,
    output_files,
    with_ids,
    write_file,
)

ANYTHING = SpliceLimits(
    row_group_bytes_min=0,
    chunk_bytes_min=0,
    row_group_bytes_max=1 << 40,
    row_groups_max=1000,
    footer_bytes_max=1 << 30,
    keeps_layout=False,
)
SCHEMA = with_ids(
    pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("text", pa.string()),
            pa.field("price", pa.decimal128(12, 2)),
        ]
    )
)


def sample(start: int, count: int) -> pa.Table:
    numbers = list(range(start, start + count))
    return pa.table(
        [
            numbers,
            [None if n % 9 == 0 else f"text {n * 7919 % 10007} of {n}" for n in numbers],
            pa.array(numbers, pa.decimal128(12, 2)),
        ],
        SCHEMA,
    )


def write(path: Path, rows: pa.Table, **options: Any) -> str:
    """Write as writers of the table do by default: its codec, decimals as integers."""
    usual = {"compression": "zstd", "store_decimal_as_integer": True, "write_page_index": True}
    return write_file(path, rows, **{**usual, **options})


def rewrite(
    table: LocalTable, paths: Sequence[str], limits: SpliceLimits = ANYTHING, **options: Any
) -> RewriteResult:
    return rewrite_group(replace(make_task(table, paths, **options), splice=limits))


def read(result: RewriteResult, schema: pa.Schema = SCHEMA) -> pa.Table:
    parts = [
        pq.ParquetFile(one.path, page_checksum_verification=True).read() for one in result.outputs
    ]
    return pa.concat_tables(parts).cast(schema) if parts else schema.empty_table()


def is_readable(path: str) -> bool:
    """PyArrow does not read all that it writes: some booleans in pages of the second version."""
    file = pq.ParquetFile(path)
    try:
        rows = sum(batch.num_rows for batch in file.iter_batches(use_threads=False))
    except (OSError, pa.ArrowException):
        return False
    return bool(rows == file.metadata.num_rows)


WRITTEN = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(["none", "snappy", "zstd", "gzip"]),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "row_group_size": st.integers(1, 20),
        "data_page_size": st.sampled_from([64, 1 << 20]),
        "use_dictionary": st.booleans(),
        "write_statistics": st.booleans(),
        "write_page_index": st.booleans(),
        "write_page_checksum": st.booleans(),
        "store_schema": st.booleans(),
        "store_decimal_as_integer": st.booleans(),
    }
)
LIMITS = st.builds(
    SpliceLimits,
    row_group_bytes_min=st.sampled_from([0, 300, 1000]),
    chunk_bytes_min=st.sampled_from([0, 0, 100]),
    row_group_bytes_max=st.sampled_from([500, 1 << 40]),
    row_groups_max=st.sampled_from([2, 1000, 1000]),
    footer_bytes_max=st.sampled_from([3000, 1 << 30, 1 << 30]),
    keeps_layout=st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    rows=tables(min_size=1, max_size=40),
    limits=LIMITS,
    target_bytes=st.sampled_from([1500, 5000, 1 << 29]),
)
def test_any_mix_reads_as_a_plain_read_and_filter(
    data: st.DataObject,
    rows: pa.Table,
    limits: SpliceLimits,
    target_bytes: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("any")
    cuts = sorted(data.draw(st.lists(st.integers(0, rows.num_rows), max_size=3)))
    ends = [*cuts, rows.num_rows]
    table = LocalTable(str(directory), TableSchema(rows.schema))
    paths, kept = [], []
    for index, (start, end) in enumerate(zip([0, *cuts], ends, strict=True)):
        part = rows.slice(start, end - start)
        options = data.draw(WRITTEN)
        paths.append(write_file(directory / f"{index}.parquet", part, **options))
        assume(is_readable(paths[-1]))
        gone = data.draw(st.sets(st.integers(0, len(part) - 1), max_size=5)) if len(part) else ()
        table = table.dropping(paths[-1], sorted(gone))
        kept += [start + row for row in range(len(part)) if row not in gone]
    result = rewrite(table, paths, limits, target_bytes=target_bytes)
    assert read(result, rows.schema).equals(rows.take(pa.array(kept, pa.int64())))
    for output in result.outputs:
        decoded.check_pages(Path(output.path))
        groups = pq.read_metadata(output.path).num_row_groups
        assert (
            result.splice == NOT_SPLICED
            or groups <= limits.row_groups_max
            or not (result.splice.row_groups)
        )
    assert len({schema_text(pq.read_metadata(one.path)) for one in result.outputs}) <= 1


def test_untouched_row_groups_are_copied_and_touched_ones_are_not(tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", sample(0, 1000), row_group_size=100)
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA)).dropping(
        path, [350, 351, *range(600, 700)]
    )
    result = rewrite(table, [path])
    (output,) = result.outputs
    before, after = pq.read_metadata(path), pq.read_metadata(output.path)
    assert [after.row_group(i).num_rows for i in range(9)] == [100] * 3 + [98] + [100] * 5
    assert result.splice.row_groups == 8
    assert result.splice.reasons == ((ladder.TOUCHED, 1),)
    assert result.splice.unchecked_bytes == 0
    copied = [before.row_group(i) for i in (0, 1, 2, 4, 5, 7, 8, 9)]
    stored = sum(g.column(c).total_compressed_size for g in copied for c in range(3))
    assert result.splice.copied_bytes == stored
    dropped = {350, 351, *range(600, 700)}
    assert read(result)["id"].to_pylist() == [n for n in range(1000) if n not in dropped]
    assert after.metadata == {b"owner": b"tests"}
    assert ARROW_SCHEMA not in after.metadata


def test_neighbours_that_are_small_are_encoded_together(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{i}.parquet", sample(i * 1000, 1000 if i in (0, 5) else 20))
        for i in range(6)
    ]
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA))
    result = rewrite(table, paths, replace(ANYTHING, row_group_bytes_min=2000))
    metadata = pq.read_metadata(result.outputs[0].path)
    assert [metadata.row_group(i).num_rows for i in range(3)] == [1000, 80, 1000]
    assert result.splice.reasons == ((ladder.SMALL, 4),)


def test_numbers_that_hardly_repeat_get_no_dictionary_behind_what_is_copied(
    tmp_path: Path,
) -> None:
    parts = [sample(0, 2_000), sample(2_000, 200), sample(2_200, 200)]
    paths = [write(tmp_path / f"{n}.parquet", part) for n, part in enumerate(parts)]
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA), layout=LAYOUT)
    rewrite(table, paths, replace(ANYTHING, row_group_bytes_min=12_000))
    (path,) = output_files(table)
    copied, encoded = map(pq.read_metadata(path).row_group, range(2))
    assert copied.column(0).has_dictionary_page
    assert not encoded.column(0).has_dictionary_page


def test_a_lonely_small_row_group_stays_as_it_is(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{i}.parquet", sample(i, 2010), row_group_size=1000) for i in range(2)
    ]
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA))
    result = rewrite(table, paths, replace(ANYTHING, row_group_bytes_min=2000))
    assert result.splice.row_groups == 6
    assert result.splice.reasons == ()


def strict_texts(rows: pa.Table) -> pa.Table:
    return rows.set_column(1, "text", rows["text"].fill_null("none"))


def test_files_of_another_schema_are_encoded(tmp_path: Path) -> None:
    loose = pa.schema([one.with_nullable(one.name == "id") for one in SCHEMA])
    paths = [
        write(tmp_path / "a.parquet", sample(0, 100)),
        write(tmp_path / "b.parquet", strict_texts(sample(100, 100)).cast(loose)),
        write(tmp_path / "c.parquet", sample(200, 100)),
    ]
    result = rewrite(LocalTable(str(tmp_path), TableSchema(SCHEMA)), paths)
    assert result.splice.row_groups == 2
    assert result.splice.reasons == (("the schemas are not equal", 1),)
    assert read(result)["id"].to_pylist() == list(range(300))


@pytest.mark.parametrize("is_integer", [True, False])
def test_the_form_of_decimals_is_that_of_most_bytes(tmp_path: Path, is_integer: bool) -> None:
    paths = [
        write(
            tmp_path / f"{i}.parquet",
            sample(i * 100, 100),
            store_decimal_as_integer=(i == 1) != is_integer,
        )
        for i in range(3)
    ]
    result = rewrite(LocalTable(str(tmp_path), TableSchema(SCHEMA)), paths)
    kind = pq.read_metadata(result.outputs[0].path).schema.column(2).physical_type
    assert kind == ("INT64" if is_integer else "FIXED_LEN_BYTE_ARRAY")
    assert result.splice.row_groups == 2
    assert read(result)["price"].to_pylist() == sample(0, 300)["price"].to_pylist()


def test_the_layout_of_the_table_is_kept_unless_bytes_are_all_that_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", sample(0, 100), compression="snappy")
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA))
    kept = replace(ANYTHING, keeps_layout=True)
    assert rewrite(table, [path], kept).splice.reasons == ((fitting.OTHER_CODEC, 1),)
    output_files(table)[0].unlink()
    assert rewrite(table, [path]).splice.row_groups == 1
    output_files(table)[0].unlink()
    filtered = replace(LAYOUT, bloom_filters=(("text", 0.01),))
    path = write(tmp_path / "zstd.parquet", sample(0, 100))
    wanting = replace(table, layout=filtered)
    patched = rewrite(wanting, [path], kept)
    assert (patched.splice.reasons, patched.splice.row_groups_patched) == ((), 1)
    assert pq.read_metadata(patched.outputs[0].path).row_group(0).column(1).bloom_filter_offset
    output_files(table)[0].unlink()
    path = write(
        tmp_path / "filtered.parquet", sample(0, 100),
        bloom_filter_options={"text": {"ndv": 100, "fpp": 0.01}},
    )  # fmt: skip
    result = rewrite(wanting, [path], kept)
    assert result.splice.row_groups == 1
    chunk = pq.read_metadata(result.outputs[0].path).row_group(0).column(1)
    assert chunk.bloom_filter_offset


def test_a_footer_is_never_overfilled(tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", sample(0, 1000), row_group_size=10)
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA))
    result = rewrite(table, [path], replace(ANYTHING, row_groups_max=50))
    assert result.splice.reasons == ((ladder.FOOTER_FULL, 100),)
    output_files(table)[0].unlink()
    result = rewrite(table, [path], replace(ANYTHING, footer_bytes_max=5000))
    assert result.splice.reasons == ((ladder.FOOTER_FULL, 100),)


def test_pages_without_checksums_are_told(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{i}.parquet", sample(i, 100), write_page_checksum=i == 0)
        for i in range(2)
    ]
    splice = rewrite(LocalTable(str(tmp_path), TableSchema(SCHEMA)), paths).splice
    assert 0 < splice.unchecked_bytes < splice.copied_bytes


@pytest.mark.parametrize("target_bytes", [20_000, 50_000])
def test_files_come_out_near_the_target(tmp_path: Path, target_bytes: int) -> None:
    paths = [
        write(tmp_path / f"{i:02}.parquet", sample(i * 400, 400), row_group_size=90)
        for i in range(30)
    ]
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA))
    for path in paths[::7]:
        table = table.dropping(path, [5, 200])
    result = rewrite(table, paths, target_bytes=target_bytes, proof=Proof.COUNTS)
    sizes = [one.size_bytes for one in result.outputs]
    assert len(sizes) > 1
    assert all(0.75 * target_bytes <= size <= 1.9 * target_bytes for size in sizes), sizes
    ids = read(result)["id"].to_numpy()
    assert (ids[1:] > ids[:-1]).all()
    assert result.rows_written == 30 * 400 - 5 * 2
    assert not list(Path(table.directory, "out").glob("*[!t]"))


def test_engines_read_what_was_mixed(tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", sample(0, 1000), row_group_size=100)
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA)).dropping(path, [350, 905])
    (output,) = rewrite(table, [path]).outputs
    expected = sample(0, 1000).filter(
        pc.invert(pc.is_in(pa.array(range(1000)), pa.array([350, 905])))
    )
    assert pl.read_parquet(output.path)["text"].to_list() == expected["text"].to_pylist()
    query = f"SELECT id, text FROM '{output.path}' WHERE id BETWEEN 340 AND 360"
    assert duckdb.sql(query).fetchall() == [
        (row["id"], row["text"]) for row in expected.to_pylist() if 340 <= row["id"] <= 360
    ]
    filtered = pl.scan_parquet(output.path).filter(pl.col("id") > 990).collect()
    assert filtered["id"].to_list() == list(range(991, 1000))


def test_what_is_taken_is_not_written_over_and_nothing_is_left(tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", sample(0, 100), row_group_size=10)
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA)).dropping(path, [15])
    rewrite(table, [path])
    (before,) = [one.read_bytes() for one in output_files(table)]
    with pytest.raises(ObjectExistsError):
        rewrite(table, [path])
    assert [one.read_bytes() for one in output_files(table)] == [before]


def test_footers_beyond_the_budget_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compactor.rewrite.group.HELD_BYTES_MAX", 1)
    paths = [write(tmp_path / f"{i}.parquet", sample(i * 100, 100)) for i in range(3)]
    result = rewrite(LocalTable(str(tmp_path), TableSchema(SCHEMA)), paths)
    assert result.splice.row_groups == 3
    assert read(result)["id"].to_pylist() == list(range(300))


def test_bounds_are_absent_where_a_copied_row_group_has_no_statistics(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{i}.parquet", sample(i * 100, 100), write_statistics=i == 0)
        for i in range(2)
    ]
    (output,) = rewrite(LocalTable(str(tmp_path), TableSchema(SCHEMA)), paths).outputs
    footer = pq.read_metadata(output.path)
    assert [footer.row_group(i).column(0).is_stats_set for i in range(2)] == [True, False]
    columns = [Column(1, "id", LongType(), False), Column(2, "text", StringType(), False)]
    metrics = file_metrics(footer, columns, metrics_modes(columns, {}))
    assert metrics.value_counts == {1: 200, 2: 200}
    assert (metrics.lower_bounds, metrics.upper_bounds, metrics.null_value_counts) == ({}, {}, {})
    assert split_offsets(footer) == sorted(split_offsets(footer) or [])


def test_memory_does_not_follow_the_size_of_what_is_copied(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    schema = with_ids(pa.schema([pa.field("x", pa.int64())]))
    rows = pa.table([random.integers(0, 1 << 62, 4_000_000)], schema)
    paths = [write(tmp_path / f"{i}.parquet", rows) for i in range(4)]
    table = LocalTable(str(tmp_path), TableSchema(schema))
    pa.default_memory_pool().release_unused()
    before = pa.default_memory_pool().max_memory()
    task = replace(make_task(table, paths, proof=Proof.COUNTS), splice=ANYTHING)
    result = rewrite_group(task)
    assert result.splice.copied_bytes > 90 << 20
    assert pa.default_memory_pool().max_memory() == before


def test_objects_in_a_bucket_are_mixed_with_what_is_encoded_here(tmp_path: Path) -> None:
    with s3_server() as endpoint:
        storage, root = s3_storage(endpoint), new_bucket(endpoint)
        files = []
        for index in range(3):
            local = write(tmp_path / "in.parquet", sample(index * 300, 300), row_group_size=100)
            data = Path(local).read_bytes()
            storage.write(Location.parse(f"{root}/{index}.parquet"), data)
            files.append((f"{root}/{index}.parquet", len(data), 300))
        table = LocalTable(str(root), TableSchema(SCHEMA), storage=storage)
        table = table.dropping(files[1][0], [150])
        result = rewrite(table, [], files=described(files))
        (output,) = result.outputs
        found = pq.read_table(io.BytesIO(storage.read(Location.parse(output.path))))
    assert found["id"].to_pylist() == [n for n in range(900) if n != 450]
    assert result.splice.row_groups == 8
