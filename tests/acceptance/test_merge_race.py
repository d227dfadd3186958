"""Two merges and a compaction race on one table, each with its own job store: exact at the end.

Every merge owns half of the keys and has a stream of its own; the compaction rewrites whatever
they leave behind. At the end the table holds what the streams, one after the other, make.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.acceptance.merges import Lake
from tests.acceptance.program import start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SCHEMA = pa.schema([("id", pa.int64()), ("owner", pa.int64()), ("v", pa.string())])
OWNERS, ROUNDS, ROWS = 2, 3, 400


def step(owner: int, number: int) -> pa.Table:
    """Return the changes of one owner in one round: updates, deletes, new rows."""
    ids = [n for n in range(ROWS + number * 20) if n % OWNERS == owner and n % 7 == number % 7]
    ops = ["D" if n % 5 == number % 5 else "U" for n in ids]
    values = [f"{owner} {number} {n}" for n in ids]
    return pa.table({"id": ids, "owner": [owner] * len(ids), "v": values, "op": ops})


def expected() -> dict[int, str]:
    rows = {n: f"old {n}" for n in range(ROWS)}
    for owner in range(OWNERS):
        for number in range(ROUNDS):
            for row in step(owner, number).to_pylist():
                if row["op"] == "D":
                    rows.pop(row["id"], None)
                else:
                    rows[row["id"]] = row["v"]
    return rows


def begin(lake: Lake, who: str, *arguments: str) -> subprocess.Popen[str]:
    # Each has a job store of its own, as on machines that do not know of each other.
    own = {
        "XDG_STATE_HOME": str(lake.directory / f"state-{who}"),
        "COMPACT_RUNTIME__URL": "inline",
        "COMPACT_RUN__MERGE_ATTEMPTS_MAX": "40",
    }
    return start(lake.directory, *arguments, "--json", "--no-progress", extra=own)


def ended(process: subprocess.Popen[str], *codes: int) -> dict[str, Any]:
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode in codes, f"{process.returncode}\n{stdout}\n{stderr}"
    document: dict[str, Any] = json.loads(stdout)
    return document


@pytest.mark.parametrize("kind", ["iceberg", "delta"])
def test_two_merges_and_a_compaction_end_exact(kind: str, tmp_path: Path) -> None:
    lake = Lake(kind, tmp_path)
    olds = [[*range(start, start + 50)] for start in range(0, ROWS, 50)]
    lake.make(
        SCHEMA,
        [
            pa.table([ids, [n % 2 for n in ids], [f"old {n}" for n in ids]], schema=SCHEMA)
            for ids in olds
        ],
    )
    target = "lake.ns.t" if kind == "iceberg" else str(lake.path)
    merges: dict[int, tuple[int, subprocess.Popen[str]]] = {}
    reports: list[dict[str, Any]] = []
    compaction: subprocess.Popen[str] | None = None
    for owner in range(OWNERS):
        lake.arrive(f"{owner}/000", step(owner, 0))
        merges[owner] = 0, merging(lake, target, owner)
    while merges:
        for owner, (number, process) in [*merges.items()]:
            if process.poll() is None:
                continue
            reports.append(ended(process, 0))
            del merges[owner]
            if number + 1 < ROUNDS:
                lake.arrive(f"{owner}/{number + 1:03}", step(owner, number + 1))
                merges[owner] = number + 1, merging(lake, target, owner)
        if compaction is None or compaction.poll() is not None:
            if compaction is not None:
                ended(compaction, 0, 3, 11)
            compaction = begin(lake, "compaction", "run", target, "--yes", "--min-input-files", "2")
        time.sleep(0.05)
    if compaction is not None:
        ended(compaction, 0, 3, 11)
    assert all(report["verified"] for report in reports)
    assert sum(report["groups"]["committed"] > 0 for report in reports) == OWNERS * ROUNDS
    found = lake.rows()
    assert {row["id"]: row["v"] for row in found} == expected()
    assert len(found) == len(expected())


def merging(lake: Lake, target: str, owner: int) -> subprocess.Popen[str]:
    changes = str(lake.directory / "changes" / str(owner))
    arguments = ("--changes", changes, "--key", "id", "--op-column", "op", "--verify", "full")
    return begin(lake, f"merge-{owner}", "merge", target, *arguments)
