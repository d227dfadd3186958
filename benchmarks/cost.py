"""What rewriting a tebibyte costs by the results of the cases against Spark, start-up apart.

Run `python -m benchmarks.cost [RESULTS.json]`. Of each contender the start of its program is taken
off. vCPU-hours are CPU-seconds; GiB-hours are the peak of the process tree for as long as these
would keep two cores busy: wall times of a machine with other work to do mean nothing.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TIB, _GIB, _HOUR_SECONDS, _CORES = 1 << 40, 1 << 30, 3600.0, 2
_DEFAULT = Path(__file__).resolve().parent / "results" / "iceberg-spark" / "results.json"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a contender takes for a tebibyte.

    Attributes:
        name: the contender.
        cpu_seconds: as measured, start-up included.
        work_seconds: without it.
        vcpu_hours: per tebibyte.
        gib_hours: per tebibyte.
        peak_bytes: of the process tree.
    """

    name: str
    cpu_seconds: float
    work_seconds: float
    vcpu_hours: float
    gib_hours: float
    peak_bytes: float


def costs(case: Mapping[str, Any]) -> list[Cost]:
    """Return what the contenders of a case cost that are no mere starts."""
    medians = {
        one["name"]: {
            figure: statistics.median(run[figure] for run in one["runs"])
            for figure in ("cpu_seconds", "peak_tree_bytes")
        }
        for one in case["contenders"]
    }
    return [
        _cost(name, used, medians[_start_of(name)]["cpu_seconds"], case["input_bytes"])
        for name, used in medians.items()
        if name != _start_of(name)
    ]


def _start_of(name: str) -> str:
    """Return the contender that does nothing but start the same program."""
    return f"{name.split()[0].removesuffix(':')}: start"


def _cost(name: str, used: Mapping[str, float], start_seconds: float, input_bytes: int) -> Cost:
    # What takes no longer than the start is below what can be measured.
    seconds = max(used["cpu_seconds"] - start_seconds, 0.01)
    hours = seconds / _HOUR_SECONDS * _TIB / input_bytes
    peak = used["peak_tree_bytes"]
    return Cost(name, used["cpu_seconds"], seconds, hours, peak / _GIB * hours / _CORES, peak)


def markdown(case: Mapping[str, Any]) -> str:
    """Return the table of one case."""
    found = costs(case)
    spark = next(one for one in found if one.name == case["yardstick"])
    lines = [
        f"**{case['title']}** ({case['input_bytes'] / (1 << 20):,.0f} MiB in)",
        "",
        "| | CPU s | without start | Spark's by ours, whole | without start | peak MiB, tree "
        "| vCPU-h / TiB | GiB-h / TiB | vCPU-h saved | GiB-h saved |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one.name} | {one.cpu_seconds:.2f} | {one.work_seconds:.2f} "
        f"| {spark.cpu_seconds / one.cpu_seconds:.1f} "
        f"| {spark.work_seconds / one.work_seconds:.1f} "
        f"| {one.peak_bytes / (1 << 20):,.0f} | {one.vcpu_hours:.2f} | {one.gib_hours:.2f} "
        f"| {1 - one.vcpu_hours / spark.vcpu_hours:.1%} "
        f"| {1 - one.gib_hours / spark.gib_hours:.1%} |"
        for one in found
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the costs of every case in a file of results, and keep them beside it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    path = Path(given[0]) if given else _DEFAULT
    document = json.loads(path.read_text(encoding="utf-8"))
    text = "\n".join(markdown(case) for case in document["cases"])
    (path.parent / "costs.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
