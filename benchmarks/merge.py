"""Run the merge cases: `python -m benchmarks.merge [--case NAME] [--runs N] [--scale F]`.

Results go to `benchmarks/results/<case>`, with what each program takes beyond its start, and the
rows (of table and changes) that it merges per CPU-second of that.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.__main__ import HERE, run_case
from benchmarks.merge_cases import MERGE_CASES, START, MergeCase
from benchmarks.report import MIB, CaseResult, Series, markdown, save


def beyond_start(result: CaseResult, series: Series) -> float:
    """Return the median CPU-seconds of a contender less the median of its program's start."""
    program = series.contender.partition(" ")[0].rstrip(":")
    starts = [one for one in result.series if one.contender.endswith(START)]
    own = [one for one in starts if one.contender.partition(" ")[0].rstrip(":") == program]
    start = statistics.median(one.median("cpu_seconds") for one in own) if own else 0.0
    return series.median("cpu_seconds") - start


def summary(result: CaseResult, rows: int) -> str:
    """Return a table of what the contenders take beyond their start."""
    lines = [
        "| beyond the start | CPU s | rows per CPU s | of compact merge's | peak MiB, tree |",
        "|---|---:|---:|---:|---:|",
    ]
    ours = next(one for one in result.series if _is_ours(one))
    base = beyond_start(result, ours)
    for one in result.series:
        if one.contender.endswith(START):
            continue
        seconds = max(1e-3, beyond_start(result, one))
        lines.append(
            f"| {one.contender} | {seconds:.2f} | {rows / seconds:,.0f} | {seconds / base:.2f}"
            f" | {one.median('peak_tree_bytes') / MIB:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def _is_ours(series: Series) -> bool:
    return series.contender.startswith("compact merge") and START not in series.contender


def run(one: MergeCase, work: Path, *, runs: int, scale: float, output: Path) -> str:
    """Run a case, save its results and return them for people."""
    result = run_case(one.case, work, runs, scale)
    directory = output / one.case.name
    save([result], directory)
    text = markdown(result) + "\n" + summary(result, one.merge.scaled(scale).rows)
    (directory / "results.md").write_text(text, encoding="utf-8")
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen cases."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.merge", description=__doc__)
    names = [one.case.name for one in MERGE_CASES]
    parser.add_argument("--case", action="append", choices=names)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the files and changes")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--work", type=Path, help="directory for data; kept (default: temporary)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        work = (chosen.work or Path(temporary)).resolve()
        for one in MERGE_CASES:
            if not chosen.case or one.case.name in chosen.case:
                print(run(one, work, runs=chosen.runs, scale=chosen.scale, output=chosen.output))


if __name__ == "__main__":
    main()
