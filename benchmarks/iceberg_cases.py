"""The cases against Spark's `rewrite_data_files`: small files, with deletes of either kind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cases import Case, Contender
from benchmarks.data import lineitem
from benchmarks.tables import TABLE, Input, Prepared, open_catalog, prepare
from catalog.iceberg.key_deletes import KeyDeletes, commit_key_deletes
from catalog.iceberg.row_delta import PositionDeletes, commit_position_deletes

_ROOT = Path(__file__).resolve().parent.parent
_PROGRAM = str(Path(sys.executable).with_name("compact"))
_SMALL = Input("lineitem", lineitem, 400, 88_000)
# Deletes of a tenth of the rows, in commits as a streaming writer makes them.
_SHARE = 10
_KEY_FILES = 20
SPARK = "spark: rewrite_data_files"
SPARK_START = "spark: start"
OUR_START = "compact: start"


def compact(*arguments: str) -> Contender:
    """Return a run of ours."""

    def command(prepared: Prepared) -> list[str]:
        fixed = [_PROGRAM, "run", prepared.target, "--yes"]
        return [*fixed, *arguments, "--json", "--no-progress"]

    return Contender(" ".join(("compact run", *arguments)), command)


def _nothing_to_do() -> Contender:
    """Look at the table and find nothing: no file is of the partition asked for."""
    one = compact("--partition", "none=0")
    return Contender(OUR_START, one.command)


def spark(name: str, *arguments: str) -> Contender:
    """Return a run of Spark."""

    def command(prepared: Prepared) -> list[str]:
        python = _ROOT / ".venv-judges" / "bin" / "python"
        script = _ROOT / "benchmarks" / "iceberg_with_spark.py"
        return [str(python), str(script), str(prepared.directory), *arguments]

    return Contender(name, command)


def _prepared(
    add: Callable[[Prepared, Input], None], cache: Path, directory: Path, scale: float
) -> Prepared:
    source = replace(_SMALL, files=max(4, round(_SMALL.files * scale)))
    prepared = prepare(source, cache, directory)
    add(prepared, source)
    return prepared


def _no_deletes(prepared: Prepared, source: Input) -> None:
    """Leave the files as they are."""


def _position_deletes(prepared: Prepared, source: Input) -> None:
    """Delete every tenth row, by a delete file for each data file."""
    table = open_catalog(prepared.directory).load_table(TABLE)
    positions = np.arange(3, source.rows_per_file, _SHARE)
    files = [task.file for task in table.scan().plan_files()]
    commit_position_deletes(
        table, [PositionDeletes(file, {file.file_path: positions}) for file in files]
    )


def _equality_deletes(prepared: Prepared, source: Input) -> None:
    """Delete a tenth of the orders, by delete files that hit keys all over the table."""
    table = open_catalog(prepared.directory).load_table(TABLE)
    keys = np.concatenate(
        [
            np.unique(pq.read_table(path, columns=["l_orderkey"])["l_orderkey"].to_numpy())[
                ::_SHARE
            ]
            for path in prepared.data_files
        ]
    )
    np.random.default_rng(1).shuffle(keys)
    for some in np.array_split(keys, _KEY_FILES):
        commit_key_deletes(table, KeyDeletes(pa.table({"l_orderkey": np.sort(some)})))


_OURS = (_nothing_to_do(), compact(), compact("--effort", "deep"))
_SPARKS = (spark(SPARK_START, "start"), spark(SPARK, "rewrite"))

ICEBERG_CASES = (
    Case(
        "iceberg-spark",
        "bin-pack an Iceberg table of 400 files of 2.5 MB, lineitem-like, zstd",
        partial(_prepared, _no_deletes),
        (*_OURS, *_SPARKS),
        SPARK,
    ),
    Case(
        "iceberg-spark-positions",
        "the same with every tenth row deleted by position",
        partial(_prepared, _position_deletes),
        (*_OURS, *_SPARKS),
        SPARK,
    ),
    Case(
        "iceberg-spark-keys",
        "the same with a tenth of the orders deleted by their keys, in 20 delete files",
        partial(_prepared, _equality_deletes),
        (*_OURS, compact("--strategy", "convert-deletes"), *_SPARKS),
        SPARK,
    ),
)
