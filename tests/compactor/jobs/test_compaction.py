"""Jobs from end to end on a table in memory: conflicts, failures, lost replies, interrupts."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.commits import Commit, CommitResult
from catalog.errors import CommitConflictError, CommitUnknownError, StorageError
from catalog.memory import MemoryTable
from compactor.errors import JobFailedError, PlanStaleError
from compactor.jobs.cleanup import Cleaner, LiveFiles
from compactor.jobs.compaction import apply_plan, compact_table
from compactor.jobs.events import (
    AttemptFailed,
    BatchCommitted,
    Event,
    GroupDropped,
    GroupFailed,
    GroupFinished,
    GroupStarted,
    JobFinished,
    JobPlanned,
    JobStarted,
)
from compactor.jobs.options import JobOptions
from compactor.jobs.planning import plan_table
from compactor.jobs.report import GroupCounts, JobReport
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.state import GroupState, JobState
from compactor.jobs.store import JobStore, open_store
from compactor.jobs.verification import verify_snapshots
from compactor.planner.policy import Policy
from compactor.rewrite.task import Proof
from runtime import Runtime
from runtime.connect import connect

POLICY = Policy(min_input_files=2)
SCHEMA = pa.schema(
    [
        pa.field("n", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "1"}),
        pa.field("text", pa.string(), metadata={"PARQUET:field_id": "2"}),
    ]
)
PARTITIONS = ("a", "b", "c")
Commits = Callable[[Commit], CommitResult]


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with connect("inline") as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with open_store(f"sqlite:///{tmp_path}/jobs.db") as opened:
        yield opened


@pytest.fixture
def table(tmp_path: Path) -> MemoryTable:
    (tmp_path / "table").mkdir()
    made = MemoryTable(tmp_path / "table", SCHEMA)
    for number, partition in enumerate(PARTITIONS * 3):
        made.append(batch(number), partition)
    for path in made.inventory(made.snapshot()).files["path"].to_pylist()[:2]:
        made.delete_rows(path, [1, 5])
    return made


def batch(number: int) -> pa.Table:
    numbers = range(number * 10, number * 10 + 10)
    return pa.table({"n": numbers, "text": [f"row {n}" for n in numbers]}, schema=SCHEMA)


class Desk:
    """Everything a call needs, with what it told."""

    def __init__(self, table: MemoryTable, runtime: Runtime, store: JobStore) -> None:
        self.table = table
        self.store = store
        self.options = JobOptions(rounds_max=1)
        self.events: list[Event] = []
        self.reacts: list[Callable[[Event], None]] = []
        self.environment = JobEnvironment(runtime, store, self.note)

    def note(self, event: Event) -> None:
        self.events.append(event)
        for react in self.reacts:
            react(event)

    def compact(self) -> JobReport:
        return compact_table(self.table, POLICY, environment=self.environment, options=self.options)

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def desk(table: MemoryTable, runtime: Runtime, store: JobStore) -> Desk:
    return Desk(table, runtime, store)


def numbers(table: MemoryTable) -> list[int]:
    """Read the table's rows as any reader would."""
    inventory = table.inventory(table.snapshot())
    selections = table.files(table.snapshot()).selections(inventory)
    found: list[int] = []
    for one in inventory.slices():
        rows = pq.read_table(table.files(table.snapshot()).locate(one.path).path)["n"].to_pylist()
        dropped = set(selections[one.path].dropped.tolist()) if one.path in selections else set()
        found += [n for position, n in enumerate(rows) if position not in dropped]
    return sorted(found)


def paths(table: MemoryTable) -> list[str]:
    return table.inventory(table.snapshot()).files["path"].to_pylist()  # type: ignore[no-any-return]


def stray_files(table: MemoryTable, since: set[Path]) -> set[Path]:
    """Return files written since a moment that the table does not refer to."""
    root = Path(table._directory.path)
    live = {Path(table.files(table.snapshot()).locate(path).path) for path in paths(table)}
    return set(root.rglob("*.parquet")) - live - since


