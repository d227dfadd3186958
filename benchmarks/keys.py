"""Rows per CPU-second of one core: keys hashed, rows cut into buckets, the last of each key kept.

Run `python -m benchmarks.keys [--rows 4194304]`. What a shuffle does, its last step being Arrow's
own aggregation; and what a merge does to its changes before anything is shipped: whole change sets,
one change of each key kept, cut into buckets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from catalog.schema import FIELD_ID_KEY
from compactor.merge.buckets import packed, thinned
from compactor.merge.changes import Source, change_set
from compactor.merge.rules import MergeRules
from runtime.hashing import hash_rows
from runtime.partition import partition

BUCKETS = 16
RUNS = 3
TEXT_BYTES = 36
WANTED = {"int64": 15e6, "string of 36": 5e6}
"""Rows per CPU-second for all three steps."""
RULES = MergeRules(("k",))


def make_numbers(rows: int) -> pa.Table:
    """Make keys of which about 37 % of the possible ones are missing and others come twice."""
    random = np.random.default_rng(1)
    return pa.table({"k": random.integers(0, rows, rows), "v": np.arange(rows)})


def make_texts(rows: int) -> pa.Table:
    """Make keys of 36 characters, as many distinct ones as there are numbers."""
    numbers = make_numbers(rows)["k"].to_numpy().astype(f"U{TEXT_BYTES}")
    return pa.table({"k": np.char.zfill(numbers, TEXT_BYTES), "v": np.arange(rows)})


def last_of_each(table: pa.Table) -> pa.Table:
    """Keep the last row of each key."""
    return table.group_by("k", use_threads=False).aggregate([("v", "max")])


def rate(rows: int, run: Callable[[], object]) -> float:
    """Return the rows per CPU-second of the best of some runs."""
    best = float("inf")
    for _ in range(RUNS):
        started = time.process_time()
        run()
        best = min(best, time.process_time() - started)
    return rows / best


def of_merge(table: pa.Table) -> list[pa.Table]:
    """Make changes of rows, keep the last of each key, and cut them into buckets."""
    ids = enumerate(table.schema, start=1)
    schema = pa.schema([one.with_metadata({FIELD_ID_KEY: str(at)}) for at, one in ids])
    changes = change_set(Source(table, "rows"), schema, RULES)
    return partition(packed(thinned(changes, RULES, schema)), ["k"], BUCKETS)


def measure(rows: int) -> dict[str, dict[str, float]]:
    """Return rows per CPU-second by kind of key and steps."""
    pa.set_cpu_count(1)
    found = {}
    for name, make in (("int64", make_numbers), ("string of 36", make_texts)):
        table = make(rows)
        found[name] = {
            "hash": rate(rows, lambda: hash_rows(table, ["k"])),  # noqa: B023 - called at once
            "hash, cut": rate(rows, lambda: partition(table, ["k"], BUCKETS)),  # noqa: B023
            "hash, cut, keep the last": rate(
                rows,
                lambda: [last_of_each(part) for part in partition(table, ["k"], BUCKETS)],  # noqa: B023
            ),
            "merge: read, keep the last, cut": rate(rows, lambda: of_merge(table)),  # noqa: B023
            "wanted": WANTED[name],
        }
    return found


def markdown(found: dict[str, dict[str, float]]) -> str:
    """Return the rates as a table."""
    steps = list(next(iter(found.values())))
    lines = ["**Keys** (million rows per CPU-second, one core)", ""]
    lines += [f"| | {' | '.join(steps)} |", "|---|" + "---:|" * len(steps)]
    lines += [
        f"| {name} | {' | '.join(f'{rates[step] / 1e6:,.1f}' for step in steps)} |"
        for name, rates in found.items()
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keys", description=__doc__)
    parser.add_argument("--rows", type=int, default=1 << 22)
    print(markdown(measure(parser.parse_args(arguments).rows)))


if __name__ == "__main__":
    main()
