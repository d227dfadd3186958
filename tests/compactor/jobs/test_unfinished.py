"""Jobs that have not ended are told with what they began at."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import insert

from catalog.upkeep import UnfinishedJob
from compactor.jobs.schema import JOBS
from compactor.jobs.state import JobState
from compactor.jobs.store import open_store
from compactor.jobs.unfinished import unfinished_jobs


def test_only_those_of_the_table_that_have_not_ended(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/jobs.db") as store:
        for job, table, finished in (("a", "t", None), ("b", "t", 5), ("c", "u", None)):
            row = {
                "job_id": job,
                "table_name": table,
                "finished_at_ms": finished,
                "snapshot_before": "7",
                "state": next(iter(JobState)).value,
            }
            with store.transaction() as connection:
                others = {
                    one.name: 0 if str(one.type) in ("INTEGER", "BIGINT") else ""
                    for one in JOBS.c
                    if not one.nullable and one.name not in row
                }
                connection.execute(insert(JOBS).values(**row, **others))
        assert unfinished_jobs(store, "t") == (UnfinishedJob("a", "7"),)
