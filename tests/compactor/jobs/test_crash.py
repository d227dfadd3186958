"""kill -9 of the driver at every named place, then the same command again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compactor.jobs.compaction import plan_table
from compactor.jobs.failpoints import VARIABLE, Failpoint
from compactor.jobs.journal import Journal
from compactor.jobs.state import GroupState, JobState
from tests.compactor.jobs.driver import (
    CATALOG_ANSWERED,
    INTERRUPTED,
    INTERRUPTED_TWICE,
    METADATA_WRITTEN,
)
from tests.compactor.jobs.lake import (
    PARTITIONS,
    POLICY,
    contents,
    make_lake,
    open_jobs,
    open_lake,
    orphans,
)

ROOT = Path(__file__).resolve().parents[3]
_DONE = {GroupState.WRITTEN, GroupState.COMMITTING, GroupState.COMMITTED}
# Places that only a second crash reaches, behind the one that leads there.
_LEADS_TO = {
    Failpoint.DISCARD_BEGUN: Failpoint.ATTEMPT_SUBMITTED,
    Failpoint.DISCARD_DONE: Failpoint.ATTEMPT_SUBMITTED,
}
CRASHES: list[list[str]] = [
    *([_LEADS_TO[place], place] if place in _LEADS_TO else [place] for place in Failpoint),
    [METADATA_WRITTEN],
    [CATALOG_ANSWERED],
]
LONGER: list[list[str]] = [
    [f"{Failpoint.BATCH_COMMITTED}:2"],
    [f"{Failpoint.RESULT_JOURNALED}:4"],
    [f"{Failpoint.ATTEMPT_SUBMITTED}:5", Failpoint.RESULT_RECEIVED, Failpoint.BATCH_SETTLED],
    [Failpoint.BATCH_ABSENT, METADATA_WRITTEN, CATALOG_ANSWERED, Failpoint.JOB_ENDING],
    [METADATA_WRITTEN, METADATA_WRITTEN, Failpoint.BATCH_COMMITTED, Failpoint.BATCH_SETTLED],
]


def drive(directory: Path, failpoint: str, address: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "tests.compactor.jobs.driver", str(directory), address],
        env={**os.environ, "PYTHONPATH": paths, VARIABLE: failpoint},
        capture_output=True,
        text=True,
        timeout=60,
    )


def done_groups(directory: Path) -> dict[str, int]:
    """Return the attempts of the groups that need no rewriting any more, by group."""
    with open_jobs(directory) as store:
        unfinished = [job for job in store.jobs() if not job.state.is_final]
        if not unfinished:
            return {}
        groups = Journal(store, unfinished[0].job).groups()
        return {group.group_id: group.attempts for group in groups if group.state in _DONE}


@pytest.mark.parametrize("crashes", CRASHES, ids="+".join)
def test_a_killed_job_is_finished_by_the_same_command(tmp_path: Path, crashes: list[str]) -> None:
    kill_and_finish(tmp_path, crashes)


@pytest.mark.slow
@pytest.mark.parametrize("crashes", LONGER, ids="+".join)
def test_a_job_that_is_killed_again_and_again_is_finished(
    tmp_path: Path, crashes: list[str]
) -> None:
    kill_and_finish(tmp_path, crashes)


def kill_and_finish(tmp_path: Path, crashes: list[str]) -> None:
    make_lake(tmp_path)
    before = contents(tmp_path)
    for failpoint in crashes:
        killed = drive(tmp_path, failpoint, "local")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert contents(tmp_path) == before
    done = done_groups(tmp_path)
    finished = drive(tmp_path, "", "local")
    assert finished.returncode == 0, finished.stderr
    answer: dict[str, Any] = json.loads(finished.stdout)

    assert contents(tmp_path) == before
    assert orphans(tmp_path) == []
    assert answer["report"]["status"] == JobState.SUCCEEDED
    assert answer["report"]["verified"]
    assert not set(done) & set(answer["started"]), "a finished group was rewritten"
    table = open_lake(tmp_path)
    assert table.inventory(table.snapshot()).file_count == PARTITIONS
    assert not plan_table(table, POLICY, now_ms=0).groups
    with open_jobs(tmp_path) as store:
        assert all(job.state is JobState.SUCCEEDED for job in store.jobs())
        committed = sum(job.groups_committed for job in store.jobs())
    assert committed == PARTITIONS, "a group was committed twice, or by nobody"


def test_an_interrupted_job_commits_what_is_written_and_leaves_nothing(tmp_path: Path) -> None:
    make_lake(tmp_path)
    before = contents(tmp_path)
    stopped = drive(tmp_path, INTERRUPTED, "local")
    report = json.loads(stopped.stdout)["report"]
    assert report["status"] == JobState.CANCELLED
    assert 1 <= report["groups"]["committed"] < PARTITIONS
    assert contents(tmp_path) == before
    assert orphans(tmp_path) == []
    with open_jobs(tmp_path) as store:
        assert [job.state for job in store.jobs()] == [JobState.CANCELLED]


def test_a_second_interrupt_ends_at_once_and_the_job_goes_on_later(tmp_path: Path) -> None:
    make_lake(tmp_path)
    before = contents(tmp_path)
    stopped = drive(tmp_path, INTERRUPTED_TWICE, "local")
    assert "KeyboardInterrupt" in stopped.stderr
    assert contents(tmp_path) == before
    finished = json.loads(drive(tmp_path, "", "local").stdout)
    assert finished["report"]["status"] == JobState.SUCCEEDED
    assert finished["report"]["is_resumed"]
    assert contents(tmp_path) == before
    assert orphans(tmp_path) == []
