"""The command line and whole jobs on Ray: a cluster of its own, one that is there, a dying node."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.table import Table

import runtime
from catalog.iceberg.table import IcebergTable
from compactor.jobs.compaction import compact_table
from compactor.jobs.events import AttemptFailed, Event, GroupFinished
from compactor.jobs.options import JobOptions
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.state import JobState
from compactor.jobs.store import open_store
from compactor.planner.policy import Policy
from compactor.splicing import Effort
from tests.acceptance.program import start
from tests.iceberg_tables import make_table, sql_catalog
from tests.orphans import unreferenced_files
from tests.runtime.ray_clusters import ENVIRONMENT, add_node, cluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

COMPACT = ("run", "lake.ns.events", "--yes", "--min-input-files", "2")
SCHEMA = pa.schema([("n", pa.int64()), ("day", pa.int64()), ("text", pa.string())])


def make_events(directory: Path, *, days: int, files: int, rows: int) -> Table:
    """Make `ns.events`: some small files in each of some days."""
    table = make_table(directory, SCHEMA, name="events")
    with table.update_spec() as update:
        update.add_identity("day")
    for number in range(files):
        append_events(table, days=days, rows=rows, number=number)
    return table.refresh()


def append_events(table: Table, *, days: int, rows: int, number: int) -> None:
    numbers = np.arange(number * days * rows, (number + 1) * days * rows)
    texts = pa.array(np.char.add("event ", numbers.astype(str)))
    table.append(pa.table([numbers, numbers % days, texts], schema=SCHEMA))


def contents(table: Table) -> pa.Table:
    return table.refresh().scan().to_arrow().sort_by("n")


def run(directory: Path, *arguments: str, extra: Mapping[str, str] | None = None) -> Any:
    """Run `compact … --json` and return its document; progress and warnings are not errors."""
    process = start(directory, *arguments, "--json", extra=extra)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, f"{process.returncode}\n{stdout}\n{stderr}"
    return json.loads(stdout)


@pytest.fixture(scope="module")
def nodes():
    with cluster({"num_cpus": 1, "memory": 2 << 30}) as started:
        yield started


def test_a_cluster_for_one_run_and_one_that_was_there(tmp_path: Path, nodes: Any) -> None:
    table = make_events(tmp_path, days=4, files=5, rows=100)
    before = contents(table)
    compact = (*COMPACT, "--verify", "full", "--runtime")

    joined = run(tmp_path, *compact, f"ray://{nodes.address}", extra=connecting())
    assert (joined["status"], joined["verified"]) == ("succeeded", True)
    assert joined["groups"] == {"committed": 4, "dropped": 0, "failed": 0}
    assert contents(table).equals(before)

    append_events(table, days=4, rows=100, number=5)
    before = contents(table)
    started = run(tmp_path, *compact, "ray", "--workers", "2", "--memory", "1GiB")
    assert (started["status"], started["verified"]) == ("succeeded", True)
    assert contents(table).equals(before)
    assert unreferenced_files(table) == []

    first, second = (attempts(tmp_path, document["job"]) for document in (joined, started))
    # What the first run has measured is what the second one is granted by.
    assert {a["granted_bytes"] for a in second} != {a["granted_bytes"] for a in first}
    for attempt in (*first, *second):
        assert 0 < attempt["peak_memory_bytes"] < 2 * attempt["granted_bytes"]


def test_a_node_that_dies_does_not_fail_the_job(tmp_path: Path, nodes: Any) -> None:
    # Everything is encoded anew, so that work is under way on the node when it dies.
    table = make_events(tmp_path, days=10, files=3, rows=20_000)
    before = contents(table)
    doomed = add_node(nodes, {"num_cpus": 2, "memory": 2 << 30})
    events: list[Event] = []

    def note(event: Event) -> None:
        if isinstance(event, GroupFinished) and not any(
            isinstance(earlier, GroupFinished) for earlier in events
        ):
            nodes.remove_node(doomed, allow_graceful=False)
        events.append(event)

    with (
        runtime.connect(f"ray://{nodes.address}") as rt,
        open_store(f"sqlite:///{tmp_path}/jobs.db") as store,
    ):
        assert rt.stats().total.cpus == 3
        report = compact_table(
            IcebergTable("lake.ns.events", sql_catalog(tmp_path), ("ns", "events")),
            Policy(min_input_files=2, effort=Effort.DEEP),
            environment=JobEnvironment(rt, store, note),
            options=JobOptions(),
        )

    failed = [event for event in events if isinstance(event, AttemptFailed)]
    # Whether the node had work in that moment is up to Ray; the job went on without it.
    assert sum(isinstance(event, GroupFinished) for event in events) > 1
    assert all(event.is_retried and "worker-lost" in event.error for event in failed)
    assert report.status is JobState.SUCCEEDED
    assert contents(table).equals(before)
    assert unreferenced_files(table) == []


def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    make_events(tmp_path, days=1, files=2, rows=10)
    process = start(tmp_path, *COMPACT, "--runtime", "ray://127.0.0.1:1")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert re.match(r"error: no Ray cluster answers at 127\.0\.0\.1:1: .*refused", stderr)
    assert "Traceback" not in stderr


def connecting() -> dict[str, str]:
    """Return what another process needs to join the cluster: that it wants a token, and which."""
    return {name: os.environ[name] for name in (*ENVIRONMENT, "RAY_AUTH_TOKEN")}


def attempts(directory: Path, job: str) -> list[dict[str, Any]]:
    return run(directory, "jobs", "show", job)["attempts"]