@pytest.fixture
def originals(table: MemoryTable) -> set[Path]:
    return set(Path(table._directory.path).rglob("*.parquet"))


def test_a_table_is_compacted_and_proved(desk: Desk, originals: set[Path]) -> None:
    before, first = numbers(desk.table), desk.table.snapshot()
    report = desk.compact()
    assert numbers(desk.table) == before
    assert report.status is JobState.SUCCEEDED
    assert report.verified
    assert (report.files_before, report.files_after) == (9, 3)
    assert (report.rows_before, report.rows_after, report.rows_dropped) == (86, 86, 4)
    assert report.groups == GroupCounts(committed=3)
    assert report.snapshot_before == first.snapshot_id
    assert report.snapshot_after == desk.table.snapshot().snapshot_id
    assert stray_files(desk.table, originals) == set()
    told = [type(event) for event in desk.events]
    assert told[:2] == [JobPlanned, JobStarted]
    assert told[-2:] == [BatchCommitted, JobFinished]
    assert told.count(GroupStarted) == told.count(GroupFinished) == 3


def test_compacting_again_does_nothing(desk: Desk) -> None:
    desk.compact()
    after = desk.table.snapshot()
    report = desk.compact()
    assert report.status is JobState.SUCCEEDED
    assert report.groups == GroupCounts()
    assert desk.table.snapshot() == after


def test_history_shows_the_job(desk: Desk) -> None:
    report = desk.compact()
    [job] = desk.store.jobs(table=desk.table.name)
    assert (job.job, job.state, job.groups_committed) == (report.job, JobState.SUCCEEDED, 3)
    assert not job.is_running
    detail = desk.store.job(report.job[:-2])
    assert detail is not None
    assert {group.state for group in detail.groups} == {GroupState.COMMITTED}
    assert [attempt.state for attempt in detail.attempts] == ["written"] * 3
    assert detail.batches[0].snapshot_id == report.snapshot_after
    assert desk.store.job("no-such-job") is None


def test_batches_stand_alone(desk: Desk) -> None:
    desk.options = replace(desk.options, commit_groups_max=1, in_flight_max=1)
    report = desk.compact()
    assert report.verified
    assert len(desk.told(BatchCommitted)) == 3


def test_full_proof_digests_every_row(desk: Desk) -> None:
    desk.options = replace(desk.options, proof=Proof.FULL)
    assert desk.compact().verified


def test_a_conflict_drops_its_group_alone(desk: Desk, originals: set[Path]) -> None:
    victim = paths(desk.table)[0]

    def interfere(event: Event) -> None:
        if isinstance(event, GroupFinished) and event.partition == "a":
            desk.table.delete_rows(victim, [7])

    desk.reacts.append(interfere)
    report = desk.compact()
    assert 7 not in numbers(desk.table)
    assert report.status is JobState.PARTIAL
    assert report.exit_code == 3
    assert report.groups == GroupCounts(committed=2, dropped=1)
    assert report.verified
    [dropped] = desk.told(GroupDropped)
    assert dropped.partition == "a"
    assert stray_files(desk.table, originals) == set()


def test_groups_lost_to_conflicts_are_planned_again(desk: Desk, originals: set[Path]) -> None:
    desk.options = replace(desk.options, rounds_max=3)
    victim = paths(desk.table)[0]

    def interfere(event: Event) -> None:
        if isinstance(event, GroupFinished) and event.partition == "a":
            desk.reacts.clear()
            desk.table.delete_rows(victim, [7])

    desk.reacts.append(interfere)
    report = desk.compact()
    assert report.status is JobState.SUCCEEDED
    assert (report.conflicts, report.groups) == (1, GroupCounts(committed=3))
    assert report.verified
    assert (report.rows_before, report.rows_after) == (85, 85)
    assert stray_files(desk.table, originals) == set()


