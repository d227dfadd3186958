"""The cases on Delta tables: against deltalake and against Spark, whose start is a contender."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from benchmarks.cases import Case, Contender, peer
from benchmarks.data import lineitem
from benchmarks.delta_tables import TABLE, TARGET_BYTES, DeltaInput, prepare_delta
from benchmarks.tables import Input, Prepared

_ROOT = Path(__file__).resolve().parent.parent


def _compact(*arguments: str) -> Contender:
    program = str(Path(sys.executable).with_name("compact"))

    def command(prepared: Prepared) -> list[str]:
        target = str(prepared.directory / TABLE)
        return [program, "run", target, "--yes", *arguments, "--json", "--no-progress"]

    return Contender(" ".join(("compact run --yes", *arguments)), command)


def _spark(name: str, what: str, *, codec: str = "zstd") -> Contender:
    def command(prepared: Prepared) -> list[str]:
        table = prepared.directory / TABLE
        arguments = {
            "start": [],
            "optimize": [str(table), str(TARGET_BYTES)],
            "coalesce": [
                str(table),
                str(prepared.directory / "coalesced"),
                str(-(-prepared.input_bytes // TARGET_BYTES)),
            ],
        }[what]
        python = _ROOT / ".venv-judges" / "bin" / "python"
        script = _ROOT / "benchmarks" / "delta_with_spark.py"
        return [str(python), str(script), codec, what, *arguments]

    return Contender(name, command)


_OURS = (_compact(), _compact("--effort", "deep"))
_DELTALAKE = peer("deltalake-optimize")

DELTA_CASES = (
    Case(
        "delta",
        "bin-pack a Delta table of 400 files of 2.5 MB, lineitem-like, zstd",
        partial(prepare_delta, DeltaInput(Input("lineitem", lineitem, 400, 88_000), "zstd")),
        (*_OURS, _DELTALAKE, peer("deltalake-optimize to zstd 1")),
        _DELTALAKE.name,
    ),
    Case(
        "delta-partitioned",
        "the same rows in 10 partitions, snappy",
        partial(prepare_delta, DeltaInput(Input("lineitem", lineitem, 400, 88_000), "snappy", 10)),
        (*_OURS, _DELTALAKE, peer("deltalake-optimize to snappy")),
        _DELTALAKE.name,
    ),
    Case(
        "delta-spark",
        "a quarter of the files, and Spark",
        partial(prepare_delta, DeltaInput(Input("lineitem", lineitem, 100, 88_000), "zstd")),
        (
            *_OURS,
            _spark("spark: start", "start"),
            _spark("spark: OPTIMIZE", "optimize"),
            _spark("spark: read, coalesce, write", "coalesce"),
        ),
        "spark: OPTIMIZE",
    ),
)
