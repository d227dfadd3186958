"""A record of a job that changes, told as the events that changed it."""

from dataclasses import replace

from compactor.jobs.events import (
    AttemptFailed,
    BatchCommitted,
    GroupDropped,
    GroupFinished,
    JobFinished,
    JobStarted,
)
from compactor.jobs.retelling import retold
from compactor.jobs.state import GroupState, JobState
from compactor.jobs.store import AttemptRecord, BatchRecord, GroupRecord, JobDetail, JobRecord

JOB = JobRecord(
    job="j1",
    table="lake.a.b",
    format="iceberg v2",
    state=JobState.REWRITING,
    reason="",
    is_running=True,
    groups=2,
    groups_committed=0,
    input_bytes=20,
    snapshot_before="1",
    created_at_ms=0,
    updated_at_ms=0,
    finished_at_ms=None,
)


def group(name, state, reason=""):
    return GroupRecord(name, "p", state, 1, 3, 10, 9, reason)


def attempt(name, group_id, state, error=""):
    return AttemptRecord(name, group_id, state, error, 0.0, 0, 0, 0, 0, None)


def detail(groups, attempts=(), batches=(), state=JobState.REWRITING):
    return JobDetail(replace(JOB, state=state), None, tuple(groups), attempts, batches)


WAITING = [group("a", GroupState.WAITING), group("b", GroupState.WAITING)]


def kinds(before, after):
    return [type(event) for event in retold(before, after)]


def test_the_first_look_begins_the_job_and_nothing_twice():
    first = detail(WAITING)
    assert kinds(None, first) == [JobStarted]
    assert kinds(first, first) == []


def test_groups_are_written_committed_and_lost():
    written = detail([group("a", GroupState.WRITTEN), group("b", GroupState.COMMITTING)])
    assert kinds(detail(WAITING), written) == [GroupFinished, GroupFinished]
    ended = detail(
        [group("a", GroupState.COMMITTED), group("b", GroupState.DROPPED, "changed")],
        batches=(BatchRecord("b1", "settled", 2, "7", "", 0, 1),),
        state=JobState.PARTIAL,
    )
    dropped, committed, finished = retold(written, ended)
    assert isinstance(dropped, GroupDropped)
    assert committed == BatchCommitted("j1", ("a",), "7")
    assert isinstance(finished, JobFinished)
    assert kinds(ended, ended) == []


def test_what_was_missed_between_two_looks_is_told_at_once():
    ended = detail([group("a", GroupState.COMMITTED), group("b", GroupState.COMMITTED)])
    assert kinds(None, ended) == [JobStarted, GroupFinished, GroupFinished]


def test_an_attempt_that_failed_says_whether_there_is_another():
    failed = detail(WAITING, (attempt("a1", "a", "failed", "no memory"),))
    again = detail(
        WAITING, (attempt("a1", "a", "failed", "no memory"), attempt("a2", "a", "running"))
    )
    assert list(retold(detail(WAITING), failed)) == [
        AttemptFailed("j1", "a", 1, "no memory", is_retried=False)
    ]
    assert list(retold(detail(WAITING), again)) == [
        AttemptFailed("j1", "a", 1, "no memory", is_retried=True)
    ]


def test_another_job_begins_anew():
    other = replace(detail(WAITING), job=replace(JOB, job="j2"))
    assert kinds(detail(WAITING), other) == [JobStarted]