def test_an_append_in_between_is_kept(desk: Desk) -> None:
    desk.options = replace(desk.options, commit_groups_max=1, in_flight_max=1)

    def interfere(event: Event) -> None:
        if isinstance(event, BatchCommitted):
            desk.table.append(batch(90 + len(desk.told(BatchCommitted))), "z")

    desk.reacts.append(interfere)
    report = desk.compact()
    assert report.status is JobState.SUCCEEDED
    assert report.verified
    assert {910, 920, 930} <= set(numbers(desk.table))


def test_all_groups_lost_is_a_conflict(desk: Desk) -> None:
    everything = paths(desk.table)

    def interfere(event: Event) -> None:
        if isinstance(event, GroupFinished) and event.partition == "c":
            for path in everything:
                desk.table.delete_rows(path, [0])

    desk.reacts.append(interfere)
    report = desk.compact()
    assert (report.status, report.exit_code) == (JobState.FAILED, 11)
    assert (report.groups, report.conflicts) == (GroupCounts(dropped=3), 3)
    assert {one.partition for one in report.problems if one.reason} == {"a", "b", "c"}


def test_a_damaged_file_fails_its_group_alone(desk: Desk, originals: set[Path]) -> None:
    victim = Path(desk.table.files(desk.table.snapshot()).locate(paths(desk.table)[4]).path)
    content = bytearray(victim.read_bytes())
    content[4:200] = bytes(196)
    victim.write_bytes(content)
    report = desk.compact()
    assert report.status is JobState.PARTIAL
    assert report.groups == GroupCounts(committed=2, failed=1)
    assert len(desk.told(GroupFailed)) == 1
    assert [event.is_retried for event in desk.told(AttemptFailed)] == [False]
    assert report.problems[0].reason.startswith("corrupt-table: ")
    assert stray_files(desk.table, originals) == set()


def test_a_lost_reply_is_looked_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    commit: Commits = desk.table.commit

    def losing(wanted: Commit) -> CommitResult:
        commit(wanted)
        raise StorageError("the connection was reset")

    monkeypatch.setattr(desk.table, "commit", losing)
    report = desk.compact()
    assert report.status is JobState.SUCCEEDED
    assert report.verified
    assert len(desk.told(BatchCommitted)) == 1


def test_an_unknown_outcome_is_left_alone_and_resumed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, originals: set[Path]
) -> None:
    commit: Commits = desk.table.commit

    def unknown(wanted: Commit) -> CommitResult:
        commit(wanted)
        raise CommitUnknownError("no answer")

    before = numbers(desk.table)
    monkeypatch.setattr(desk.table, "commit", unknown)
    with pytest.raises(CommitUnknownError, match="no answer"):
        desk.compact()
    assert numbers(desk.table) == before
    monkeypatch.setattr(desk.table, "commit", commit)
    report = desk.compact()
    assert report.is_resumed
    assert report.status is JobState.SUCCEEDED
    assert len(desk.told(GroupStarted)) == 3
    assert numbers(desk.table) == before
    assert stray_files(desk.table, originals) == set()


@pytest.mark.parametrize("arrives", ["before", "never", "after"])
def test_a_commit_that_died_under_way_is_committed_again_under_its_id(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, originals: set[Path], arrives: str
) -> None:
    commit: Commits = desk.table.commit
    sent: list[Commit] = []
    cleaned: list[str] = []

    def die(wanted: Commit) -> CommitResult:
        sent.append(wanted)
        raise KeyboardInterrupt

    def again(wanted: Commit) -> CommitResult:
        assert wanted.commit_id == sent[0].commit_id
        if arrives == "before":
            commit(sent[0])
        result = commit(wanted)
        if arrives == "after":
            commit(sent[0])
        return result

    before = numbers(desk.table)
    monkeypatch.setattr(desk.table, "commit", die)
    with pytest.raises(KeyboardInterrupt):
        desk.compact()
    monkeypatch.setattr(desk.table, "commit", again)
    monkeypatch.setattr(desk.table, "clean_commit", lambda one: cleaned.append(one.commit_id))
    report = desk.compact()
    assert (report.status, report.groups) == (JobState.SUCCEEDED, GroupCounts(committed=3))
    assert report.is_resumed
    assert cleaned == [sent[0].commit_id], "what the dead commit left was not looked for"
    assert len(desk.told(GroupStarted)) == 3
    assert numbers(desk.table) == before
    assert stray_files(desk.table, originals) == set()


