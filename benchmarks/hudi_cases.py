"""The cases of Hudi slices: logs folded into base files, beside Spark's own compaction."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.cases import Case, Contender
from benchmarks.tables import Prepared
from catalog.hudi.simple_writer import NewTable, SimpleWriter
from catalog.location import Location

_ROOT = Path(__file__).resolve().parent.parent
_PROGRAM = str(Path(sys.executable).with_name("compact"))
_COLUMNS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("ts", pa.int64()),
        pa.field("part", pa.string()),
        pa.field("amount", pa.float64()),
        pa.field("note", pa.string()),
        pa.field("count", pa.int64()),
        pa.field("city", pa.string()),
    ]
)
_TABLE = NewTable("bench", _COLUMNS, key="id", partition="part", ordering="ts")
_ROWS = 2_000_000
_ROW_GROUPS = 20
# Every tenth row anywhere, or every other one of the first row group.
_SPREAD = 10
_WITHIN_GROUP = 2


def _compact(name: str, *arguments: str) -> Contender:
    """Return a run of ours that folds a log however small it is."""

    def command(prepared: Prepared) -> list[str]:
        fixed = [_PROGRAM, "run", prepared.target, "--yes", "--delete-file-threshold", "1"]
        return [*fixed, *arguments, "--json", "--no-progress"]

    return Contender(name, command)


def _spark(name: str, *arguments: str) -> Contender:
    """Return a program of Spark's, in the environment that has Hudi."""

    def command(prepared: Prepared) -> list[str]:
        python = _ROOT / ".venv-judges-hudi" / "bin" / "python"
        script = _ROOT / "benchmarks" / "hudi_with_spark.py"
        table = [prepared.target] if arguments != ("start",) else []
        return [str(python), str(script), *arguments, *table]

    return Contender(name, command)


def _prepared(
    updated: Callable[[int], npt.NDArray[np.int64]], cache: Path, directory: Path, scale: float
) -> Prepared:
    """Copy a table of one slice, a base file and a log of updates, made once."""
    rows = round(_ROWS * scale)
    numbers = updated(rows)
    made = cache / f"hudi-{rows}-{len(numbers)}"
    if not made.exists():
        _make(made, rows, numbers)
    shutil.rmtree(directory, ignore_errors=True)
    table = directory / "table"
    shutil.copytree(made, table)
    files = tuple(sorted(path for path in (table / "p").iterdir() if path.name[0] != "."))
    logs = tuple((table / "p").glob(".*.log.*"))
    size = sum(path.stat().st_size for path in (*files, *logs))
    return Prepared(directory, files, size, str(table))


def _make(place: Path, rows: int, updated: npt.NDArray[np.int64]) -> None:
    writer = SimpleWriter.create(Location.parse(str(place)), _TABLE)
    rng = np.random.default_rng(7)
    inserted = _rows(np.arange(rows), 1, rng)
    writer.insert(inserted, row_group_rows=max(1, rows // _ROW_GROUPS))
    table = writer.table
    (file,) = table.inventory(table.snapshot()).slices()
    writer.update(file, _rows(updated, 2, rng))


def _rows(numbers: npt.NDArray[np.int64], ts: int, rng: np.random.Generator) -> pa.Table:
    count = len(numbers)
    keys = pc.binary_join_element_wise("key", pc.cast(pa.array(numbers), pa.string()), "-")
    notes = pc.cast(pa.array(rng.integers(0, 1 << 40, count)), pa.string())
    columns = [
        keys,
        np.full(count, ts),
        pa.repeat("p", count),
        rng.random(count) * 1000,
        notes,
        rng.integers(0, 1 << 30, count),
        rng.choice(["wien", "lima", "osaka", "oslo"], count),
    ]
    return pa.table(columns, _COLUMNS)


def _anywhere(rows: int) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(8).choice(rows, rows // _SPREAD, replace=False))


def _in_one_row_group(rows: int) -> npt.NDArray[np.int64]:
    return np.arange(0, rows // _ROW_GROUPS, _WITHIN_GROUP)


_SPARK = "spark: run_compaction"
_CONTENDERS = (
    _compact("compact: start", "--partition", "part=none"),
    _compact("compact run"),
    _spark("spark: start", "start"),
    _spark(_SPARK, "compact"),
)

HUDI_CASES = (
    Case(
        "hudi-spark",
        "fold a log of 200,000 updates anywhere into a base file of 2,000,000 rows",
        partial(_prepared, _anywhere),
        _CONTENDERS,
        _SPARK,
    ),
    Case(
        "hudi-spark-touched",
        "the same, with the updates in one row group of twenty",
        partial(_prepared, _in_one_row_group),
        _CONTENDERS,
        _SPARK,
    ),
)
