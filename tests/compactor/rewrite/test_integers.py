"""Decimals that travel as integers: files show nothing of it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import CorruptTableError
from catalog.schema import TableSchema
from compactor.rewrite.encoding import Encoding
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.integers import as_decimals, as_integers, with_integers
from tests.compactor.rewrite.tables import LAYOUT, LocalTable, make_task, output_files, with_ids
from tests.compactor.rewrite.tables import write_file as write

KINDS = (
    pa.decimal128(1, 0),
    pa.decimal128(9, 4),
    pa.decimal128(10, 2),
    pa.decimal128(18, 18),
    pa.decimal128(19, 3),
    pa.int64(),
)


@st.composite
def batches(draw: st.DrawFn) -> list[pa.RecordBatch]:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    schema = with_ids(pa.schema([(f"c{n}", kind) for n, kind in enumerate(kinds)]))
    rows = draw(st.integers(1, 40))
    columns = [pa.array(draw(_values(kind, rows)), kind) for kind in kinds]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    cut = draw(st.integers(0, rows))
    return [batch.slice(0, cut), batch.slice(cut)]


def _values(kind: pa.DataType, rows: int) -> st.SearchStrategy[list[object]]:
    if pa.types.is_integer(kind):
        one: st.SearchStrategy[object] = st.integers(-(2**63), 2**63 - 1)
    else:
        limit = 10**kind.precision - 1
        scale = -kind.scale
        one = st.integers(-limit, limit).map(lambda number: Decimal(number).scaleb(scale))
    return st.lists(st.none() | one, min_size=rows, max_size=rows)


def file_of(encoding: Encoding, rows: list[pa.RecordBatch]) -> bytes:
    sink = pa.BufferOutputStream()
    writer = encoding.open_writer(sink, row_group_rows=40)
    writer.add_key_value_metadata({"more": "said"})
    for _ in range(2):
        table = encoding.table(rows)
        writer.write_table(table, row_group_size=table.num_rows)
    writer.close()
    return sink.getvalue().to_pybytes()


@settings(max_examples=40, deadline=None)
@given(batches(), st.sampled_from([(), (("c0", 0.01),)]))
def test_the_file_is_the_same_to_the_last_byte(
    rows: list[pa.RecordBatch], filters: tuple[tuple[str, float], ...]
) -> None:
    schema = rows[0].schema
    plain = Encoding(schema, replace(LAYOUT, bloom_filters=filters))
    ours = plain.with_integers()
    integers = [as_integers(one, ours.rows_schema) for one in rows]
    assert file_of(ours, integers) == file_of(plain, rows)
    assert [as_decimals(one, schema) for one in integers] == rows
    assert ours.empty_footer().data == plain.empty_footer().data


def test_decimals_that_are_byte_arrays_stay_decimals() -> None:
    schema = with_ids(pa.schema([("c0", pa.decimal128(9, 2))]))
    encoding = Encoding(schema, LAYOUT, has_integer_decimals=False).with_integers()
    assert encoding.rows_schema == schema


@pytest.mark.parametrize("number", [10**9, 2**31])
def test_a_number_with_too_many_digits_is_refused(number: int) -> None:
    wide = pa.array([Decimal(number * 10**9)], pa.decimal128(38, 0)).view(pa.decimal128(9, 0))
    rows = pa.RecordBatch.from_arrays([wide], names=["c0"])
    with pytest.raises(CorruptTableError, match="digits"):
        as_integers(rows, with_integers(rows.schema, ["c0"]))


@pytest.mark.parametrize(
    "options",
    [
        {"use_dictionary": True},
        {"use_dictionary": False},
        {"store_decimal_as_integer": True},
        {"dictionary_pagesize_limit": 4096, "data_page_size": 4096},
    ],
)
def test_rows_of_every_way_to_store_decimals_are_kept(
    tmp_path: Path, options: dict[str, object]
) -> None:
    count = 20_000
    kinds = {"few": pa.decimal128(12, 2), "many": pa.decimal128(9, 0), "wide": pa.decimal128(30, 1)}
    schema = with_ids(pa.schema({**kinds, "text": pa.string(), "number": pa.int64()}))
    few = [None if n % 5 == 0 else Decimal(n % 50 - 25) / 4 for n in range(count)]
    columns = [
        few,
        [Decimal(n) for n in range(count)],
        [Decimal(n) for n in range(count)],
        [f"t{n % 9}" for n in range(count)],
        list(range(count)),
    ]
    rows = pa.table([pa.array(c, t) for c, t in zip(columns, schema.types, strict=True)], schema)
    paths = [write(tmp_path / f"{n}.parquet", rows, **options) for n in range(2)]
    table = LocalTable(str(tmp_path), TableSchema(schema)).dropping(paths[1], [0, 19_999])
    rewrite_group(make_task(table, paths))
    (path,) = output_files(table)
    assert pq.read_table(path) == pa.concat_tables([rows, rows.slice(1, count - 2)])
    stored = [pq.read_metadata(path).row_group(0).column(n).physical_type for n in range(3)]
    assert stored == ["INT64", "INT32", "FIXED_LEN_BYTE_ARRAY"]
