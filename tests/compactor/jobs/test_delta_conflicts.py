"""A job commits what is left of a group where others have replaced one of its files."""

from __future__ import annotations

from pathlib import Path

from compactor.jobs.compaction import compact_table
from compactor.jobs.events import Event, GroupFinished
from compactor.jobs.options import JobOptions
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.state import JobState
from compactor.jobs.store import open_store
from compactor.planner.policy import Policy
from runtime.connect import connect
from tests.catalog.delta.lakes import DeltaLake


def test_a_replaced_file_costs_its_rows_and_not_the_group(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    for first in range(0, 50, 10):
        lake.append(range(first, first + 10))

    def interfere(event: Event) -> None:
        if isinstance(event, GroupFinished):
            lake.peer.delete("id = 11")  # copy on write

    with open_store(f"sqlite:///{tmp_path}/jobs.db") as store, connect("inline") as runtime:
        report = compact_table(
            lake.table,
            Policy(min_input_files=2),
            environment=JobEnvironment(runtime, store, interfere),
            options=JobOptions(rounds_max=1),
        )
    assert (report.status, report.groups.committed) == (JobState.SUCCEEDED, 1)
    assert report.verified
    assert [row[0] for row in lake.rows()] == [n for n in range(50) if n != 11]
    assert len(lake.paths()) == 2
