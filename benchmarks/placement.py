"""Placements per second: the scheduler alone, on one core, with all nodes busy.

Run `python -m benchmarks.placement [--nodes 10000] [--jobs 200] [--placements 100000]`. Twice: with
2 to 8 GiB for each CPU slot, where slots run out first on most nodes, and with 1 to 2, where memory
does everywhere.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.api import Resources
from runtime.predictor import Rates
from runtime.scheduler import Request, Scheduler

GIB = 1 << 30
RATES = Rates(mean=1.5, spread=0.15, grant=2.4)
SLOT_GIB = (2, 4, 8)
SLOT_GIB_SCARCE = (1, 2)


@dataclass(frozen=True, slots=True)
class Rate:
    """What was measured: CPU-seconds of this process, nothing else."""

    nodes: int
    jobs: int
    placements: int
    fill_per_second: float
    steady_per_second: float


def measure(*, nodes: int, jobs: int, placements: int, slot_gib: Sequence[int] = SLOT_GIB) -> Rate:
    """Fill heterogeneous nodes from a long queue, then replace each task that ends."""
    dice = random.Random(1)
    scheduler = Scheduler(lambda _: RATES)
    for number in range(nodes):
        cpus = dice.choice([4, 8, 16, 32, 64])
        total = Resources(cpus, cpus * dice.choice(slot_gib) * GIB)
        scheduler.add_node(f"node{number}", total)
    for number in range(nodes * 25 + placements):
        size = int(GIB * dice.lognormvariate(0.5, 0.8))
        scheduler.submit(Request(number, size, key=(f"table{number % jobs}", "rewrite")))
    start = time.process_time()
    running = [placement.id for placement in scheduler.place()]
    filled = time.process_time() - start
    first, ended = len(running), _orders(dice, len(running), placements)
    start = time.process_time()
    done = 0
    for place in ended:
        scheduler.release(running[place])
        started = scheduler.place()
        done += len(started)
        running[place] = started[0].id if started else running.pop()
        running += [placement.id for placement in started[1:]]
    steady = time.process_time() - start
    return Rate(nodes, jobs, done, first / filled, done / steady)


def _orders(dice: random.Random, running: int, placements: int) -> list[int]:
    """Return which of the running tasks ends, each time."""
    return [dice.randrange(running // 2) for _ in range(placements)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement", description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--placements", type=int, default=100_000)
    chosen = parser.parse_args(arguments)
    for title, slot_gib in (("slots", SLOT_GIB), ("memory", SLOT_GIB_SCARCE)):
        rate = measure(
            nodes=chosen.nodes,
            jobs=chosen.jobs,
            placements=chosen.placements,
            slot_gib=slot_gib,
        )
        print(
            f"{rate.nodes:,} nodes, {rate.jobs} jobs, short of {title}:"
            f" {rate.steady_per_second:,.0f} placements/s when each ended task is replaced,"
            f" {rate.fill_per_second:,.0f} while filling up"
        )


if __name__ == "__main__":
    main()
