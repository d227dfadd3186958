"""What a scan pays for row groups that stayed as they were: `python -m benchmarks.scan`.

The same rows, once copied (`--effort bytes`) from row groups of several sizes and once encoded anew
(`--effort deep`), are scanned by DuckDB and PyArrow on one thread, in turn within one process, so
that start-up is in no figure. A third file tells size from encoding: the same rows as their writer
encodes them, in row groups of a million.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import lineitem, nested
from benchmarks.provenance import commit, versions
from benchmarks.tables import TABLE, Input, Prepared, open_catalog, prepare
from tests.iceberg_tables import data_files

RESULTS = Path(__file__).resolve().parent / "results" / "scan"
KIB = 1024


@dataclass(frozen=True, slots=True)
class Shape:
    """Rows, how they are cut, and what is asked of them.

    Attributes:
        name: of the rows.
        make: (rows, seed) to rows.
        rows: of the whole table.
        row_group_rows: the cuts that are compared.
        column: what a scan of one column reads.
        where: a filter that about one row in fifty passes, wherever they lie.
        filters: the same for PyArrow.
    """

    name: str
    make: Callable[[int, int], pa.Table]
    rows: int
    row_group_rows: tuple[int, ...]
    column: str
    where: str
    filters: tuple[str, str, int]


SHAPES = (
    Shape(
        "lineitem",
        lineitem,
        1_408_000,
        (88_000, 176_000, 352_000),
        "l_partkey",
        "l_suppkey < 200",
        ("l_suppkey", "<", 200),
    ),
    Shape(
        "nested",
        nested,
        152_000,
        (9_500, 19_000, 38_000, 76_000),
        "count_05",
        "count_01 < 2",
        ("count_01", "<", 2),
    ),
)


@dataclass(frozen=True, slots=True)
class Scanned:
    """One way of scanning row groups of one size.

    Attributes:
        shape: name of the rows.
        row_group_bytes: mean stored size of the copied row groups.
        chunk_bytes: the same per column chunk.
        size_ratio: size of the copied file, of that encoded anew.
        scan: engine and what is read.
        cpu_ratio: median over rounds of CPU time on the copied rows, of that on the encoded ones.
        size_effect: the same of that on the writer's own large row groups.
        cpu_seconds: median on the encoded ones.
    """

    shape: str
    row_group_bytes: float
    chunk_bytes: float
    size_ratio: float
    scan: str
    cpu_ratio: float
    size_effect: float
    cpu_seconds: float


def compacted(source: Input, directory: Path, effort: str) -> list[str]:
    """Return the files of a table that was compacted with some effort."""
    made = prepare(source, directory / "made", directory / f"{source.rows_per_file}-{effort}")
    _run(made, effort)
    table = open_catalog(made.directory).load_table(TABLE)
    return [file.file_path.removeprefix("file://") for file in data_files(table)]


def _run(prepared: Prepared, effort: str) -> None:
    command = [sys.executable, "-m", "compactor.cli.main", "run", prepared.target, "--yes"]
    jobs = {"COMPACT_STORE__URL": f"sqlite:///{prepared.directory}/jobs.db"}
    subprocess.run(
        [*command, "--min-input-files", "2", "--effort", effort, "--quiet"],
        env={**os.environ, **prepared.environment, **jobs},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def scans(shape: Shape) -> dict[str, Callable[[list[str]], object]]:
    """Return what is timed: each takes the files of a table."""
    connection = duckdb.connect(config={"threads": 1})

    def ask(select: str, files: list[str]) -> object:
        return connection.execute(select, [files]).fetchall()

    column, read = shape.column, partial(_read, shape)
    every = "SELECT bit_xor(hash(COLUMNS(*))) FROM read_parquet(?)"
    return {
        "DuckDB, all columns": partial(ask, every),
        "DuckDB, one column": partial(ask, f"SELECT sum({column}) FROM read_parquet(?)"),
        "DuckDB, filtered": partial(ask, f"{every} WHERE {shape.where}"),
        "PyArrow, all columns": partial(read, None, is_filtered=False),
        "PyArrow, one column": partial(read, [column], is_filtered=False),
        "PyArrow, filtered": partial(read, None, is_filtered=True),
    }


def _read(
    shape: Shape, columns: list[str] | None, files: list[str], *, is_filtered: bool
) -> object:
    filters = [shape.filters] if is_filtered else None
    return pq.read_table(files, columns=columns, filters=filters, use_threads=False).num_rows


def compare(shape: Shape, directory: Path, rounds: int) -> Iterator[Scanned]:
    """Yield every scan of every size of row groups."""
    inputs = [
        Input(shape.name, shape.make, shape.rows // rows, rows) for rows in shape.row_group_rows
    ]
    # Rows are made file by file: each cut has its own, so each is encoded anew for comparison.
    for source in inputs:
        copied = compacted(source, directory, "bytes")
        encoded = compacted(source, directory, "deep")
        large = _uncut(copied, directory / f"{shape.name}-{source.rows_per_file}.parquet")
        footers = [pq.read_metadata(path) for path in copied]
        groups = sum(footer.num_row_groups for footer in footers)
        stored = sum(map(_size, copied))
        for name, scan in scans(shape).items():
            taken = _alternate(scan, [copied, encoded, large], rounds)
            yield Scanned(
                shape=shape.name,
                row_group_bytes=stored / groups,
                chunk_bytes=stored / groups / footers[0].num_columns,
                size_ratio=stored / sum(map(_size, encoded)),
                scan=name,
                cpu_ratio=statistics.median(own / other for own, other, _ in taken),
                size_effect=statistics.median(own / other for own, _, other in taken),
                cpu_seconds=statistics.median(other for _, other, _ in taken),
            )


def _size(path: str) -> int:
    return Path(path).stat().st_size


def _uncut(paths: Sequence[str], output: Path) -> list[str]:
    """Write the rows of files as `cached_files` does, in row groups of a million."""
    rows = pa.concat_tables(pq.ParquetFile(path).read() for path in paths)
    pq.write_table(
        rows, output, compression="zstd", compression_level=3,
        write_page_index=True, write_page_checksum=True,
    )  # fmt: skip
    return [str(output)]


def _alternate(
    scan: Callable[[list[str]], object], contenders: Sequence[list[str]], rounds: int
) -> list[list[float]]:
    """Return the CPU-seconds of scans that run in turn, round by round."""
    for files in contenders:
        scan(files)
    return [[_cpu_seconds(scan, files) for files in contenders] for _ in range(rounds)]


def _cpu_seconds(scan: Callable[[list[str]], object], files: list[str]) -> float:
    started = time.process_time()
    scan(files)
    return time.process_time() - started


def markdown(found: Sequence[Scanned]) -> str:
    """Return a table: a row for each size of row groups, a column for each scan."""
    names = list(dict.fromkeys(one.scan for one in found))
    lines = [
        f"| rows | row group, MiB | column chunk, KiB | size | {' | '.join(names)} |",
        f"|---|{'---:|' * (3 + len(names))}",
    ]
    for key in dict.fromkeys((one.shape, one.row_group_bytes) for one in found):
        some = [one for one in found if (one.shape, one.row_group_bytes) == key]
        sizes = f"{some[0].row_group_bytes / KIB**2:.1f} | {some[0].chunk_bytes / KIB:.0f}"
        ratios = " | ".join(f"{one.cpu_ratio:.2f} ({one.size_effect:.2f})" for one in some)
        lines.append(f"| {key[0]} | {sizes} | {some[0].size_ratio:.2f} | {ratios} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything and save the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scan", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    found: list[Scanned] = []
    with tempfile.TemporaryDirectory() as temporary:
        for shape in SHAPES:
            for one in compare(shape, Path(temporary), chosen.rounds):
                found.append(one)
                size = f"{one.row_group_bytes / KIB**2:.1f} MiB"
                ratios = f"{one.cpu_ratio:.2f} ({one.size_effect:.2f})"
                print(f"{one.shape}, {size}, {one.scan}: {ratios}", file=sys.stderr)
    chosen.output.mkdir(parents=True, exist_ok=True)
    document = {
        "commit": commit(),
        "versions": versions(("duckdb", "pyarrow")),
        "rounds": chosen.rounds,
        "scans": [asdict(one) for one in found],
    }
    (chosen.output / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    (chosen.output / "results.md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
