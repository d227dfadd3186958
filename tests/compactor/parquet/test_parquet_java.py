"""Splices of what parquet-java wrote, and splices read by parquet-java."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compactor.parquet import Assembly, SpliceSource
from tests.compactor.parquet import decoded
from tests.compactor.parquet.corpus import FILTERS, opened, read, spliced, whole, with_pyarrow
from tests.judges.engines import JUDGES_PYTHON, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(600)]


def spark(*arguments: str | Path) -> str:
    assert JUDGES_PYTHON.exists(), "the judges are not installed: run `make judges`"
    script = ROOT / "tests" / "judges" / "parquet_with_spark.py"
    done = subprocess.run(
        [JUDGES_PYTHON, script, *arguments], check=True, timeout=300, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    directory = tmp_path_factory.mktemp("spark")
    spark("write", directory)
    return {version: sorted((directory / version).rglob("*.parquet")) for version in ("v1", "v2")}


@pytest.mark.parametrize("versions", [["v1"], ["v2"], ["v1", "v2"]])
def test_files_of_parquet_java(
    inputs: dict[str, list[Path]], versions: list[str], tmp_path: Path
) -> None:
    paths = [path for version in versions for path in inputs[version]]
    assert all(opened(path).chunk(0, 0).has_bloom_filter for path in paths)
    output = spliced([whole(path) for path in paths], tmp_path / "out.parquet")
    assert read(output).equals(pa.concat_tables([read(path) for path in paths]))
    assert pl.read_parquet(output).equals(pl.read_parquet(paths))
    with duckdb.connect() as connection:
        query = "SELECT * FROM read_parquet({})"
        found = connection.sql(query.format([str(output)])).to_arrow_table()
        assert found.equals(connection.sql(query.format(list(map(str, paths)))).to_arrow_table())
    before = sum((decoded.check_pages(path) for path in paths), Counter())
    assert before["filters"] > 0
    assert decoded.check_pages(output) == before
    assert decoded.still(output) == [group for path in paths for group in decoded.still(path)]


def test_parquet_java_reads_splices(inputs: dict[str, list[Path]], tmp_path: Path) -> None:
    paths = {}
    for version in ("v1", "v2"):
        paths[version] = spliced(
            [whole(path) for path in inputs[version]], tmp_path / f"{version}.parquet"
        )
    ours = [tmp_path / f"in-{index}.parquet" for index in range(2)]
    for index, path in enumerate(ours):
        ids = range(index * 3000, index * 3000 + 3000)
        table = pa.table({"id": ids, "name": [f"name-{one}" for one in ids]})
        with_pyarrow(path, table, write_page_index=True, bloom_filter_options=FILTERS)
    paths["pyarrow"] = spliced([whole(path) for path in ours], tmp_path / "pyarrow.parquet")
    paths["assembled"] = assembled(ours, tmp_path)
    first, *others = json.loads(spark("read", *paths.values()).splitlines()[-1])
    assert first["count"] == 6000 == pq.read_metadata(paths["v1"]).num_rows
    assert first["filtered"] == [[777], [4242], [777], [], list(range(290, 621))]
    assert others == [first, first, first]


def assembled(paths: list[Path], directory: Path) -> Path:
    """Take the ids of files as they are and the names from others, encoded in another way."""
    sources: list[SpliceSource | Assembly] = []
    for path in paths:
        other = directory / f"names-{path.name}"
        with_pyarrow(other, read(path), compression="zstd", write_page_index=True)
        parts = (whole(path), whole(other))
        for group in range(parts[0].footer.row_group_count):
            columns = [replace(one, row_groups=[group]) for one in parts]
            ids, names = (
                replace(columns[0], columns=range(1)),
                replace(columns[1], columns=range(1, 2)),
            )
            sources.append(Assembly((ids, names)))
    return spliced(sources, directory / "assembled.parquet")
