"""Ten million deleted keys against twenty million rows within a gibibyte: who gets through.

Run `python -m benchmarks.key_deletes [--scale 0.1] [--work DIR]`. The table has two columns, a
text of 26 characters that rows are deleted by, and a number; half of the deleted keys are in it.
Every program is told to make do with 1 GiB: `compact` by its own limit, Spark by that of its heap,
DuckDB by its own and by one of 1.5 GiB for its process. What ends in an error is shown with it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.cases import Contender
from benchmarks.iceberg_cases import compact, spark
from benchmarks.measure import CommandFailedError, Measurement, measure
from benchmarks.tables import TABLE, Input, Prepared, open_catalog, prepare
from catalog.iceberg.key_deletes import KeyDeletes, commit_key_deletes

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
ROWS_PER_FILE = 1_000_000
FILES = 20
KEYS_PER_FILE = 1_000_000
KEY_FILES = 10
_ERROR_LENGTH = 90


def texts(numbers: np.ndarray) -> pa.Array:
    """Return keys of 26 characters."""
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 16, padding="0")
    return pc.binary_join_element_wise("customer: ", digits, "")


def rows(count: int, seed: int) -> pa.Table:
    """Return the rows of a file."""
    numbers = np.arange(count) + seed * count
    return pa.table({"customer": texts(numbers), "value": numbers})


def _prepared(work: Path, scale: float) -> Prepared:
    source = Input("customers", rows, max(1, round(FILES * scale)), ROWS_PER_FILE)
    prepared = prepare(source, work / "cache", work / "run")
    table = open_catalog(prepared.directory).load_table(TABLE)
    total, count = source.files * ROWS_PER_FILE, max(1, round(KEY_FILES * scale))
    # Every other key is one that the table does not have.
    keys = np.random.default_rng(1).choice(2 * total, count * KEYS_PER_FILE, replace=False)
    for some in np.array_split(keys, count):
        commit_key_deletes(table, KeyDeletes(pa.table({"customer": texts(np.sort(some))})))
    return prepared


def _duckdb(prepared: Prepared) -> list[str]:
    python = HERE.parent / ".venv-judges" / "bin" / "python"
    location = open_catalog(prepared.directory).load_table(TABLE).metadata_location
    return [str(python), str(HERE / "key_deletes_with_duckdb.py"), location]


def _pyiceberg(prepared: Prepared) -> list[str]:
    program = "from benchmarks.tables import *; import sys, pathlib;"
    program += "open_catalog(pathlib.Path(sys.argv[1])).load_table(TABLE).scan().to_arrow()"
    return [sys.executable, "-c", program, str(prepared.directory)]


CONTENDERS = (
    compact("--memory", "1GiB", "--strategy", "convert-deletes"),
    compact("--memory", "1GiB", "--effort", "deep"),
    Contender("duckdb: sum over the rows, memory_limit 1 GiB", _duckdb),
    spark("spark: rewrite_data_files, heap of 1 GiB", "rewrite-in", "1g"),
    Contender("pyiceberg: read", _pyiceberg),
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a contender ended."""

    name: str
    used: Measurement | None
    error: str = ""

    def row(self) -> str:
        """Return its row of the table."""
        if self.used is None:
            return f"| {self.name} | - | - | {self.error} |"
        peak = self.used.peak_tree_bytes / MIB
        return f"| {self.name} | {self.used.cpu_seconds:.1f} | {peak:,.0f} | done |"


def run(contender: Contender, work: Path, scale: float) -> Ended:
    """Run one contender on a fresh table."""
    prepared = _prepared(work, scale)
    environment = {
        **prepared.environment,
        "XDG_STATE_HOME": str(prepared.directory / "state"),
        "PYTHONPATH": str(HERE.parent),
    }
    try:
        used, _ = measure(contender.command(prepared), environment)
    except CommandFailedError as error:
        print(f"{contender.name}: {error}"[-2000:], file=sys.stderr, flush=True)
        return Ended(contender.name, None, _reason(str(error)))
    print(f"{contender.name}: {used.cpu_seconds:.1f} CPU s", file=sys.stderr, flush=True)
    return Ended(contender.name, used)


def _reason(text: str) -> str:
    telling = ("OutOfMemory", "Out of Memory", "ValueError", "MemoryError", "Exception", "rror:")
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line] or ["ended without a word"]
    found = next((line for word in telling for line in said if word in line), said[-1])
    return found.replace("|", "/")[:_ERROR_LENGTH]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.key_deletes", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "key-deletes")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        work = (chosen.work or Path(temporary)).resolve()
        done = list(map(partial(run, work=work, scale=chosen.scale), CONTENDERS))
        shutil.rmtree(work / "run", ignore_errors=True)
    keys = max(1, round(KEY_FILES * chosen.scale)) * KEYS_PER_FILE
    count = max(1, round(FILES * chosen.scale)) * ROWS_PER_FILE
    lines = [
        f"**{keys:,} deleted keys against {count:,} rows, 1 GiB**",
        "",
        "| | CPU s | peak MiB, tree | |",
        "|---|---:|---:|---|",
        *(one.row() for one in done),
    ]
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
