"""Results of a series of runs: JSON for machines, a Markdown table and a chart for people."""

from __future__ import annotations

import dataclasses
import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks import provenance
from benchmarks.cases import GIB, Case
from benchmarks.measure import Measurement

MIB = 1 << 20
LIBRARIES = ("pyarrow", "pyiceberg", "duckdb", "polars", "deltalake")


@dataclass(frozen=True, slots=True)
class Series:
    """The runs of one contender in one case, in the order they ran."""

    contender: str
    runs: tuple[Measurement, ...]

    def median(self, figure: str) -> float:
        """Return the median of one figure of the runs."""
        return statistics.median(getattr(run, figure) for run in self.runs)

    @property
    def least(self) -> float:
        """The fewest CPU-seconds of any run."""
        return min(run.cpu_seconds for run in self.runs)

    @property
    def most(self) -> float:
        """The most CPU-seconds of any run."""
        return max(run.cpu_seconds for run in self.runs)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """All series of one case; run number i of each contender stood side by side."""

    case: Case
    input_bytes: int
    series: tuple[Series, ...]

    def ratio(self, contender: Series) -> float:
        """Return the median over runs of its CPU-seconds divided by the yardstick's."""
        yardstick = next(s for s in self.series if s.contender == self.case.yardstick)
        pairs = zip(contender.runs, yardstick.runs, strict=True)
        return statistics.median(own.cpu_seconds / other.cpu_seconds for own, other in pairs)


def document(results: Sequence[CaseResult]) -> dict[str, object]:
    """Return everything that was measured, with the machine and the versions it holds for."""
    return {
        "commit": provenance.commit(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in LIBRARIES},
        "cases": [
            {
                "name": result.case.name,
                "title": result.case.title,
                "yardstick": result.case.yardstick,
                "input_bytes": result.input_bytes,
                "contenders": [
                    {
                        "name": series.contender,
                        "cpu_ratio": result.ratio(series),
                        "runs": [dataclasses.asdict(run) for run in series.runs],
                    }
                    for series in result.series
                ],
            }
            for result in results
        ],
    }


def markdown(result: CaseResult) -> str:
    """Return the table of one case: medians over its runs."""
    runs = len(result.series[0].runs)
    gib = result.input_bytes / GIB
    head = (
        f"**{result.case.title}** "
        f"({result.input_bytes / MIB:,.0f} MiB in, median of {runs}, alternating)\n\n"
        f"| | CPU s | of {result.case.yardstick}'s | CPU s / GiB | peak MiB, tree "
        "| peak MiB, one process | read MiB | written MiB | calls |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    )
    return head + "".join(_row(result, series, gib) for series in result.series)


def _row(result: CaseResult, series: Series, gib: float) -> str:
    cpu = series.median("cpu_seconds")
    calls = series.median("read_calls") + series.median("write_calls")
    cells = [
        series.contender,
        f"{cpu:.2f}",
        f"{result.ratio(series):.2f}",
        f"{cpu / gib:.1f}",
        *(
            f"{series.median(figure) / MIB:,.0f}"
            for figure in (
                "peak_tree_bytes",
                "peak_process_bytes",
                "read_bytes",
                "write_bytes",
            )
        ),
        f"{calls:,.0f}",
    ]
    return f"| {' | '.join(cells)} |\n"


def chart(results: Sequence[CaseResult], path: Path) -> None:
    """Draw CPU-seconds of every contender, one panel a case."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        len(results), 1, figsize=(9, 2.4 * len(results)), layout="constrained", squeeze=False
    )
    for panel, result in zip(panels[:, 0], results, strict=True):
        names = [series.contender for series in result.series]
        medians = [series.median("cpu_seconds") for series in result.series]
        spread = [
            [series.median("cpu_seconds") - series.least for series in result.series],
            [series.most - series.median("cpu_seconds") for series in result.series],
        ]
        colours = ["#1f6f8b" if name.startswith("compact") else "#b8c4cc" for name in names]
        panel.barh(names, medians, xerr=spread, color=colours, ecolor="#555555")
        panel.invert_yaxis()
        panel.set_title(result.case.title, fontsize=10, loc="left")
        panel.set_xlabel("CPU-seconds, whole process tree (bars: median, lines: range)", fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def save(results: Sequence[CaseResult], directory: Path) -> None:
    """Write `results.json`, `results.md` and `results.png`."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document(results), indent=1)
    (directory / "results.json").write_text(text + "\n", encoding="utf-8")
    tables = "\n".join(markdown(result) for result in results)
    (directory / "results.md").write_text(tables, encoding="utf-8")
    chart(results, directory / "results.png")
