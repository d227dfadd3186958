"""Some columns of a row group copied, others encoded: the rows are those of a plain read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from catalog.errors import UnsupportedTableError
from catalog.location import Location
from catalog.memory import ROW_ID, ROW_VERSION, Features, MemoryTable
from catalog.schema import TableSchema
from catalog.storage import Storage
from compactor.parquet import Footer, read_footer
from compactor.rewrite import fitting, group, ladder
from compactor.rewrite.fitting import Patch
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.task import Proof, RewriteResult
from tests.compactor.parquet import decoded
from tests.compactor.rewrite.generated import tables
from tests.compactor.rewrite.tables import LocalTable, make_task, with_ids, write_file
from tests.compactor.rewrite.test_fillings import compact, outputs, rows
from tests.compactor.rewrite.test_mixed import ANYTHING, SCHEMA, is_readable, sample, write

CODECS = ["none", "snappy", "zstd"]
LAYOUT_TOO = replace(ANYTHING, keeps_layout=True)
WIDE = with_ids(pa.schema([pa.field(f"c{n}", pa.int64()) for n in range(6)]))


def wide(count: int, start: int = 0) -> pa.Table:
    return pa.table([range(start + n, start + n + count) for n in range(6)], WIDE)


def chunks(path: str) -> list[Any]:
    metadata = pq.read_metadata(path)
    return [
        metadata.row_group(at).column(column)
        for at in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]


def rewritten(table: LocalTable, paths: Sequence[str], limits: Any = ANYTHING) -> RewriteResult:
    return rewrite_group(replace(make_task(table, paths), splice=limits))


@st.composite
def evolved(draw: st.DrawFn, rows: pa.Table) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """Rows as a file of an older schema has them, as readers see them, and how to write them."""
    stored, seen = rows, rows
    for at, field in enumerate(rows.schema):
        change = draw(st.sampled_from(["none", "none", "none", "missing", "loose", "renamed"]))
        if change == "missing" and field.nullable and stored.num_columns > 1:
            stored = stored.drop_columns([field.name])
            seen = seen.set_column(at, field, pa.nulls(rows.num_rows, field.type))
        elif change in ("loose", "renamed"):
            place = stored.schema.get_field_index(field.name)
            name = field.name if change == "loose" else f"old {field.name}"
            loose = field.with_nullable(True).with_name(name)
            stored = stored.set_column(place, loose, stored[field.name])
    if draw(st.booleans()):
        extra = pa.field("extra", pa.int32(), metadata={"PARQUET:field_id": "9000"})
        numbers = pa.array(range(rows.num_rows), pa.int32())
        stored = stored.add_column(draw(st.integers(0, stored.num_columns)), extra, numbers)
    order = draw(st.permutations(stored.schema.names))
    if draw(st.booleans()):
        stored = stored.select(order)
    options = {
        "compression": {name: draw(st.sampled_from(CODECS)) for name in leaf_names(stored.schema)},
        "row_group_size": draw(st.integers(1, 20)),
        "write_page_index": draw(st.booleans()),
        "data_page_version": draw(st.sampled_from(["1.0", "2.0"])),
        "use_dictionary": draw(st.booleans()),
        "write_statistics": draw(st.booleans()),
        "store_decimal_as_integer": draw(st.booleans()),
    }
    return stored, seen, options


def leaf_names(schema: pa.Schema) -> list[str]:
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    found = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    return [found.column(at).path for at in range(len(found.names))]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    rows=tables(min_size=1, max_size=30),
    limits=st.sampled_from([ANYTHING, LAYOUT_TOO]),
    target_bytes=st.sampled_from([2000, 1 << 29]),
)
def test_any_patch_reads_as_a_plain_read_and_as_a_transcode(
    data: st.DataObject,
    rows: pa.Table,
    limits: Any,
    target_bytes: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("patched")
    cut = data.draw(st.integers(0, rows.num_rows))
    table = LocalTable(str(directory), TableSchema(rows.schema))
    paths, want = [], []
    for number, part in enumerate([rows.slice(0, cut), rows.slice(cut)]):
        stored, seen, options = data.draw(evolved(part))
        paths.append(write_file(directory / f"{number}.parquet", stored, **options))
        assume(is_readable(paths[-1]))
        gone = data.draw(st.sets(st.integers(0, len(part) - 1), max_size=3)) if len(part) else ()
        table = table.dropping(paths[-1], sorted(gone))
        want.append(seen.take(pa.array([n for n in range(len(part)) if n not in gone], pa.int64())))
    expected = pa.concat_tables(want)
    for number, splice in enumerate([limits, None]):
        place = replace(table, directory=f"{directory}/{number}")
        task = make_task(place, paths, target_bytes=target_bytes)
        found = rewrite_group(replace(task, splice=splice)).outputs
        parts = [pq.ParquetFile(one.path, page_checksum_verification=True) for one in found]
        read = [part.read().cast(rows.schema) for part in parts]
        assert pa.concat_tables([rows.schema.empty_table(), *read]).equals(expected)
        for one in found:
            decoded.check_pages(Path(one.path))


def test_a_column_that_is_missing_is_all_that_is_encoded(tmp_path: Path) -> None:
    old = write(tmp_path / "old.parquet", wide(1000).drop_columns(["c2"]), row_group_size=250)
    table = LocalTable(str(tmp_path), TableSchema(WIDE))
    result = rewritten(table, [old])
    assert (result.splice.row_groups, result.splice.row_groups_patched) == (0, 4)
    assert result.splice.copied_bytes == sum(one.total_compressed_size for one in chunks(old))
    (output,) = result.outputs
    found = pq.read_table(output.path)
    assert found.drop_columns(["c2"]).equals(wide(1000).drop_columns(["c2"]))
    assert found["c2"].null_count == 1000
    assert pl.read_parquet(output.path).drop("c2").equals(pl.read_parquet(old))
    query = f"SELECT count(*), count(c2), sum(c3) FROM '{output.path}' WHERE c0 >= 900"
    assert duckdb.sql(query).fetchall() == [(100, 0, sum(range(903, 1003)))]
    again = rewritten(replace(table, directory=f"{tmp_path}/2"), [output.path])
    assert (again.splice.row_groups, again.splice.row_groups_patched) == (4, 0)


def test_columns_that_the_table_has_dropped_stay_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "in.parquet", wide(1000), row_group_size=500)
    kept = TableSchema(pa.schema([WIDE.field(at) for at in (4, 1)]))
    result = rewritten(LocalTable(str(tmp_path), kept), [path])
    assert result.splice.row_groups_patched == 2
    wanted = [one for one in chunks(path) if one.path_in_schema in ("c1", "c4")]
    assert result.splice.copied_bytes == sum(one.total_compressed_size for one in wanted)
    assert pq.read_table(result.outputs[0].path).equals(wide(1000).select(["c4", "c1"]))


def test_what_is_dropped_does_not_count_as_encoded(tmp_path: Path) -> None:
    """Most of the bytes stay behind; of what the table still has, only one column is another."""
    rows = wide(1000).set_column(4, WIDE.field(4).with_nullable(False), wide(1000)["c4"])
    path = write(tmp_path / "in.parquet", rows)
    schema = TableSchema(pa.schema([WIDE.field(at) for at in (1, 4)]))
    result = rewritten(LocalTable(str(tmp_path), schema), [path], ANYTHING)
    assert result.splice.row_groups_patched == 1
    assert pq.read_table(result.outputs[0].path).equals(wide(1000).select(["c1", "c4"]))


def test_one_column_of_another_codec(tmp_path: Path) -> None:
    codecs = {f"c{n}": "snappy" if n == 3 else "zstd" for n in range(6)}
    path = write(tmp_path / "in.parquet", wide(1000), compression=codecs)
    result = rewritten(LocalTable(str(tmp_path), TableSchema(WIDE)), [path], LAYOUT_TOO)
    assert result.splice.row_groups_patched == 1
    assert {one.compression for one in chunks(result.outputs[0].path)} == {"ZSTD"}
    assert pq.read_table(result.outputs[0].path).equals(wide(1000))


def test_a_row_group_of_which_little_is_copied_is_encoded(tmp_path: Path) -> None:
    codecs = {f"c{n}": "zstd" if n < 2 else "snappy" for n in range(6)}
    path = write(tmp_path / "in.parquet", wide(1000), compression=codecs)
    result = rewritten(LocalTable(str(tmp_path), TableSchema(WIDE)), [path], LAYOUT_TOO)
    assert result.splice.reasons == ((fitting.OTHER_CODEC, 1),)


def test_row_groups_that_state_an_order_are_not_patched(tmp_path: Path) -> None:
    rows = wide(100).drop_columns(["c5"])
    order = [pq.SortingColumn(0)]
    path = write(tmp_path / "in.parquet", rows, sorting_columns=order)
    result = rewritten(LocalTable(str(tmp_path), TableSchema(WIDE)), [path])
    assert result.splice.reasons == ((fitting.SORTED, 1),)


def test_columns_too_large_to_be_held_are_encoded_with_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "ROW_GROUP_BYTES_MAX", 1000)
    rows = wide(1000).set_column(1, WIDE.field(1).with_nullable(False), wide(1000)["c1"])
    paths = [
        write(tmp_path / f"{n}.parquet", one, row_group_size=400, write_page_checksum=False)
        for n, one in enumerate([wide(1000), rows, wide(1000)])
    ]
    result = rewritten(LocalTable(str(tmp_path), TableSchema(WIDE)), paths)
    assert (result.splice.row_groups, result.splice.row_groups_patched) == (6, 0)
    assert result.splice.reasons == ((ladder.TOO_WIDE, 3),)
    copied = [one for path in (paths[0], paths[2]) for one in chunks(path)]
    assert result.splice.copied_bytes == sum(one.total_compressed_size for one in copied)
    assert result.splice.unchecked_bytes == result.splice.copied_bytes
    assert pq.read_table(result.outputs[0].path)["c1"].to_pylist() == [*range(1, 1001)] * 3


def test_row_ids_are_all_that_is_added(tmp_path: Path) -> None:
    table = MemoryTable(tmp_path, SCHEMA, features=Features(has_row_lineage=True))
    paths = [table.append(sample(n * 1000, 1000)) for n in range(3)]
    table.delete_rows(paths[1], [7])
    before = rows(table)
    (result,) = compact(table)
    # Only the file with a deleted row is encoded as a whole.
    assert result.splice.row_groups_patched == 2
    assert rows(table) == before
    (output,) = outputs([result])
    assert output.schema_arrow.names == [*SCHEMA.names, ROW_ID.name, ROW_VERSION.name]


def test_special_floats_get_no_statistics_in_patches(tmp_path: Path) -> None:
    schema = with_ids(pa.schema([*WIDE, pa.field("x", pa.float64())]))
    loose = schema.set(6, schema.field(6).with_nullable(False))
    values = [[1.0, 2.0], [float("nan"), 0.0], [3.0, -0.0], [4.0, 5.0]]
    usual = pa.table([*wide(2).columns, pa.array([7.0, 8.0])], schema)
    paths = [write(tmp_path / "first.parquet", usual)]
    for number, pair in enumerate(values):
        part = pa.table([*wide(2).columns, pa.array(pair)], loose)
        paths.append(write(tmp_path / f"{number}.parquet", part))
    result = rewritten(LocalTable(str(tmp_path), TableSchema(schema)), paths)
    assert result.splice.row_groups_patched == 4
    floats = [one for one in chunks(result.outputs[0].path) if one.path_in_schema == "x"]
    assert [one.is_stats_set for one in floats] == [True, True, False, False, False]
    assert "DICTIONARY" not in str(floats[3].encodings)
    found = pq.read_table(result.outputs[0].path)["x"].to_pylist()
    assert repr(found) == repr([7.0, 8.0, *(one for pair in values for one in pair)])


def test_parts_of_a_patch_are_joined_where_they_meet() -> None:
    columns = [range(1), range(1, 3), range(3, 4), range(4, 5), range(5, 6)]
    patch = Patch((range(1), range(1, 3), None, None, range(4, 5)))
    assert patch.parts(columns) == [
        (False, range(3)),
        (True, range(2)),
        (False, range(4, 5)),
    ]
    assert patch.encoded == (2, 3)


@pytest.mark.parametrize("proof", [Proof.COUNTS, Proof.FULL])
def test_patches_are_mixed_with_copies_and_encoded_rows_in_order(
    tmp_path: Path, proof: Proof
) -> None:
    made = [
        wide(300, 0),
        wide(300, 300).drop_columns(["c5"]),
        wide(300, 600),
        wide(300, 900).drop_columns(["c4"]),
    ]
    paths = [
        write(tmp_path / f"{n}.parquet", one, row_group_size=100) for n, one in enumerate(made)
    ]
    table = LocalTable(str(tmp_path), TableSchema(WIDE))
    table = table.dropping(paths[1], [150]).dropping(paths[2], [150])
    result = rewrite_group(replace(make_task(table, paths, proof=proof), splice=ANYTHING))
    assert (result.splice.row_groups, result.splice.row_groups_patched) == (5, 5)
    found = pq.read_table(result.outputs[0].path)["c0"].to_pylist()
    assert found == [n for n in range(1200) if n not in (450, 750)]


def test_a_table_whose_outputs_would_be_read_as_other_columns_is_refused(tmp_path: Path) -> None:
    mapping = {(f"c{n}",): (n + 1) % 6 + 1 for n in range(6)}
    schema = TableSchema(WIDE, tuple(mapping.items()), has_field_ids=False)
    bare = pa.schema([pa.field(one.name, one.type) for one in WIDE])
    path = write(tmp_path / "in.parquet", wide(10).cast(bare))
    with pytest.raises(UnsupportedTableError, match="own names"):
        rewritten(LocalTable(str(tmp_path), schema), [path])


def test_footers_say_what_patching_reads(tmp_path: Path) -> None:
    """The sizes that rolling counts with are those of the chunks that are copied."""
    path = write(tmp_path / "in.parquet", wide(1000))
    footer: Footer = read_footer(Storage(), Location.parse(path), Path(path).stat().st_size)
    assert footer.chunk_codecs(0) == [6] * 6
    assert footer.chunk_bytes(0) == [one.total_compressed_size for one in chunks(path)]
    every = footer.chunks_file_bytes(0, range(6))
    assert 0 <= footer.row_group_file_bytes(0) - every < 100