def test_a_file_of_the_head_is_never_deleted(desk: Desk) -> None:
    desk.compact()
    live = LiveFiles(desk.table, map)
    live.read()
    files = desk.table.files(desk.table.snapshot())
    late = desk.table.append(batch(50), "a")
    attempt_id = Path(late).stem
    renamed = Path(late.removeprefix("file://"))
    renamed = renamed.rename(renamed.with_name(f"{attempt_id}-00000.parquet"))
    state = desk.table._states[-1]
    held = replace(state.files[late], path=f"file://{renamed}")
    desk.table._advance("append", replace(state, files={held.path: held}))
    with pytest.raises(JobFailedError, match="the table refers to them"):
        Cleaner(files, live).discard(attempt_id, "a")
    assert renamed.exists()


def test_a_refused_commit_is_tried_again_then_given_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, originals: set[Path]
) -> None:
    commits: list[str] = []

    def refusing(wanted: Commit) -> CommitResult:
        commits.append(wanted.commit_id)
        raise CommitConflictError("others kept winning")

    monkeypatch.setattr(desk.table, "commit", refusing)
    report = desk.compact()
    assert len(set(commits)) == len(commits) == 3
    assert (report.status, report.exit_code) == (JobState.FAILED, 11)
    assert stray_files(desk.table, originals) == set()


def test_an_interrupt_commits_what_is_written(desk: Desk, originals: set[Path]) -> None:
    before = numbers(desk.table)
    desk.options = replace(desk.options, in_flight_max=1)

    def interrupt(event: Event) -> None:
        if isinstance(event, GroupFinished) and len(desk.told(GroupFinished)) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    desk.reacts.append(interrupt)
    report = desk.compact()
    assert (report.status, report.exit_code) == (JobState.CANCELLED, 130)
    assert 1 <= report.groups.committed < 3
    assert numbers(desk.table) == before
    assert stray_files(desk.table, originals) == set()
    assert desk.compact().status is JobState.SUCCEEDED
    assert len(paths(desk.table)) == 3


def test_a_declined_plan_leaves_no_job(desk: Desk) -> None:
    class Declined(Exception):  # noqa: N818 - an answer, not an error
        pass

    def decline(event: Event) -> None:
        if isinstance(event, JobPlanned):
            raise Declined

    desk.reacts.append(decline)
    with pytest.raises(Declined):
        desk.compact()
    assert desk.store.jobs() == ()


def test_a_saved_plan_is_applied_while_it_fits(desk: Desk) -> None:
    plan = plan_table(desk.table, POLICY, now_ms=0)
    desk.table.delete_rows(plan.groups[0].files.files["path"][0].as_py(), [9])
    report = apply_plan(desk.table, plan, environment=desk.environment, options=desk.options)
    assert report.groups == GroupCounts(committed=2, dropped=1)
    assert len(desk.told(GroupStarted)) == 2, "a group that no longer fits was rewritten"


def test_a_stale_plan_is_refused(desk: Desk) -> None:
    plan = plan_table(desk.table, POLICY, now_ms=0)
    desk.compact()
    with pytest.raises(PlanStaleError, match="no group of the plan fits"):
        apply_plan(desk.table, plan, environment=desk.environment, options=desk.options)
    desk.table.append(batch(50), "a")
    desk.table.expire()
    with pytest.raises(PlanStaleError, match="expired"):
        apply_plan(desk.table, plan, environment=desk.environment, options=desk.options)


