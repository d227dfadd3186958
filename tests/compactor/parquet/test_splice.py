"""Row groups of many writers' files, spliced, read as the rows they were."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import CorruptTableError, UnsupportedTableError
from compactor.parquet import SpliceSource, plan_splice, scan
from tests.compactor.parquet import decoded
from tests.compactor.parquet.corpus import (
    FILTERS,
    WRITERS,
    opened,
    read,
    row_groups,
    rows,
    spliced,
    whole,
    with_pyarrow,
    written,
)

FILES = 3


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    directory = tmp_path_factory.mktemp("inputs")
    return {writer: written(directory, writer, FILES) for writer in WRITERS}


def same(left: pa.Table, right: pa.Table) -> bool:
    """Compare rows; NaN equals itself."""
    return bool(
        left.schema.equals(right.schema, check_metadata=True)
        and left.num_rows == right.num_rows
        and repr(left.to_pylist()) == repr(right.to_pylist())
    )


@pytest.mark.parametrize("writer", WRITERS)
def test_rows_are_those_of_the_inputs_in_order(
    inputs: dict[str, list[Path]], writer: str, tmp_path: Path
) -> None:
    output = spliced([whole(path) for path in inputs[writer]], tmp_path / "out.parquet")
    assert same(read(output), pa.concat_tables([read(path) for path in inputs[writer]]))


@pytest.mark.parametrize("writer", WRITERS)
def test_every_engine_reads_the_same(
    inputs: dict[str, list[Path]], writer: str, tmp_path: Path
) -> None:
    output = spliced([whole(path) for path in inputs[writer]], tmp_path / "out.parquet")
    paths = [str(path) for path in inputs[writer]]
    query = "SELECT * FROM read_parquet({})"
    with duckdb.connect() as connection:
        found = connection.sql(query.format([str(output)])).to_arrow_table()
        assert same(found, connection.sql(query.format(paths)).to_arrow_table())
    assert pl.read_parquet(output).equals(pl.read_parquet(paths))


@pytest.mark.parametrize("writer", WRITERS)
def test_nothing_but_positions_changes_in_the_footer(
    inputs: dict[str, list[Path]], writer: str, tmp_path: Path
) -> None:
    output = spliced([whole(path) for path in inputs[writer]], tmp_path / "out.parquet")
    assert decoded.still(output) == [
        group for path in inputs[writer] for group in decoded.still(path)
    ]
    before = sum((decoded.check_pages(path) for path in inputs[writer]), Counter())
    assert decoded.check_pages(output) == before
    first, merged = decoded.footer(inputs[writer][0]), decoded.footer(output)
    assert {k: v for k, v in merged.items() if k not in (3, 4)} == {
        k: v for k, v in first.items() if k not in (3, 4)
    }


@pytest.mark.parametrize("writer", WRITERS)
def test_a_splice_of_a_splice_is_the_splice(
    inputs: dict[str, list[Path]], writer: str, tmp_path: Path
) -> None:
    once = spliced([whole(path) for path in inputs[writer]], tmp_path / "once.parquet")
    twice = spliced([whole(once)], tmp_path / "twice.parquet")
    assert twice.read_bytes() == once.read_bytes()


@pytest.mark.parametrize("writer", ["index", "filters", "pages-v2", "snappy", "filters-alone"])
def test_one_file_alone_comes_out_as_it_was(
    inputs: dict[str, list[Path]], writer: str, tmp_path: Path
) -> None:
    path = inputs[writer][0]
    assert spliced([whole(path)], tmp_path / "out").read_bytes() == path.read_bytes()


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_selection_of_row_groups(
    inputs: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    writer = data.draw(st.sampled_from(sorted(WRITERS)))
    paths = data.draw(st.lists(st.sampled_from(inputs[writer]), min_size=1, max_size=5))
    wanted = []
    for path in paths:
        footer = opened(path)
        every = st.sampled_from(range(footer.row_group_count))
        wanted.append(SpliceSource(footer, data.draw(st.lists(every, unique=True))))
    output = spliced(wanted, tmp_path_factory.mktemp("out") / "out.parquet")
    decoded.check_pages(output)
    expected = [
        row_groups(path, list(source.row_groups))
        for path, source in zip(paths, wanted, strict=True)
    ]
    assert same(read(output), pa.concat_tables(expected))


CELLS = {
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.string(): st.text(max_size=8),
    pa.float64(): st.floats(allow_nan=False),
    pa.list_(pa.field("element", pa.int64())): st.lists(st.none() | st.integers(-9, 9), max_size=4),
    pa.struct([("a", pa.bool_())]): st.fixed_dictionaries({"a": st.none() | st.booleans()}),
}


@st.composite
def tables(draw: st.DrawFn) -> list[pa.Table]:
    kinds = draw(st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=4))
    schema = pa.schema([(f"c{i}", kind) for i, kind in enumerate(kinds)])
    sizes = draw(st.lists(st.integers(0, 30), min_size=1, max_size=4))
    return [
        pa.table(
            [
                pa.array(
                    draw(st.lists(st.none() | CELLS[kind], min_size=size, max_size=size)), kind
                )
                for kind in kinds
            ],
            schema=schema,
        )
        for size in sizes
    ]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    parts=tables(),
    options=st.fixed_dictionaries(
        {
            "compression": st.sampled_from(["none", "snappy", "zstd", "gzip"]),
            "data_page_version": st.sampled_from(["1.0", "2.0"]),
            "write_page_index": st.booleans(),
            "write_page_checksum": st.booleans(),
            "use_dictionary": st.booleans(),
            "row_group_size": st.integers(1, 40),
            "data_page_size": st.sampled_from([64, 4096]),
        }
    ),
)
def test_a_splice_reads_as_its_inputs_together(
    parts: list[pa.Table], options: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("any")
    for index, part in enumerate(parts):
        with_pyarrow(directory / f"{index}.parquet", part, **options)
    sources = [whole(directory / f"{index}.parquet") for index in range(len(parts))]
    output = spliced(sources, directory / "out.parquet")
    decoded.check_pages(output)
    assert same(read(output), pa.concat_tables(parts))


def test_filtered_reads_agree(inputs: dict[str, list[Path]], tmp_path: Path) -> None:
    paths = inputs["filters"]
    output = spliced([whole(path) for path in paths], tmp_path / "out.parquet")
    for low, high in ((0, 5), (599, 601), (1234, 1299), (5000, 6000)):
        want = pa.concat_tables([rows(seed) for seed in range(FILES)]).slice(low, high - low)
        lazy = pl.scan_parquet(output).filter(pl.col("id").is_between(low, high - 1))
        assert lazy.select("id", "name").collect().rows() == list(
            zip(want["id"].to_pylist(), want["name"].to_pylist(), strict=True)
        )
        filters = [("id", ">=", low), ("id", "<", high)]
        assert pq.read_table(output, filters=filters)["id"].to_pylist() == want["id"].to_pylist()


def test_bloom_filters_exclude_as_before(inputs: dict[str, list[Path]], tmp_path: Path) -> None:
    probe = "SELECT bloom_filter_excludes FROM parquet_bloom_probe('{}', '{}', '{}')"
    for writer in ("filters", "filters-alone"):
        paths = inputs[writer]
        output = spliced([whole(path) for path in paths], tmp_path / f"{writer}.parquet")
        with duckdb.connect() as connection:
            for column in FILTERS:
                for value in ("name-0000001", "name-0000777") if column == "name" else (1, 777):
                    query = probe.format("{}", column, value)
                    merged = connection.sql(query.format(output)).fetchall()
                    single = [connection.sql(query.format(path)).fetchall() for path in paths]
                    assert merged == [one for found in single for one in found]
                    assert 0 < sum(one[0] for one in merged) < len(merged)


def test_transcoded_and_copied_row_groups_stand_in_one_file(tmp_path: Path) -> None:
    source = tmp_path / "source.parquet"
    with_pyarrow(source, rows(0), compression="zstd", write_page_index=True)
    kept = rows(0).slice(260, 240)
    with_pyarrow(tmp_path / "encoded.parquet", kept, compression="snappy", write_page_index=True)
    footer = opened(source)
    parts = [
        SpliceSource(footer, [0]),
        whole(tmp_path / "encoded.parquet"),
        SpliceSource(footer, [2]),
    ]
    output = spliced(parts, tmp_path / "out.parquet")
    assert same(
        read(output),
        pa.concat_tables([row_groups(source, [0]), kept, row_groups(source, [2])]),
    )


def test_bytes_of_row_groups_left_out_stay_behind(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    with_pyarrow(path, rows(0), compression="none", use_dictionary=False, write_statistics=False)
    assert b"name-0000300" in path.read_bytes()
    output = spliced([SpliceSource(opened(path), [0, 2])], tmp_path / "out.parquet")
    assert b"name-0000300" not in output.read_bytes()


def test_files_without_rows(tmp_path: Path) -> None:
    schema = rows(0).schema
    with_pyarrow(tmp_path / "a.parquet", schema.empty_table())
    with pq.ParquetWriter(tmp_path / "b.parquet", schema) as writer:
        writer.write_table(schema.empty_table())
        writer.write_table(rows(1))
    sources = [whole(tmp_path / "a.parquet"), whole(tmp_path / "b.parquet")]
    assert same(read(spliced(sources, tmp_path / "c.parquet")), read(tmp_path / "b.parquet"))
    none = spliced([SpliceSource(one.footer, []) for one in sources], tmp_path / "d.parquet")
    assert read(none).num_rows == 0


def test_ten_thousand_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    table = pa.table({"a": range(10_000), "b": ["x"] * 10_000})
    pq.write_table(table, path, row_group_size=1, write_page_index=True)
    source = whole(path)
    assert read(spliced([source, source], tmp_path / "out.parquet")).num_rows == 20_000
    with pytest.raises(UnsupportedTableError, match="at most 32767 row groups, 40000"):
        plan_splice([source] * 4)


def test_wants_that_make_no_sense(inputs: dict[str, list[Path]]) -> None:
    footer = opened(inputs["index"][0])
    with pytest.raises(ValueError, match="needs a source"):
        plan_splice([])
    with pytest.raises(ValueError, match="wanted twice"):
        plan_splice([SpliceSource(footer, [1, 1])])
    with pytest.raises(ValueError, match="no row group 3"):
        plan_splice([SpliceSource(footer, [3])])


def test_ranges_that_overlap_are_refused(inputs: dict[str, list[Path]]) -> None:
    footer = opened(inputs["index"][0])
    footer.chunks[scan.CHUNK_WIDTH + scan.START] -= 1
    with pytest.raises(CorruptTableError, match="overlap"):
        plan_splice([SpliceSource(footer, [0])])
