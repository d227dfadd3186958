"""Killing the process that compacts a table, running it again, and what must hold then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compactor.jobs.failpoints import VARIABLE
from compactor.jobs.journal import Journal
from compactor.jobs.planning import plan_table
from compactor.jobs.state import GroupState, JobState
from tests.compactor.jobs.lake import PARTITIONS, POLICY, Lake, open_jobs

ROOT = Path(__file__).resolve().parents[3]
_DONE = {GroupState.WRITTEN, GroupState.COMMITTING, GroupState.COMMITTED}


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
            # It ends in seconds; on a machine with much else to do, in minutes.
            timeout=280,
        )


def done_groups(directory: Path) -> dict[str, int]:
    """Return the attempts of the groups that need no rewriting any more, by group."""
    with open_jobs(directory) as store:
        unfinished = [job for job in store.jobs() if not job.state.is_final]
        if not unfinished:
            return {}
        groups = Journal(store, unfinished[0].job).groups()
        return {group.group_id: group.attempts for group in groups if group.state in _DONE}


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
