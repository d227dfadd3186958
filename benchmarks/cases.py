"""The cases: an input, the contenders that run on it in turn, and the yardstick among them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.data import lineitem, nested
from benchmarks.delta_log import prepare_delta_log
from benchmarks.manifests import prepare_manifests
from benchmarks.peers import SORT_KEYS
from benchmarks.snapshots import prepare_snapshots
from benchmarks.tables import Input, Prepared, delete_rows, prepare

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Contender:
    """One program of a case.

    Attributes:
        name: as shown.
        command: from the prepared table to the command line.
    """

    name: str
    command: Callable[[Prepared], list[str]]


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison.

    Attributes:
        name: as given to `--case`.
        title: as shown.
        prepare: (cache, directory, scale) to a fresh table; not measured.
        contenders: run in turn, each on a fresh table.
        yardstick: name of the contender that the others are divided by.
    """

    name: str
    title: str
    prepare: Callable[[Path, Path, float], Prepared]
    contenders: tuple[Contender, ...]
    yardstick: str


def _compact(*arguments: str) -> Contender:
    program = str(Path(sys.executable).with_name("compact"))

    def command(prepared: Prepared) -> list[str]:
        target = prepared.target
        return [program, arguments[0], target, *arguments[1:], "--json", "--no-progress"]

    return Contender(" ".join(("compact", *arguments)), command)


def peer(name: str) -> Contender:
    """Return a contender of `benchmarks.peers`."""

    def command(prepared: Prepared) -> list[str]:
        output = prepared.directory / "output.parquet"
        arguments = [name, str(prepared.directory), str(output)]
        return [sys.executable, "-m", "benchmarks.peers", *arguments]

    return Contender(name, command)


def _ordered(strategy: str) -> Contender:
    """Put rows in order within a gibibyte for all workers together."""
    keys = ", ".join(SORT_KEYS)
    return _compact("run", "--yes", "--memory", "1GiB", "--strategy", strategy, "--sort-by", keys)


def _files(source: Input, cache: Path, directory: Path, scale: float) -> Prepared:
    count = max(4, round(source.files * scale))
    return prepare(replace(source, files=count), cache, directory)


def _touched(source: Input, cache: Path, directory: Path, scale: float) -> Prepared:
    prepared = _files(source, cache, directory, scale)
    delete_rows(prepared, source, 0.01)
    return prepared


def _delta_log(cache: Path, directory: Path, scale: float) -> Prepared:
    del cache
    return prepare_delta_log(directory, max(1, round(1_000_000 * scale)))


def _manifests(cache: Path, directory: Path, scale: float) -> Prepared:
    # Planning changes nothing, so that one table serves all runs of a series; but for what the
    # first one keeps of the manifests.
    del cache
    shutil.rmtree(directory / "state", ignore_errors=True)
    return prepare_manifests(directory, 50, max(1, round(2000 * scale)))


def _snapshots(cache: Path, directory: Path, scale: float) -> Prepared:
    del cache
    return prepare_snapshots(directory, max(2, round(1000 * scale)), 100)


LIMITS = (peer("pyarrow"), peer("duckdb"), peer("polars"), peer("cp"))
COPYING = _compact("run", "--yes")
ENCODING = _compact("run", "--yes", "--effort", "deep")
_EXPIRING = ("--only", "expire-snapshots", "--retention", "0s", "--force")
REWRITES = (COPYING, ENCODING, peer("pyiceberg-overwrite"), *LIMITS)

CASES = (
    Case(
        "lineitem",
        "bin-pack 400 files of 2.5 MB, lineitem-like, zstd",
        partial(_files, Input("lineitem", lineitem, 400, 88_000)),
        REWRITES,
        "pyarrow",
    ),
    Case(
        "nested",
        "bin-pack 200 files of 2.5 MB, 59 columns with struct, list and map, zstd",
        partial(_files, Input("nested", nested, 200, 9_500)),
        REWRITES,
        "pyarrow",
    ),
    Case(
        "touched",
        "a deleted row in 1 % of the row groups: 20 files of 20 row groups of 2.5 MB",
        partial(_touched, Input("lineitem", lineitem, 20, 1_760_000, row_groups=20)),
        (COPYING, ENCODING, peer("cp")),
        "compact run --yes --effort deep",
    ),
    Case(
        "proof",
        "the same with every row hashed before and after: 100 files of 2.5 MB, lineitem-like",
        partial(_files, Input("lineitem", lineitem, 100, 88_000)),
        (_compact("run", "--yes", "--effort", "deep", "--verify", "full"), ENCODING),
        "compact run --yes --effort deep",
    ),
    Case(
        "sort",
        "sort 400 files of 2.5 MB by two columns, lineitem-like, zstd",
        partial(_files, Input("lineitem", lineitem, 400, 88_000)),
        (_ordered("sort"), peer("duckdb-sort"), peer("duckdb-sort in 1 GiB")),
        "duckdb-sort",
    ),
    Case(
        "zorder",
        "Z-order of the same by the same columns",
        partial(_files, Input("lineitem", lineitem, 400, 88_000)),
        (_ordered("zorder"), _ordered("hilbert"), peer("deltalake-zorder")),
        "deltalake-zorder",
    ),
    Case(
        "small",
        "a table of 4 files of 1,000 rows: what a run costs before it moves a byte",
        lambda cache, directory, _: prepare(Input("small", lineitem, 4, 1_000), cache, directory),
        (_compact("run", "--yes", "--min-input-files", "2"), peer("pyiceberg-overwrite")),
        "pyiceberg-overwrite",
    ),
    Case(
        "planning",
        "plan 100,000 data files in 50 manifests, 20 columns with statistics, 200 partitions",
        _manifests,
        (_compact("plan"), peer("pyiceberg-plan")),
        "pyiceberg-plan",
    ),
    Case(
        "expiry",
        "expire 1,000 snapshots, and remove the 100,000 files that only they had",
        _snapshots,
        (
            _compact("upkeep", *_EXPIRING),
            _compact("upkeep", *_EXPIRING, "--dry-run"),
        ),
        " ".join(("compact", "upkeep", *_EXPIRING)),
    ),
    Case(
        "delta-planning",
        "plan 1,000,000 data files in one Delta checkpoint, 20 columns with statistics",
        _delta_log,
        (_compact("plan"), peer("deltalake-plan")),
        "deltalake-plan",
    ),
)