def crash_at(kind: type[Event]) -> Callable[[Event], None]:
    """Leave a job as a killed process would: the callback raises, nothing is tidied up."""

    def react(event: Event) -> None:
        if isinstance(event, kind):
            raise KeyboardInterrupt

    return react


def test_an_expired_base_means_a_new_plan(desk: Desk, originals: set[Path]) -> None:
    before = numbers(desk.table)
    desk.reacts.append(crash_at(GroupFinished))
    with pytest.raises(KeyboardInterrupt):
        desk.compact()
    assert stray_files(desk.table, originals)
    desk.reacts.clear()
    late = Path(desk.table.append(batch(50), "a").removeprefix("file://"))
    desk.table.expire()
    report = desk.compact()
    assert report.status is JobState.SUCCEEDED
    assert not report.is_resumed
    assert numbers(desk.table) == sorted(before + list(range(500, 510)))
    assert stray_files(desk.table, originals | {late}) == set()
    assert [job.state for job in desk.store.jobs()] == [JobState.SUCCEEDED, JobState.FAILED]


def test_a_damaged_output_is_written_again(desk: Desk, originals: set[Path]) -> None:
    before = numbers(desk.table)
    desk.reacts.append(crash_at(GroupFinished))
    with pytest.raises(KeyboardInterrupt):
        desk.compact()
    desk.reacts.clear()
    for path in stray_files(desk.table, originals):
        path.write_bytes(path.read_bytes()[:-1])
    assert desk.compact().status is JobState.SUCCEEDED
    assert numbers(desk.table) == before
    assert stray_files(desk.table, originals) == set()


def test_another_plan_gives_the_unfinished_job_up(desk: Desk, originals: set[Path]) -> None:
    before = numbers(desk.table)
    desk.reacts.append(crash_at(GroupFinished))
    with pytest.raises(KeyboardInterrupt):
        desk.compact()
    desk.reacts.clear()
    plan = plan_table(desk.table, replace(POLICY, partitions=("b",)), now_ms=0)
    report = apply_plan(desk.table, plan, environment=desk.environment, options=desk.options)
    assert report.groups == GroupCounts(committed=1)
    assert numbers(desk.table) == before
    assert stray_files(desk.table, originals) == set()


def test_an_interrupted_saved_plan_goes_on(desk: Desk, originals: set[Path]) -> None:
    before = numbers(desk.table)
    plan = plan_table(desk.table, POLICY, now_ms=0)
    desk.reacts.append(crash_at(GroupFinished))
    with pytest.raises(KeyboardInterrupt):
        apply_plan(desk.table, plan, environment=desk.environment, options=desk.options)
    desk.reacts.clear()
    report = apply_plan(desk.table, plan, environment=desk.environment, options=desk.options)
    assert report.is_resumed
    assert report.groups == GroupCounts(committed=3)
    # The inline runtime had run all three when the first was told; their answers died untold.
    assert numbers(desk.table) == before
    assert stray_files(desk.table, originals) == set()


def test_snapshots_are_compared_by_their_rows(desk: Desk, runtime: Runtime) -> None:
    report = desk.compact()
    same = verify_snapshots(
        desk.table, report.snapshot_before, report.snapshot_after, runtime=runtime
    )
    assert same.is_equal
    assert (same.files_equal, same.files_read) == (0, 12)
    assert same.from_digest.row_count == 86
    desk.table.delete_rows(paths(desk.table)[0], [3])
    other = verify_snapshots(
        desk.table, report.snapshot_after, desk.table.snapshot().snapshot_id, runtime=runtime
    )
    assert not other.is_equal
    assert other.files_equal == 2
    assert other.from_digest.row_count == other.to_digest.row_count + 1
