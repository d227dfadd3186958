"""Grants on real compactions: `python -m benchmarks.memory [--rounds N] [--days N] [--work DIR]`.

Six tables of different shapes grow and are compacted, round by round, by `compact run` on worker
processes of this machine. What each task took is then replayed in the order in which it ran, each
attempt held to its own grant, under several rules. Written to `results/runtime-memory.*`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import provenance
from benchmarks.compactions import Load, Ran, read, run
from compactor.jobs.priors import PRIORS
from runtime.predictor import Prediction, prediction
from runtime.simulation.figures import Books, Figures
from runtime.simulation.population import Job, SimulatedTask
from runtime.simulation.replay import replay_jobs
from runtime.simulation.rules import Factor, Predicted, Rule, file_bytes, tuned

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
# Runs of a table that only teach, where the rule is looked at without its cold start.
WARM_AFTER_ROUNDS = 1

_Granted = tuple[SimulatedTask, Prediction]

HEAD = "| | U | p_oom | jobs_hit | lost_time | wastage |\n|---|---:|---:|---:|---:|---:|\n"
HEAD_SHAPES = (
    "| table | tasks | input, MiB | peak, MiB: least / median / largest |"
    " process, share of peaks | U | granted too much, MiB, mean | of it margin |"
    " peak / grant, largest |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
)


def estimate(task: SimulatedTask) -> int:
    """Return what the planner expects a task to take, the process included."""
    return task.base_bytes


RULES: dict[str, Callable[[Sequence[Job]], Rule]] = {
    "fixed 2 x file bytes": lambda _: Factor(2, file_bytes),
    "best fixed factor on file bytes, in hindsight": lambda jobs: tuned((tuple(jobs),), file_bytes),
    "fixed 2 x the plan's estimate": lambda _: Factor(2, estimate),
    "best fixed factor on the plan's estimate, in hindsight": lambda jobs: tuned(
        (tuple(jobs),), estimate
    ),
    "compact": lambda _: Predicted(PRIORS),
}


@dataclass(frozen=True, slots=True)
class ShapeFigures:
    """The tasks of one table; sizes in bytes.

    Attributes:
        process_share: Of the peaks, by duration, what the smallest task takes as well.
        utilisation: Of first grants.
        over_grant_bytes_mean: What they exceed the peaks by.
        margin_bytes_mean: The part of it that is granted beyond the peak expected.
        peak_of_grant_largest: Beyond 1, a first attempt was granted too little.
    """

    table: str
    tasks: int
    file_bytes_median: int
    peak_bytes_least: int
    peak_bytes_median: int
    peak_bytes_largest: int
    process_share: float
    utilisation: float
    over_grant_bytes_mean: float
    margin_bytes_mean: float
    peak_of_grant_largest: float


@dataclass(frozen=True, slots=True)
class Result:
    """What is reported of a series of compactions."""

    tasks: int
    failed: int
    rules: dict[str, Figures]
    as_it_ran: Figures
    warm: Figures
    shapes: tuple[ShapeFigures, ...]


def evaluate(ran: Ran, *, workers: int, seed: int = 1) -> Result:
    """Replay what ran under all rules."""
    tasks = [task for job in ran.jobs for task in job]
    rules = {
        name: replay_jobs(ran.jobs, make(ran.jobs), seed=seed, wave_tasks=workers)
        for name, make in RULES.items()
    }
    return Result(
        tasks=len(tasks),
        failed=ran.failed,
        rules=rules,
        as_it_ran=_granted(tasks, ran.grants),
        warm=_warm(ran.jobs, seed, workers),
        shapes=tuple(_shapes(tasks, _first_grants(ran.jobs, workers))),
    )


def _granted(tasks: Sequence[SimulatedTask], grants: Sequence[int]) -> Figures:
    """Return the figures of the grants that were really given; a machine with room lets more be."""
    books = Books(jobs=1)
    for task, granted_bytes in zip(tasks, grants, strict=True):
        books.first += 1
        books.first_failed += task.peak_bytes > granted_bytes
        books.succeeded(task.peak_bytes, granted_bytes, task.duration_seconds)
    return books.figures()


def _warm(jobs: Sequence[Job], seed: int, workers: int) -> Figures:
    """Return the figures of the rule as it is once each table had its first rounds."""
    rule, seen, later = Predicted(PRIORS), dict[str, int](), list[Job]()
    for job in jobs:
        table = job[0].key[0]
        seen[table] = seen.get(table, 0) + 1
        if seen[table] > WARM_AFTER_ROUNDS:
            later.append(job)
            continue
        for task in job:
            rule.learn(task)
    return replay_jobs(later, rule, seed=seed, wave_tasks=workers)


def _first_grants(jobs: Sequence[Job], workers: int) -> list[Prediction]:
    """Return what our rule expects of and grants the first attempt of each task, in order."""
    rule, granted = Predicted(PRIORS), list[Prediction]()
    for job in jobs:
        for start in range(0, len(job), workers):
            wave = job[start : start + workers]
            granted += [prediction(rule.rates(t.key), t.base_bytes) for t in wave]
            for task in wave:
                rule.learn(task)
    return granted


def _shapes(tasks: Sequence[SimulatedTask], grants: Sequence[Prediction]) -> list[ShapeFigures]:
    by_table: dict[str, list[_Granted]] = {}
    for task, given in zip(tasks, grants, strict=True):
        by_table.setdefault(task.key[0], []).append((task, given))
    least = min(task.peak_bytes for task in tasks)
    return [_shape(table, own, least) for table, own in by_table.items()]


def _shape(table: str, own: Sequence[_Granted], process_bytes: int) -> ShapeFigures:
    tasks = [task for task, _ in own]
    peaks = sorted(task.peak_bytes for task in tasks)
    useful = sum(task.peak_bytes * task.duration_seconds for task in tasks)
    seconds = sum(task.duration_seconds for task in tasks)
    return ShapeFigures(
        table=table.rpartition(".")[2],
        tasks=len(tasks),
        file_bytes_median=int(statistics.median(task.file_bytes for task in tasks)),
        peak_bytes_least=peaks[0],
        peak_bytes_median=int(statistics.median(peaks)),
        peak_bytes_largest=peaks[-1],
        process_share=process_bytes * seconds / useful,
        utilisation=useful / sum(g.granted_bytes * task.duration_seconds for task, g in own),
        over_grant_bytes_mean=statistics.fmean(g.granted_bytes - t.peak_bytes for t, g in own),
        margin_bytes_mean=statistics.fmean(g.granted_bytes - g.predicted_bytes for _, g in own),
        peak_of_grant_largest=max(task.peak_bytes / g.granted_bytes for task, g in own),
    )


def markdown(result: Result) -> str:
    """Return both tables."""
    rows = {
        **result.rules,
        "compact, from the second run of a table on": result.warm,
        "compact, as granted in the runs themselves": result.as_it_ran,
    }
    lines = "".join(
        f"| {name} | {f.utilisation:.3f} | {f.p_oom:.4f} | {f.jobs_hit:.3f} |"
        f" {f.lost_time:.4f} | {f.wastage:.2f} |\n"
        for name, f in rows.items()
    )
    shapes = "".join(_shape_row(shape) for shape in result.shapes)
    return (
        f"**{result.tasks} compaction tasks of {len(result.shapes)} table shapes, replayed in the"
        f" order in which they ran** ({result.failed} attempts failed as they ran)\n\n"
        f"{HEAD}{lines}\n{HEAD_SHAPES}{shapes}"
    )


def _shape_row(shape: ShapeFigures) -> str:
    peaks = (shape.peak_bytes_least, shape.peak_bytes_median, shape.peak_bytes_largest)
    shown = " / ".join(f"{peak / MIB:.0f}" for peak in peaks)
    return (
        f"| {shape.table} | {shape.tasks} | {shape.file_bytes_median / MIB:.1f} |"
        f" {shown} | {shape.process_share:.2f} | {shape.utilisation:.2f} |"
        f" {shape.over_grant_bytes_mean / MIB:.0f} | {shape.margin_bytes_mean / MIB:.0f} |"
        f" {shape.peak_of_grant_largest:.2f} |\n"
    )


def chart(ran: Ran, result: Result, path: Path) -> None:
    """Draw the rules side by side, and the peaks of all tasks against what the plan expected."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 3.6), layout="constrained")
    names = list(result.rules)
    colours = ["#1f6f8b" if name == "compact" else "#b8c4cc" for name in names]
    shares = [100 * figures.utilisation for figures in result.rules.values()]
    bars = left.barh(names, shares, color=colours)
    losses = [f"{100 * figures.p_oom:.1f} % out of memory" for figures in result.rules.values()]
    left.bar_label(bars, losses, fontsize=7, padding=3)
    left.axvline(80, color="#555555", linewidth=0.8)
    left.set_xlim(0, 110)
    left.set_xlabel("memory utilisation, %", fontsize=8)
    left.invert_yaxis()
    for shape in result.shapes:
        own = [t for job in ran.jobs for t in job if t.key[0].endswith(f".{shape.table}")]
        expected, peaks = ([b / MIB for b in sizes] for sizes in _both(own))
        right.scatter(expected, peaks, s=6, label=shape.table)
    right.set_xlabel("estimate of the plan, MiB", fontsize=8)
    right.set_ylabel("peak, MiB", fontsize=8)
    right.legend(fontsize=7)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def _both(tasks: Sequence[SimulatedTask]) -> tuple[list[int], list[int]]:
    return [task.base_bytes for task in tasks], [task.peak_bytes for task in tasks]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the compactions, or read those of an earlier call, and replay them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, choices=range(2, 100), metavar="N")
    parser.add_argument("--days", type=int, default=14, help="new partitions per table and round")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, help="directory for data; kept (default: temporary)")
    parser.add_argument("--read", action="store_true", help="read what is in --work; run nothing")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        work = (chosen.work or Path(temporary)).resolve()
        if not chosen.read:
            load = Load(chosen.rounds, chosen.days, chosen.workers)
            run(work, load, lambda line: _tell(f"{time.monotonic() - started:.0f} s: {line}"))
        ran = read(work)
    result = evaluate(ran, workers=chosen.workers)
    chosen.output.mkdir(parents=True, exist_ok=True)
    base = chosen.output / "runtime-memory"
    document = {"commit": provenance.commit(), **dataclasses.asdict(result)}
    base.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    text = markdown(result)
    base.with_suffix(".md").write_text(text, encoding="utf-8")
    chart(ran, result, base.with_suffix(".png"))
    print(text)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
