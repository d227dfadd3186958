"""kill -9 of the driver at every named place, then the same command again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compactor.jobs.failpoints import Failpoint
from compactor.jobs.state import JobState
from tests.compactor.jobs.crashes import COMMIT_ANSWERED, COMMIT_STAGED
from tests.compactor.jobs.driver import INTERRUPTED, INTERRUPTED_TWICE
from tests.compactor.jobs.killing import Driven, kill_and_finish
from tests.compactor.jobs.lake import FORMATS, PARTITIONS, lake_of, open_jobs
from tests.compactor.jobs.lake_of_hudi import WORK_BEGUN, WORK_REQUESTED

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
# Work is on the timeline of a Hudi table before its files are written, and is found there again.
ANNOUNCING = ([WORK_REQUESTED], [WORK_BEGUN])
QUICK = [
    *(("iceberg", crashes) for crashes in CRASHES),
    *(("delta", crashes) for crashes in COMMITTING),
    ("hudi", [WORK_REQUESTED]),
    ("hudi", [COMMIT_ANSWERED]),
    ("hudi_files", [COMMIT_STAGED]),
]
LONGER: list[list[str]] = [
    [f"{Failpoint.BATCH_COMMITTED}:2"],
    [f"{Failpoint.RESULT_JOURNALED}:4"],
    [f"{Failpoint.ATTEMPT_SUBMITTED}:5", Failpoint.RESULT_RECEIVED, Failpoint.BATCH_SETTLED],
    [Failpoint.BATCH_ABSENT, COMMIT_STAGED, COMMIT_ANSWERED, Failpoint.JOB_ENDING],
    [COMMIT_STAGED, COMMIT_STAGED, Failpoint.BATCH_COMMITTED, Failpoint.BATCH_SETTLED],
]


# What a format does in a way of its own: it announces, commits, and knows its leftovers.
OWN: list[list[str]] = [
    *ANNOUNCING,
    *COMMITTING,
    *([_LEADS_TO[place], place] for place in _LEADS_TO),
    [WORK_REQUESTED, WORK_BEGUN, COMMIT_STAGED],
]
SLOW = [
    *((kind, crashes) for kind in ("iceberg", "delta") for crashes in LONGER),
    *((kind, crashes) for kind in ("hudi", "hudi_files") for crashes in OWN),
]
THOROUGH = [(kind, crashes) for kind in ("delta", "hudi", "hudi_files") for crashes in CRASHES]


def beyond(less: list[tuple[str, list[str]]], more: list[tuple[str, list[str]]]) -> list[Any]:
    """Return what the longer list has, and the shorter has not."""
    return [one for one in more if one not in less]


# Each command ends in seconds; where a machine has much else to do, a few of them take minutes.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def driven(tmp_path: Path, kind: str) -> Driven:
    lake = lake_of(kind, tmp_path)
    lake.make()
    return Driven(kind, tmp_path, lake)


def named(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "+".join(value)


@pytest.mark.parametrize(("kind", "crashes"), QUICK, ids=named)
def test_a_killed_job_is_finished_by_the_same_command(driven: Driven, crashes: list[str]) -> None:
    kill_and_finish(driven, crashes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "crashes"),
    [
        *beyond(QUICK, SLOW),
        *(
            pytest.param(*one, marks=pytest.mark.thorough)
            for one in beyond([*QUICK, *SLOW], THOROUGH)
        ),
    ],
    ids=named,
)
def test_a_job_that_is_killed_again_and_again_is_finished(
    driven: Driven, crashes: list[str]
) -> None:
    kill_and_finish(driven, crashes)


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
