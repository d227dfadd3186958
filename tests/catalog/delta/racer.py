"""One writer of a race, in a process of its own: `python -m tests.catalog.delta.racer ROLE …`.

It tells on stdout, one JSON object a line, what it was told had been done.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from catalog.delta.row_delta import delete_rows
from catalog.errors import CommitConflictError, ObjectExistsError
from tests.catalog.delta.lakes import DeltaLake, rows_of
from tests.catalog.groups import make_commit, pick, rewrite

PARTS = "abcd"
_FILES_MAX = 8
# Where all others are quicker, a delete that is tried once may never win.
_ATTEMPTS = 20
Told = Iterator[dict[str, Any]]


def append(lake: DeltaLake, numbers: Iterator[int]) -> Told:
    first = next(numbers)
    with suppress(CommitFailedError):
        rows = rows_of(range(first, first + 10), random.choice(PARTS))
        write_deltalake(str(lake.directory), rows, mode="append")
        yield {"appended": list(range(first, first + 10))}


def delete(lake: DeltaLake, _: Iterator[int]) -> Told:
    """Give files of one partition deletion vectors."""
    table = lake.table
    inventory = table.inventory(table.snapshot())
    if not inventory.file_count:
        return
    path = random.choice(inventory.files["path"].to_pylist())
    group = pick(inventory, path)
    ids = pq.read_table(path, columns=["id"], partitioning=None)["id"].to_pylist()
    gone = table.files(table.snapshot()).selections(group)
    live = set(range(len(ids))) - set(gone[path].dropped.tolist() if path in gone else ())
    some = random.sample(sorted(live), min(len(live), random.randint(1, 2)))
    if some:
        for _ in range(_ATTEMPTS):
            try:
                delete_rows(table, {path: np.array(sorted(some))})
            except ObjectExistsError:
                continue
            except CommitConflictError:
                return
            yield {"deleted": [ids[at] for at in some]}
            return


def rewrite_rows(lake: DeltaLake, _: Iterator[int]) -> Told:
    """Delete by copy on write, as deltalake does."""
    row = random.choice(lake.rows() or [None])
    if row is not None:
        with suppress(DeltaError):
            found = lake.peer.delete(f"part = '{row[1]}' and id = {row[0]}")
            if found["num_deleted_rows"]:
                yield {"deleted": [row[0]]}


def merge(lake: DeltaLake, numbers: Iterator[int]) -> Told:
    """Delete rows and insert others in one commit, as deltalake does: by copy on write."""
    rows, first = lake.rows(), next(numbers)
    if not rows:
        return
    identity, part, _ = random.choice(rows)
    source = pa.concat_tables([rows_of([identity], part), rows_of(range(first, first + 3), part)])
    merger = lake.peer.merge(source, "t.part = s.part AND t.id = s.id", "s", "t")
    merger = merger.when_matched_delete()
    # Whoever deleted the row meanwhile does not want it inserted again.
    merger = merger.when_not_matched_insert_all(f"s.id <> {identity}")
    with suppress(DeltaError):
        found = merger.execute()
        yield {"appended": list(range(first, first + 3))}
        yield {"deleted": [identity] * found["num_target_rows_deleted"]}


def compact(lake: DeltaLake, numbers: Iterator[int]) -> Told:
    table = lake.table
    snapshot = table.snapshot()
    files = table.inventory(snapshot).files.to_pylist()
    rewrites = []
    for part in random.sample(PARTS, 2):
        some = [one["path"] for one in files if one["partition"] == f"part={part}"]
        if len(some) > 1:
            chosen = random.sample(some, min(len(some), _FILES_MAX))
            group = pick(table.inventory(snapshot), *chosen)
            rewrites.append(rewrite(table, snapshot, group, part))
    time.sleep(random.uniform(0, 0.3))
    commit = make_commit(snapshot, *(replace(one, keeps_order=True) for one in rewrites))
    result = table.commit(commit)
    again = table.find_commit(commit)
    assert again is None if result.snapshot is None else again.committed == result.committed
    reasons = [one.reason for one in result.conflicts]
    yield {"committed": len(result.committed), "conflicts": reasons}


STEPS: dict[str, Callable[[DeltaLake, Iterator[int]], Told]] = {
    "append": append,
    "delete": delete,
    "rewrite": rewrite_rows,
    "merge": merge,
    "compact": compact,
}


def main(role: str, directory: str, seconds: str, number: str) -> None:
    random.seed(f"{role}{number}")
    lake = DeltaLake(Path(directory), creates=False)
    numbers, deadline = count(int(number) * 10_000_000, 10), time.monotonic() + float(seconds)
    while time.monotonic() < deadline:
        for told in STEPS[role](lake, numbers):
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
        time.sleep(random.uniform(0, 0.05))


if __name__ == "__main__":
    main(*sys.argv[1:])
