"""Run benchmark cases: `python -m benchmarks [--case NAME] [--runs N] [--scale F]`.

The contenders of a case alternate, A B C A B C, so that the machine's moods hit all of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.cases import CASES, Case, Contender
from benchmarks.delta_cases import DELTA_CASES
from benchmarks.hudi_cases import HUDI_CASES
from benchmarks.iceberg_cases import ICEBERG_CASES
from benchmarks.measure import Measurement, measure
from benchmarks.planning_cases import PLANNING_CASES
from benchmarks.report import CaseResult, Series, markdown, save

HERE = Path(__file__).resolve().parent
ALL_CASES = (*CASES, *PLANNING_CASES, *DELTA_CASES, *ICEBERG_CASES, *HUDI_CASES)
MEASURED = "MEASURED "


def run_case(case: Case, work: Path, runs: int, scale: float) -> CaseResult:
    """Measure every contender `runs` times, in turn, each time on a fresh table."""
    measured: dict[str, list[Measurement]] = {c.name: [] for c in case.contenders}
    input_bytes = 0
    for number in range(runs):
        for contender in case.contenders:
            used, input_bytes = _run(case, contender, work, scale)
            measured[contender.name].append(used)
            print(
                f"{case.name} {number + 1}/{runs} {contender.name}: {used.cpu_seconds:.2f} CPU s",
                file=sys.stderr,
                flush=True,
            )
    shutil.rmtree(work / "run", ignore_errors=True)
    return CaseResult(
        case, input_bytes, tuple(Series(name, tuple(some)) for name, some in measured.items())
    )


def _run(case: Case, contender: Contender, work: Path, scale: float) -> tuple[Measurement, int]:
    prepared = case.prepare(work / "cache", work / "run" / case.name, scale)
    environment = {
        **prepared.environment,
        "XDG_STATE_HOME": str(prepared.directory / "state"),
        "PYTHONPATH": str(HERE.parent),
    }
    used, printed = measure(contender.command(prepared), environment)
    for line in printed.splitlines():
        # A program that must warm up first says itself what its work took.
        if line.startswith(MEASURED):
            used = replace(used, **json.loads(line.removeprefix(MEASURED)))
    return used, prepared.input_bytes


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen cases and save their results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--case", action="append", choices=[case.name for case in ALL_CASES])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the input files")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--work", type=Path, help="directory for data; kept (default: temporary)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        work = (chosen.work or Path(temporary)).resolve()
        results = [
            run_case(case, work, chosen.runs, chosen.scale)
            for case in ALL_CASES
            if not chosen.case or case.name in chosen.case
        ]
    save(results, chosen.output)
    print("\n".join(markdown(result) for result in results))


if __name__ == "__main__":
    main()
