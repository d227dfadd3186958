"""kill -9 of the driver at every named place, then the same command again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compactor.jobs.compaction import plan_table
from compactor.jobs.failpoints import VARIABLE, Failpoint
from compactor.jobs.journal import Journal
from compactor.jobs.state import GroupState, JobState
from tests.compactor.jobs.crashes import COMMIT_ANSWERED, COMMIT_STAGED
from tests.compactor.jobs.driver import INTERRUPTED, INTERRUPTED_TWICE
from tests.compactor.jobs.lake import FORMATS, PARTITIONS, POLICY, Lake, lake_of, open_jobs

ROOT = Path(__file__).resolve().parents[3]
_DONE = {GroupState.WRITTEN, GroupState.COMMITTING, GroupState.COMMITTED}
# Places that only a second crash reaches, behind the one that leads there.
_LEADS_TO = {
    Failpoint.DISCARD_BEGUN: Failpoint.ATTEMPT_SUBMITTED,
    Failpoint.DISCARD_DONE: Failpoint.ATTEMPT_SUBMITTED,
}
CRASHES: list[list[str]] = [
    *([_LEADS_TO[place], place] if place in _LEADS_TO else [place] for place in Failpoint),
    [COMMIT_STAGED],
    [COMMIT_ANSWERED],
]
# What every format goes through alike is tried on one of them in the quick suite.
COMMITTING = (
    [Failpoint.BATCH_JOURNALED],
    [Failpoint.BATCH_COMMITTED],
    [Failpoint.BATCH_ABSENT],
    [COMMIT_STAGED],
    [COMMIT_ANSWERED],
)
QUICK = [
    *(("iceberg", crashes) for crashes in CRASHES),
    *(("delta", crashes) for crashes in COMMITTING),
]
LONGER: list[list[str]] = [
    [f"{Failpoint.BATCH_COMMITTED}:2"],
    [f"{Failpoint.RESULT_JOURNALED}:4"],
    [f"{Failpoint.ATTEMPT_SUBMITTED}:5", Failpoint.RESULT_RECEIVED, Failpoint.BATCH_SETTLED],
    [Failpoint.BATCH_ABSENT, COMMIT_STAGED, COMMIT_ANSWERED, Failpoint.JOB_ENDING],
    [COMMIT_STAGED, COMMIT_STAGED, Failpoint.BATCH_COMMITTED, Failpoint.BATCH_SETTLED],
]


THOROUGH = [
    *(("iceberg", crashes) for crashes in LONGER),
    *(("delta", crashes) for crashes in [*CRASHES, *LONGER] if crashes not in COMMITTING),
]


@dataclass(frozen=True)
class Driven:
    """A table, and the command that compacts it."""

    kind: str
    directory: Path
    lake: Lake

    def drive(self, failpoint: str = "") -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "tests.compactor.jobs.driver"]
        return subprocess.run(
            [*command, str(self.directory), "local", self.kind],
            env={**os.environ, "PYTHONPATH": paths, VARIABLE: failpoint},
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def driven(tmp_path: Path, kind: str) -> Driven:
    lake = lake_of(kind, tmp_path)
    lake.make()
    return Driven(kind, tmp_path, lake)


def done_groups(directory: Path) -> dict[str, int]:
    """Return the attempts of the groups that need no rewriting any more, by group."""
    with open_jobs(directory) as store:
        unfinished = [job for job in store.jobs() if not job.state.is_final]
        if not unfinished:
            return {}
        groups = Journal(store, unfinished[0].job).groups()
        return {group.group_id: group.attempts for group in groups if group.state in _DONE}


def named(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "+".join(value)


@pytest.mark.parametrize(("kind", "crashes"), QUICK, ids=named)
def test_a_killed_job_is_finished_by_the_same_command(driven: Driven, crashes: list[str]) -> None:
    kill_and_finish(driven, crashes)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "crashes"), THOROUGH, ids=named)
def test_a_job_that_is_killed_again_and_again_is_finished(
    driven: Driven, crashes: list[str]
) -> None:
    kill_and_finish(driven, crashes)


def kill_and_finish(driven: Driven, crashes: list[str]) -> None:
    lake = driven.lake
    before = lake.contents()
    for failpoint in crashes:
        killed = driven.drive(failpoint)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert lake.contents() == before
    done = done_groups(driven.directory)
    finished = driven.drive()
    assert finished.returncode == 0, finished.stderr
    answer: dict[str, Any] = json.loads(finished.stdout)

    assert lake.contents() == before
    assert lake.orphans() == []
    assert answer["report"]["status"] == JobState.SUCCEEDED
    assert answer["report"]["verified"]
    assert not set(done) & set(answer["started"]), "a finished group was rewritten"
    table = lake.open()
    assert table.inventory(table.snapshot()).file_count == PARTITIONS
    assert not plan_table(table, POLICY, now_ms=0).groups
    with open_jobs(driven.directory) as store:
        assert all(job.state is JobState.SUCCEEDED for job in store.jobs())
        committed = sum(job.groups_committed for job in store.jobs())
    assert committed == PARTITIONS, "a group was committed twice, or by nobody"


@pytest.mark.parametrize("kind", FORMATS)
def test_an_interrupted_job_commits_what_is_written_and_leaves_nothing(driven: Driven) -> None:
    lake = driven.lake
    before = lake.contents()
    stopped = driven.drive(INTERRUPTED)
    report = json.loads(stopped.stdout)["report"]
    assert report["status"] == JobState.CANCELLED
    assert 1 <= report["groups"]["committed"] < PARTITIONS
    assert lake.contents() == before
    assert lake.orphans() == []
    with open_jobs(driven.directory) as store:
        assert [job.state for job in store.jobs()] == [JobState.CANCELLED]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_second_interrupt_ends_at_once_and_the_job_goes_on_later(driven: Driven) -> None:
    lake = driven.lake
    before = lake.contents()
    stopped = driven.drive(INTERRUPTED_TWICE)
    assert "KeyboardInterrupt" in stopped.stderr
    assert lake.contents() == before
    finished = json.loads(driven.drive().stdout)
    assert finished["report"]["status"] == JobState.SUCCEEDED
    assert finished["report"]["is_resumed"]
    assert lake.contents() == before
    assert lake.orphans() == []
