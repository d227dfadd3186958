"""Inputs that are alike, but not as our encoder writes, keep their form: they are copied."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.location import Location
from catalog.schema import TableSchema, field_id, named_ids
from catalog.storage import Storage
from compactor.parquet import declared_as, parse_footer, read_footer
from compactor.rewrite.encoding import Encoding, schema_text
from compactor.rewrite.fitting import OTHER_SCHEMA
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.task import Proof, RewriteResult
from tests.compactor.parquet import decoded
from tests.compactor.rewrite.tables import LAYOUT, LocalTable, make_task, with_ids
from tests.compactor.rewrite.test_mixed import ANYTHING, write

SCHEMA = with_ids(
    pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("price", pa.decimal128(12, 2), nullable=False),
            pa.field("tags", pa.list_(pa.field("element", pa.string())), nullable=False),
        ]
    )
)
LOOSE = pa.schema([one.with_nullable(True) for one in SCHEMA])


def sample(start: int, count: int) -> pa.Table:
    numbers = list(range(start, start + count))
    return pa.table(
        [
            numbers,
            [f"text {n * 7919 % 10007}" for n in numbers],
            pa.array(numbers, pa.decimal128(12, 2)),
            [[f"tag {n}", None] for n in numbers],
        ],
        SCHEMA,
    )


def rewrite(table: LocalTable, paths: list[str], **options: Any) -> RewriteResult:
    return rewrite_group(replace(make_task(table, paths, **options), splice=ANYTHING))


def table_of(directory: Path, **options: Any) -> LocalTable:
    return LocalTable(str(directory), TableSchema(SCHEMA, **options))


def loose_files(directory: Path, count: int = 3, **options: Any) -> list[str]:
    return [
        write(directory / f"{n}.parquet", sample(n * 100, 100).cast(LOOSE), **options)
        for n in range(count)
    ]


@pytest.mark.parametrize("is_integer", [True, False])
@pytest.mark.parametrize("proof", list(Proof))
def test_columns_declared_nullable_stay_so(tmp_path: Path, is_integer: bool, proof: Proof) -> None:
    paths = loose_files(tmp_path, store_decimal_as_integer=is_integer, row_group_size=50)
    result = rewrite(table_of(tmp_path), paths, proof=proof)
    assert (result.splice.row_groups, result.splice.row_groups_patched) == (6, 0)
    (output,) = result.outputs
    written = pq.read_metadata(output.path)
    assert schema_text(written) == schema_text(pq.read_metadata(paths[0]))
    assert written.metadata == {b"owner": b"tests"}
    assert pq.read_table(output.path).cast(SCHEMA).equals(sample(0, 300))
    decoded.check_pages(Path(output.path))
    assert pl.read_parquet(output.path)["id"].to_list() == list(range(300))
    query = f"SELECT count(*) FROM '{output.path}' WHERE id >= 290"
    assert duckdb.sql(query).fetchall() == [(10,)]


@pytest.mark.parametrize("proof", list(Proof))
def test_rows_are_encoded_in_the_form_of_the_inputs(tmp_path: Path, proof: Proof) -> None:
    paths = loose_files(tmp_path, row_group_size=50)
    table = table_of(tmp_path).dropping(paths[1], [3])
    result = rewrite(table, paths, proof=proof)
    assert result.splice.row_groups == 5
    ids = pq.read_table(result.outputs[0].path)["id"].to_pylist()
    assert ids == [n for n in range(300) if n != 103]
    again = rewrite(replace(table, directory=f"{tmp_path}/2", dropped=()),
                    [result.outputs[0].path])  # fmt: skip
    assert (again.splice.row_groups, again.splice.reasons) == (6, ())


def test_inputs_that_differ_are_not_taken_for_alike(tmp_path: Path) -> None:
    paths = loose_files(tmp_path, 1)
    paths += [write(tmp_path / f"{n}.parquet", sample(n * 100, 100)) for n in (1, 2)]
    result = rewrite(table_of(tmp_path), paths)
    assert result.splice.row_groups == 2
    assert result.splice.reasons == ((OTHER_SCHEMA, 1),)
    assert pq.read_table(result.outputs[0].path).cast(SCHEMA).equals(sample(0, 300))


def test_columns_more_or_less_are_no_form_of_the_table(tmp_path: Path) -> None:
    rows = sample(0, 100).cast(LOOSE)
    for number, some in enumerate([rows.drop_columns(["tags"]), rows.select(["text", "id"])]):
        path = write(tmp_path / f"{number}.parquet", some)
        schema = TableSchema(LOOSE)
        result = rewrite(LocalTable(f"{tmp_path}/{number}", schema), [path])
        assert pq.read_schema(result.outputs[0].path).names == LOOSE.names
    ids = pa.schema([one.with_metadata({"PARQUET:field_id": "77"}) for one in LOOSE][:1])
    path = write(tmp_path / "ids.parquet", rows.select(["id"]).cast(ids))
    result = rewrite(LocalTable(f"{tmp_path}/ids", TableSchema(LOOSE)), [path])
    assert pq.read_table(result.outputs[0].path)["id"].null_count == 100


def test_ids_that_mean_nothing_are_not_kept(tmp_path: Path) -> None:
    names = tuple(named_ids(LOOSE))
    table = LocalTable(str(tmp_path), TableSchema(LOOSE, names, has_field_ids=False))
    paths = loose_files(tmp_path)
    result = rewrite(table, paths)
    assert result.splice.row_groups == 0
    read = pq.read_schema(result.outputs[0].path)
    assert all(field_id(one) is None for one in read)
    assert pq.read_table(result.outputs[0].path).to_pylist() == sample(0, 300).to_pylist()


def test_tighter_columns_than_the_table_s_serve_only_where_all_is_copied(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.parquet", sample(n * 100, 100)) for n in range(2)]
    table = LocalTable(str(tmp_path), TableSchema(LOOSE))
    result = rewrite(table, paths)
    assert result.splice.row_groups == 2
    assert not pq.read_schema(result.outputs[0].path).field("id").nullable
    touched = replace(table, directory=f"{tmp_path}/2").dropping(paths[0], [5])
    result = rewrite(touched, paths)
    assert result.splice.row_groups == 0
    assert pq.read_schema(result.outputs[0].path).field("id").nullable


def test_a_footer_declares_the_columns_of_another(tmp_path: Path) -> None:
    path = loose_files(tmp_path, 1)[0]
    footer = read_footer(Storage(), Location.parse(path), Path(path).stat().st_size)
    like = Encoding.of(TableSchema(SCHEMA), LAYOUT).empty_footer()
    made = declared_as(like, footer)
    assert made.schema == footer.schema
    assert made.key_values() == like.key_values()
    assert (made.row_group_count, made.row_count) == (0, 0)
    assert parse_footer(made.location, made.data, size_bytes=made.size_bytes) == made
    read = pq.read_metadata(pa.BufferReader(made.as_file()))
    assert read.num_rows == 0
    assert schema_text(read) == schema_text(pq.read_metadata(path))
