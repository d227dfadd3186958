"""Run one simulation and print its figures: `python -m runtime.simulation --seed 7`."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.simulation.cluster import Faults, InvariantError, Outcome, Simulation
from runtime.simulation.nodes import Size, nodes
from runtime.simulation.population import GIB, History, Shape, recorded, synthetic
from runtime.simulation.rules import Predicted


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when all invariants held and all tasks ended, else 1."""
    chosen = _parser().parse_args(arguments)
    history = _history(chosen)
    size = Size(chosen.vcpus, int(chosen.memory_tib * 1024 * GIB))
    simulation = Simulation(history, Predicted(), nodes(chosen.seed, size), seed=chosen.seed)
    faults = Faults(chosen.nodes_lost)
    try:
        outcome = simulation.run(faults, check_every=chosen.check_every)
    except InvariantError as error:
        print(f"error: seed {chosen.seed}: {error}", file=sys.stderr)  # noqa: T201 - a command
        return 1
    print(json.dumps(report(outcome), indent=1))  # noqa: T201 - a command
    return 0


def report(outcome: Outcome) -> dict[str, float]:
    """Return the figures of a run, flat."""
    flat = dataclasses.asdict(outcome)
    figures: dict[str, float] = flat.pop("figures")
    return {**figures, **flat, "over_bound": outcome.makespan_seconds / outcome.bound_seconds}


def _history(chosen: argparse.Namespace) -> History:
    if chosen.profiles is not None:
        return recorded(chosen.profiles)
    shape = Shape(chosen.tables, chosen.jobs, chosen.tasks, int(chosen.median_gib * GIB))
    return synthetic(chosen.seed, shape)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tables", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--median-gib", type=float, default=4.0, help="data of the median task")
    parser.add_argument("--vcpus", type=int, default=256)
    parser.add_argument("--memory-tib", type=float, default=2.0)
    parser.add_argument("--nodes-lost", type=int, default=3)
    parser.add_argument("--check-every", type=int, default=1, help="events between checks")
    parser.add_argument("--profiles", type=Path, help="replay a profile store (SQLite) instead")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
