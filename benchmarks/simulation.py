"""Grants and clusters simulated: `python -m benchmarks.simulation [--seeds N] [--profiles FILE]`.

Three parts: rules for grants on a population of tables, each attempt held to its own grant; the
same rules on clusters of nodes, with the runtime's own scheduler and containment and with nodes
lost; and placements per second. Written to `results/runtime-simulation.{json,md,png}`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import provenance
from benchmarks.placement import SLOT_GIB_SCARCE, Rate, measure
from runtime.simulation.cluster import Faults, Outcome, Simulation
from runtime.simulation.figures import Figures
from runtime.simulation.nodes import Size, nodes
from runtime.simulation.population import GIB, History, Shape, recorded, synthetic
from runtime.simulation.replay import replay
from runtime.simulation.rules import Factor, Predicted, Rule, file_bytes, footer_bytes, tuned

HERE = Path(__file__).resolve().parent
TIB = 1024 * GIB

RULES: dict[str, Callable[[History], Rule]] = {
    "fixed 2 x file bytes": lambda _: Factor(2, file_bytes),
    "best fixed factor on file bytes, in hindsight": lambda history: tuned(history, file_bytes),
    "best fixed factor on footer bytes, in hindsight": lambda h: tuned(h, footer_bytes),
    "compact": lambda _: Predicted(),
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """A cluster and what it has to do."""

    title: str
    shape: Shape
    size: Size
    faults: Faults
    rules: tuple[str, ...] = tuple(RULES)


SCENARIOS = (
    Scenario(
        "one machine of 16 vCPUs and 64 GiB",
        Shape(tables=10, jobs=6, tasks=32, median_bytes=2 * GIB),
        Size(16, 64 * GIB),
        Faults(),
    ),
    Scenario(
        "512 vCPUs and 4 TiB, 3 nodes lost",
        Shape(tables=50, jobs=6, median_bytes=4 * GIB),
        Size(512, 4 * TIB),
        Faults(3),
    ),
    Scenario(
        "26,846 vCPUs and 210 TiB, 50 nodes lost",
        Shape(tables=800, jobs=3, median_bytes=4 * GIB),
        Size(26_846, 210 * TIB),
        Faults(50),
        ("compact",),
    ),
)

GRANT_FIGURES = ("utilisation", "p_oom", "jobs_hit", "lost_time", "wastage")
HEAD_GRANTS = "| | U | p_oom | jobs_hit | lost_time | wastage |\n|---|---:|---:|---:|---:|---:|\n"
HEAD_CLUSTER = (
    "| | U_node | p_oom | jobs_hit | lost_time | makespan / bound | attempts | lost with nodes |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|\n"
)


def grants(histories: Sequence[History]) -> dict[str, Figures]:
    """Return the mean figures of each rule over the histories."""
    found = {}
    for name, make in RULES.items():
        runs = [replay(h, make(h), seed=seed) for seed, h in enumerate(histories, 1)]
        means = (statistics.fmean(getattr(run, f) for run in runs) for f in GRANT_FIGURES)
        found[name] = Figures(*means)
    return found


def cluster(scenario: Scenario, seed: int) -> dict[str, Outcome]:
    """Run the rules of a scenario."""
    history = synthetic(seed, scenario.shape)
    found = {}
    for name in scenario.rules:
        simulation = Simulation(
            history, RULES[name](history), nodes(seed, scenario.size), seed=seed
        )
        found[name] = simulation.run(scenario.faults, check_every=5_000)
        print(_cluster_row(name, found[name]), end="", flush=True)
    return found


def markdown(results: dict[str, dict[str, Figures]], runs: dict[str, dict[str, Outcome]]) -> str:
    """Return all tables."""
    parts = []
    for title, rows in results.items():
        lines = "".join(
            f"| {name} | {f.utilisation:.3f} | {f.p_oom:.4f} | {f.jobs_hit:.3f} |"
            f" {f.lost_time:.4f} | {f.wastage:.2f} |\n"
            for name, f in rows.items()
        )
        parts.append(f"**Grants: {title}**\n\n{HEAD_GRANTS}{lines}")
    for title, outcomes in runs.items():
        lines = "".join(_cluster_row(name, outcome) for name, outcome in outcomes.items())
        parts.append(f"**Cluster: {title}**\n\n{HEAD_CLUSTER}{lines}")
    return "\n".join(parts)


def _cluster_row(name: str, o: Outcome) -> str:
    f = o.figures
    return (
        f"| {name} | {o.node_utilisation:.3f} | {f.p_oom:.4f} | {f.jobs_hit:.3f} |"
        f" {f.lost_time:.4f} | {o.makespan_seconds / o.bound_seconds:.2f} |"
        f" {o.placements:,} | {o.lost} |\n"
    )


def placement_line(title: str, rate: Rate) -> str:
    """Return the sentence on placements."""
    return (
        f"**Placements, short of {title}**: {rate.steady_per_second:,.0f} per second on one core"
        f" ({rate.nodes:,} nodes, {rate.jobs} jobs; {rate.fill_per_second:,.0f} while filling up)\n"
    )


def chart(results: dict[str, dict[str, Figures]], path: Path) -> None:
    """Draw utilisation and first-attempt failures of each rule, side by side."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        len(results), 2, figsize=(11, 2.4 * len(results)), layout="constrained", squeeze=False
    )
    for (left, right), (title, rows) in zip(panels, results.items(), strict=True):
        names = list(rows)
        colours = ["#1f6f8b" if name == "compact" else "#b8c4cc" for name in names]
        left.barh(names, [100 * f.utilisation for f in rows.values()], color=colours)
        left.axvline(80, color="#555555", linewidth=0.8)
        left.set_xlabel("memory utilisation, %", fontsize=8)
        left.set_title(title, fontsize=10, loc="left")
        right.barh(names, [max(100 * f.p_oom, 0.01) for f in rows.values()], color=colours)
        right.axvline(0.1, color="#555555", linewidth=0.8)
        right.set_xscale("log")
        right.set_yticks([])
        right.set_xlabel("first attempts out of memory, % (log)", fontsize=8)
        for panel in (left, right):
            panel.invert_yaxis()
            panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all parts and write their results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--profiles", type=Path, help="a profile store to replay as well")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    chosen = parser.parse_args(arguments)
    results = {
        f"50 tables x 30 jobs x 64 tasks, {chosen.seeds} seeds": grants(
            [synthetic(seed, Shape()) for seed in range(1, chosen.seeds + 1)]
        )
    }
    if chosen.profiles is not None:
        results["recorded profiles"] = grants([recorded(chosen.profiles)])
    runs = {scenario.title: cluster(scenario, 1) for scenario in SCENARIOS}
    rates = {
        "CPU slots": measure(nodes=10_000, jobs=200, placements=50_000),
        "memory": measure(nodes=10_000, jobs=200, placements=50_000, slot_gib=SLOT_GIB_SCARCE),
    }
    lines = "\n".join(placement_line(title, rate) for title, rate in rates.items())
    text = markdown(results, runs) + "\n" + lines
    document = {
        "commit": provenance.commit(),
        "grants": {t: _flat(rows) for t, rows in results.items()},
        "clusters": {title: _flat(outcomes) for title, outcomes in runs.items()},
        "placement": {title: dataclasses.asdict(rate) for title, rate in rates.items()},
    }
    chosen.output.mkdir(parents=True, exist_ok=True)
    base = chosen.output / "runtime-simulation"
    base.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    base.with_suffix(".md").write_text(text, encoding="utf-8")
    chart(results, base.with_suffix(".png"))
    print(text)


def _flat(rows: dict[str, Figures] | dict[str, Outcome]) -> dict[str, dict[str, object]]:
    return {name: dataclasses.asdict(row) for name, row in rows.items()}


if __name__ == "__main__":
    main()
