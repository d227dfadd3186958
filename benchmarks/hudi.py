"""Compaction of Hudi slices against Spark's own: CPU-seconds, start-up apart.

Usage: python -m benchmarks.hudi [ROWS] [ROUNDS]

`updates` has updates of a tenth of the rows anywhere in the base file, `touched` those of rows in
one row group of twenty. Both write a copy of the same table, in turns; rows are compared
afterwards. What a program takes that finds nothing to do is its start-up.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.measure import Measurement, measure
from catalog.hudi.simple_writer import NewTable, SimpleWriter
from catalog.hudi.table import HudiTable
from catalog.location import Location
from compactor.jobs.verification import verify_snapshots
from runtime.connect import connect

_ROOT = Path(__file__).resolve().parents[1]
_SPARK = [str(_ROOT / ".venv-judges-hudi/bin/python"), str(_ROOT / "benchmarks/hudi_with_spark.py")]
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
_ROW_GROUPS = 20


def main(rows: int, rounds: int) -> None:
    """Measure both cases and print what was found."""
    with tempfile.TemporaryDirectory(prefix="compact-hudi-") as name:
        start = min(measure([*_SPARK, "start"], {})[0].cpu_seconds for _ in range(rounds))
        for case in ("updates", "touched"):
            directory = Path(name, case)
            make_slice(directory / "table", rows, is_spread=case == "updates")
            found = list(_rounds(directory, rounds))
            ours = [one.cpu_seconds - idle.cpu_seconds for one, idle, _ in found]
            theirs = [other.cpu_seconds - start for _, _, other in found]
            answer = {
                "case": case,
                "rows": rows,
                "compact_cpu_seconds_without_start": [round(one, 2) for one in ours],
                "compact_start_cpu_seconds": round(min(one.cpu_seconds for _, one, _ in found), 2),
                "spark_cpu_seconds_without_start": [round(one, 2) for one in theirs],
                "spark_start_cpu_seconds": round(start, 2),
                "ratio": round(min(theirs) / min(ours), 1),
                "compact_peak_process_mib": max(one.peak_process_bytes for one, *_ in found) >> 20,
            }
            sys.stdout.write(json.dumps(answer) + "\n")


def make_slice(place: Path, rows: int, *, is_spread: bool) -> None:
    """Make a table of one slice: a base file and a log of updates."""
    writer = SimpleWriter.create(Location.parse(str(place)), _TABLE)
    rng = np.random.default_rng(7)
    writer.insert(_rows(np.arange(rows), 1, rng), row_group_rows=max(1, rows // _ROW_GROUPS))
    table = writer.table
    (file,) = table.inventory(table.snapshot()).slices()
    count = rows // 10 if is_spread else rows // _ROW_GROUPS // 2
    among = rows if is_spread else rows // _ROW_GROUPS
    numbers = np.sort(rng.choice(among, count, replace=False))
    writer.update(file, _rows(numbers, 2, rng))


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


def _rounds(directory: Path, rounds: int) -> Iterator[tuple[Measurement, Measurement, Measurement]]:
    """Compact copies of a table in turns: ours, ours with nothing to do, and theirs."""
    for number in range(rounds):
        ours, theirs = (directory / f"{name}-{number}" for name in ("ours", "theirs"))
        for copy in (ours, theirs):
            shutil.copytree(directory / "table", copy)
        command = _command(ours, directory / f"jobs-{number}.db")
        used, _ = measure(command, {})
        idle, _ = measure(command, {})
        other, _ = measure([*_SPARK, "compact", str(theirs)], {})
        _require_same(ours, theirs)
        for copy in (ours, theirs):
            shutil.rmtree(copy)
        yield used, idle, other


def _command(table: Path, store: Path) -> list[str]:
    config = store.with_suffix(".toml")
    policy = "[policy]\ndelete_files_min = 1\n"
    config.write_text(f'[store]\nurl = "sqlite:///{store}"\n{policy}')
    program = str(Path(sys.executable).with_name("compact"))
    return [program, "run", str(table), "--config", str(config), "--no-progress"]


def _require_same(ours: Path, theirs: Path) -> None:
    """Make sure that both have compacted, and that ours still has the rows that it had."""
    for place in (ours, theirs):
        table = HudiTable(str(place), Location.parse(str(place)), {})
        now = table.snapshot()
        if now.operation != "commit" or table.inventory(now).delete_files.num_rows:
            raise SystemExit(f"{place} is not compacted")
        if place == ours and now.parent_id is not None:
            with connect("inline") as runtime:
                same = verify_snapshots(table, now.parent_id, now.snapshot_id, runtime=runtime)
            if not same.is_equal:
                raise SystemExit(f"{place} has other rows than before")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 2_000_000, int(sys.argv[2]) if sys.argv[2:] else 2)
