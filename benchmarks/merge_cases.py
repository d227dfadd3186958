"""The cases of merging: `compact merge` beside Spark's `MERGE INTO` and DeltaCAT.

Every program has a contender that does next to nothing: what it takes is its start, and is taken
off the others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cases import Case, Contender
from benchmarks.delta_tables import TABLE, DeltaInput, prepare_delta
from benchmarks.merge_data import Changes, base_rows, keyed_rows, write_changes
from benchmarks.tables import Input, Prepared, prepare

_ROOT = Path(__file__).resolve().parent.parent
_COMPACT = str(Path(sys.executable).with_name("compact"))
_VECTORS = "deletionVectors"
START = ": start"
"""How the names of contenders end that only start."""


@dataclass(frozen=True, slots=True)
class Merge:
    """A table and changes of it.

    Attributes:
        source: the data files; all have the same rows, but for their keys.
        changes: what is merged.
        scale: of the number of files, and of the changes with them.
    """

    source: Input
    changes: Changes

    @property
    def rows(self) -> int:
        """Rows of the table and changes together."""
        return self.source.files * self.source.rows_per_file + self.changes.count

    def scaled(self, scale: float) -> Merge:
        """Return a smaller one."""
        old = self.source
        files = max(1, round(old.files * scale))
        share = files / old.files
        some = self.changes
        counts = [max(1, round(one * share)) for one in (some.updates, some.inserts, some.deletes)]
        span = round(some.span * share)
        return Merge(
            Input(old.name, old.make, files, old.rows_per_file, old.row_groups),
            Changes(*counts, files=some.files, span=span),
        )


@dataclass(frozen=True, slots=True)
class MergeCase:
    """A case, and what is merged in it."""

    case: Case
    merge: Merge


def _write_inputs(merge: Merge, cache: Path, directory: Path) -> None:
    """Put changes beside a table: all of them, and one alone."""
    rows = merge.source.files * merge.source.rows_per_file
    changes = write_changes(merge.changes, cache, base_rows_count=rows)
    (directory / "changes").symlink_to(changes)
    one = keyed_rows(pa.array([0]).to_numpy(), 1).append_column("op", pa.array(["U"]))
    (directory / "one").mkdir()
    pq.write_table(one, directory / "one" / "0.parquet")


def _iceberg(merge: Merge, cache: Path, directory: Path, scale: float) -> Prepared:
    merge = merge.scaled(scale)
    prepared = prepare(merge.source, cache, directory)
    _write_inputs(merge, cache, directory)
    return prepared


def _delta(merge: Merge, cache: Path, directory: Path, scale: float, *, marks: bool) -> Prepared:
    merge = merge.scaled(scale)
    prepared = prepare_delta(DeltaInput(merge.source, "zstd"), cache, directory, 1.0)
    _write_inputs(merge, cache, directory)
    if marks:
        _enable_vectors(directory / TABLE)
    return prepared


def _enable_vectors(table: Path) -> None:
    """Let deletes be recorded beside the files of a table that was just made."""
    (log,) = (table / "_delta_log").glob("*.json")
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "protocol" in action:
            features = [_VECTORS, *action["protocol"].get("readerFeatures", ())]
            writer = [_VECTORS, *action["protocol"].get("writerFeatures", ())]
            action["protocol"] = {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": features,
                "writerFeatures": writer,
            }
        if "metaData" in action:
            action["metaData"]["configuration"]["delta.enableDeletionVectors"] = "true"
    log.write_text("\n".join(map(json.dumps, actions)) + "\n")


Target = Callable[[Prepared], str]


def _in_catalog(prepared: Prepared) -> str:
    return prepared.target


def _in_directory(prepared: Prepared) -> str:
    return str(prepared.directory / TABLE)


def _compact(
    target: Target, *arguments: str, changes: str = "changes", name: str = ""
) -> Contender:
    def command(prepared: Prepared) -> list[str]:
        source = str(prepared.directory / changes)
        fixed = ["--changes", source, "--key", "id", "--op-column", "op", "--yes"]
        return [_COMPACT, "merge", target(prepared), *fixed, *arguments, "--json", "--no-progress"]

    return Contender(name or " ".join(("compact merge", *arguments)), command)


def _starts(target: Target) -> Contender:
    return _compact(target, changes="one", name=f"compact merge{START}")


def _rewrites_all(target: Target) -> Contender:
    """Encode every row of the table anew."""

    def command(prepared: Prepared) -> list[str]:
        return [
            *(_COMPACT, "run", target(prepared), "--yes", "--effort", "deep"),
            *("--target-file-size", "64MiB", "--json", "--no-progress"),
        ]

    return Contender("compact run --effort deep", command)


def _spark(engine: str, mode: str) -> Contender:
    def command(prepared: Prepared) -> list[str]:
        python = str(_ROOT / ".venv-judges" / "bin" / "python")
        script = str(_ROOT / "benchmarks" / "merge_with_spark.py")
        if mode == "start":
            return [python, script, engine, "start"]
        place = prepared.directory / TABLE if engine == "delta" else prepared.directory
        changes = str((prepared.directory / "changes").resolve())
        return [python, script, engine, str(place), changes, mode]

    return Contender(f"spark{START}" if mode == "start" else f"spark: MERGE INTO, {mode}", command)


def _deltacat() -> Contender:
    """Merge into its own table, with workers that are warm: it says itself what the merge took."""

    def command(prepared: Prepared) -> list[str]:
        python = str(_ROOT / ".venv-deltacat" / "bin" / "python")
        script = str(_ROOT / "benchmarks" / "merge_with_deltacat.py")
        base = prepared.data_files[0].parent
        stored = sum(pq.read_metadata(path).num_rows for path in prepared.data_files)
        ops = pq.read_table((prepared.directory / "changes").resolve(), columns=["op"])["op"]
        kinds = {one["values"]: one["counts"] for one in ops.value_counts().to_pylist()}
        expected = stored + kinds["I"] - kinds["D"]
        changes = str((prepared.directory / "changes").resolve())
        return [python, script, str(base), changes, str(prepared.directory / "dc"), str(expected)]

    return Contender("deltacat: compact_partition, warm", command)


_KEYED = Input("keyed", base_rows, 8, 625_000, row_groups=5)
_RANDOM = Merge(_KEYED, Changes(250_000, 250_000, 50_000))
_SCATTERED = "500,000 upserts and 50,000 deletes of random keys into 5 million rows"
_CLUSTERED = Merge(Input("keyed", base_rows, 400, 50_000), Changes(20_000, 0, 2_000, span=200_000))
_LARGE = Merge(
    Input("keyed", base_rows, 80, 625_000, row_groups=5),
    Changes(2_500_000, 2_500_000, 500_000, files=40),
)

MERGE_CASES = (
    MergeCase(
        Case(
            "merge-iceberg",
            f"{_SCATTERED}, Iceberg",
            partial(_iceberg, _RANDOM),
            (
                _starts(_in_catalog),
                _compact(_in_catalog),
                _compact(_in_catalog, "--write-mode", "copy-on-write"),
                _spark("iceberg", "start"),
                _spark("iceberg", "copy-on-write"),
                _spark("iceberg", "merge-on-read"),
            ),
            "compact merge",
        ),
        _RANDOM,
    ),
    MergeCase(
        Case(
            "merge-deltacat",
            f"{_SCATTERED}, Iceberg; DeltaCAT's own table",
            partial(_iceberg, _RANDOM),
            (_starts(_in_catalog), _compact(_in_catalog), _deltacat()),
            "compact merge",
        ),
        _RANDOM,
    ),
    MergeCase(
        Case(
            "merge-delta",
            f"{_SCATTERED}, Delta with deletion vectors",
            partial(_delta, _RANDOM, marks=True),
            (
                _starts(_in_directory),
                _compact(_in_directory),
                _spark("delta", "start"),
                _spark("delta", "merge-on-read"),
            ),
            "compact merge",
        ),
        _RANDOM,
    ),
    MergeCase(
        Case(
            "merge-delta-plain",
            f"{_SCATTERED}, Delta without deletion vectors",
            partial(_delta, _RANDOM, marks=False),
            (
                _starts(_in_directory),
                _compact(_in_directory),
                _spark("delta", "start"),
                _spark("delta", "copy-on-write"),
            ),
            "compact merge",
        ),
        _RANDOM,
    ),
    MergeCase(
        Case(
            "merge-clustered",
            "22,000 changes of keys in 1 % of 400 files, 20 million rows, Iceberg",
            partial(_iceberg, _CLUSTERED),
            (
                _starts(_in_catalog),
                _compact(_in_catalog),
                _compact(_in_catalog, "--write-mode", "copy-on-write"),
                _rewrites_all(_in_catalog),
            ),
            "compact run --effort deep",
        ),
        _CLUSTERED,
    ),
    MergeCase(
        Case(
            "merge-large",
            "5 million upserts and 500,000 deletes into 50 million rows, 2 GiB for all workers",
            partial(_iceberg, _LARGE),
            (_starts(_in_catalog), _compact(_in_catalog, "--memory", "2GiB")),
            "compact merge --memory 2GiB",
        ),
        _LARGE,
    ),
)
