"""The state machine under every order of events: nothing committed twice, forgotten, or deleted."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compactor.jobs.machine import JobMachine
from compactor.jobs.state import (
    Absent,
    Action,
    Began,
    Broke,
    Cancel,
    CommitAgain,
    CommitBatch,
    Discard,
    Fact,
    Finish,
    Gone,
    GroupProgress,
    GroupState,
    InvalidTransitionError,
    JobState,
    Limits,
    Outdated,
    Settled,
    Start,
    Stopped,
    Suspend,
    Unknown,
    Written,
)

STEPS_MAX = 2000


class World:
    """Tasks, a table and a disk that do anything they may; it judges what the machine asks for."""

    def __init__(self, seed: int, groups: int, limits: Limits) -> None:
        self.random = random.Random(seed)
        self.limits = limits
        self.machine = self.fresh([GroupProgress(f"g{n}") for n in range(groups)])
        self.running: dict[str, Start] = {}
        self.cancelled: set[str] = set()
        self.files: dict[str, str] = {}
        self.batch: CommitBatch | CommitAgain | None = None
        self.unsettled: set[str] = set()
        self.in_table: Counter[str] = Counter()
        self.truths: dict[str, Settled | None] = {}
        self.batches = 0
        self.end: Finish | Suspend | None = None

    def fresh(self, groups: list[GroupProgress], batches: int = 0) -> JobMachine:
        return JobMachine("job", groups, limits=self.limits, batches=batches)

    def take(self, fact: Fact) -> None:
        assert self.end is None
        for action in self.machine.handle(fact):
            self.do(action)
        assert len(self.running) <= self.limits.in_flight_max

    def do(self, action: Action) -> None:
        assert self.end is None, "an action after the end"
        match action:
            case Start(group_id=group_id, attempt_id=attempt_id):
                assert attempt_id not in self.files, "an attempt id was used twice"
                self.running[attempt_id] = action
                self.files[attempt_id] = group_id
            case Cancel(attempt_id=attempt_id):
                assert attempt_id in self.running
                self.cancelled.add(attempt_id)
            case Discard(attempt_id=attempt_id):
                self.discard(attempt_id)
            case CommitBatch():
                assert self.batch is None, "two commits at once"
                most = len(self.machine.groups)
                assert len(action.group_ids) <= max(
                    self.limits.commit_groups_max, most * self.limits.is_atomic
                )
                assert action.batch_id not in self.truths, "a batch id was used twice"
                self.batch = action
                self.batches += 1
                self.decide(action)
            case CommitAgain():
                assert self.batch is None, "two commits at once"
                assert action.batch_id in self.unsettled, "a settled batch"
                self.batch = action
                if self.truths[action.batch_id] is None:
                    self.decide(action)
            case Finish() | Suspend():
                self.end = action

    def discard(self, attempt_id: str) -> None:
        assert attempt_id not in self.running, "files of a running attempt"
        group = self.machine.group(self.files.pop(attempt_id))
        if group.attempt_id == attempt_id:
            assert group.state not in (GroupState.COMMITTED, GroupState.COMMITTING)
        assert attempt_id not in self.in_table, "a file of the table"

    def decide(self, batch: CommitBatch | CommitAgain) -> None:
        """Let the table take or refuse a batch, before anybody knows."""
        self.unsettled.add(batch.batch_id)
        chance = self.random.random()
        if chance < 0.25:
            self.truths[batch.batch_id] = None
            return
        kept = [group_id for group_id in batch.group_ids if self.random.random() < 0.8]
        if self.limits.is_atomic:
            assert len(batch.group_ids) == len(self.machine.groups), "a part of the changes"
            kept = list(batch.group_ids) if self.random.random() < 0.8 else []
        dropped = tuple((gid, "conflict") for gid in batch.group_ids if gid not in kept)
        self.truths[batch.batch_id] = Settled(batch.batch_id, tuple(kept), dropped)
        self.in_table.update(self.machine.group(group_id).attempt_id for group_id in kept)

    def arrive_late(self, batch_id: str) -> None:
        """Let a request that was on its way when its sender died be applied now, or never."""
        if self.truths[batch_id] is None and self.random.random() < 0.5:
            groups = [one for one in self.machine.groups if one.batch_id == batch_id]
            self.decide(CommitAgain(batch_id, tuple(one.group_id for one in groups)))

    def answer(self, batch: CommitBatch | CommitAgain) -> Fact:
        truth = self.truths[batch.batch_id]
        self.unsettled.remove(batch.batch_id)
        return truth or Absent(batch.batch_id, "refused", self.random.random() < 0.8)

    def step(self) -> None:
        if self.batch is not None:
            batch, self.batch = self.batch, None
            if self.random.random() < 0.1:
                self.take(Unknown(batch.batch_id, "no answer"))
            else:
                self.take(self.answer(batch))
        elif self.running:
            self.end_attempt(self.random.choice(sorted(self.running)))

    def end_attempt(self, attempt_id: str) -> None:
        start = self.running.pop(attempt_id)
        if attempt_id not in self.cancelled and self.random.random() < 0.7:
            self.take(Written(start.group_id, attempt_id, self.random.randrange(200)))
            return
        is_retryable = attempt_id in self.cancelled or self.random.random() < 0.7
        stops_job = self.random.random() < 0.05
        self.take(Broke(start.group_id, attempt_id, "broke", is_retryable, stops_job))

    def crash(self) -> None:
        """Kill the driver and take the job up again from what is recorded."""
        groups, self.end, self.running = list(self.machine.groups), None, {}
        self.cancelled.clear()
        self.batch = None
        self.machine = self.fresh(groups, self.batches)
        for batch_id in self.unsettled:
            self.arrive_late(batch_id)
        for group in groups:
            if group.state is GroupState.REWRITING:
                self.take(Broke(group.group_id, group.attempt_id, "died", is_retryable=True))
            elif group.state is GroupState.WRITTEN and self.random.random() < 0.2:
                self.take(Gone(group.group_id, "a file is gone"))
        for group in self.machine.groups:
            if group.state is GroupState.WAITING and self.random.random() < 0.1:
                self.take(Outdated(group.group_id, "replaced"))
        self.take(Began())


limits = st.builds(
    Limits,
    attempts_max=st.integers(1, 4),
    in_flight_max=st.integers(1, 5),
    commit_groups_max=st.integers(1, 6),
    commit_bytes_max=st.integers(1, 500),
    failures_max=st.integers(0, 4),
    is_atomic=st.booleans(),
)


@given(st.integers(0, 2**32), st.integers(0, 12), limits, st.floats(0, 0.15))
def test_whatever_happens(seed: int, groups: int, limits: Limits, trouble: float) -> None:
    world = World(seed, groups, limits)
    world.take(Began())
    for _ in range(STEPS_MAX):
        if isinstance(world.end, Suspend) or world.random.random() < trouble:
            if isinstance(world.end, Finish):
                break
            world.crash()
        elif world.end is not None:
            break
        elif world.random.random() < trouble / 4:
            world.take(Stopped("interrupted"))
        else:
            world.step()
    assert isinstance(world.end, Finish)
    judge(world, world.end)


def judge(world: World, end: Finish) -> None:
    assert not world.running
    assert world.machine.state is end.status
    committed = [group for group in world.machine.groups if group.state is GroupState.COMMITTED]
    assert max(world.in_table.values(), default=1) == 1, "committed twice"
    assert {group.attempt_id for group in committed} == set(world.in_table)
    assert set(world.files) == set(world.in_table), "files were left behind"
    assert not world.limits.is_atomic or len(committed) in (0, len(world.machine.groups))
    if len(committed) == len(world.machine.groups):
        assert end.status is JobState.SUCCEEDED
    else:
        assert end.status is not JobState.SUCCEEDED
    with pytest.raises(InvalidTransitionError):
        world.machine.handle(Settled("no-such-batch", (), ()))


def begun(groups: int, limits: Limits) -> tuple[JobMachine, list[Action]]:
    machine = JobMachine("job", [GroupProgress(f"g{n}") for n in range(groups)], limits=limits)
    return machine, machine.handle(Began())


def test_a_full_batch_is_committed_while_others_are_written() -> None:
    machine, actions = begun(3, Limits(in_flight_max=2, commit_groups_max=1))
    assert [type(action) for action in actions] == [Start, Start]
    actions = machine.handle(Written("g0", "job-g0-1", 10))
    assert actions == [Start("g2", "job-g2-1", 1), CommitBatch("job-commit-1", 1, ("g0",))]
    assert machine.state is JobState.COMMITTING


def test_an_invalid_fact_tells_its_story() -> None:
    machine, _ = begun(1, Limits())
    machine.handle(Written("g0", "job-g0-1", 10))
    with pytest.raises(InvalidTransitionError, match=r"(?s)is not running.*Began\(\)"):
        machine.handle(Written("g0", "job-g0-1", 10))


def test_too_many_failures_end_the_job_early() -> None:
    machine, _ = begun(9, Limits(in_flight_max=1, failures_max=1))
    machine.handle(Broke("g0", "job-g0-1", "corrupt-table: bad page", is_retryable=False))
    actions = machine.handle(Broke("g1", "job-g1-1", "corrupt-table: bad page", is_retryable=False))
    assert actions[-1] == Finish(
        JobState.FAILED, "2 groups failed, the last with: corrupt-table: bad page"
    )
    assert machine.group("g5").state is GroupState.WAITING


def test_the_first_lost_commit_may_end_the_job() -> None:
    limits = Limits(in_flight_max=1, commit_groups_max=1, commit_failures_max=0)
    machine, _ = begun(5, limits)
    machine.handle(Written("g0", "job-g0-1", 10))
    lost = (("g0", "its rows were deleted"),)
    actions = machine.handle(Settled("job-commit-1", (), lost))
    assert actions == [Discard("g0", "job-g0-1")]
    # What is under way is not thrown away; nothing more is begun.
    actions = machine.handle(Written("g1", "job-g1-1", 10))
    assert actions == [CommitBatch("job-commit-2", 2, ("g1",))]
    actions = machine.handle(Settled("job-commit-2", ("g1",), ()))
    assert actions == [
        Finish(JobState.PARTIAL, "1 commit was lost, the last one: its rows were deleted")
    ]


def test_a_commit_that_got_a_part_through_is_not_lost() -> None:
    machine, _ = begun(3, Limits(in_flight_max=2, commit_groups_max=2, commit_failures_max=0))
    machine.handle(Written("g0", "job-g0-1", 10))
    machine.handle(Written("g1", "job-g1-1", 10))
    actions = machine.handle(Settled("job-commit-1", ("g0",), (("g1", "taken"),)))
    assert not machine.is_stopping
    assert actions == [Discard("g1", "job-g1-1")]


def test_one_failed_group_ends_a_merge_and_what_is_written_of_it_is_discarded() -> None:
    machine, _ = begun(3, Limits(in_flight_max=2, is_atomic=True, commit_groups_max=1))
    assert machine.handle(Written("g0", "job-g0-1", 10)) == [Start("g2", "job-g2-1", 1)]
    actions = machine.handle(Broke("g1", "job-g1-1", "bad page", is_retryable=False))
    assert actions == [Cancel("job-g2-1"), Discard("g1", "job-g1-1")]
    actions = machine.handle(Broke("g2", "job-g2-1", "cancelled", is_retryable=True))
    assert actions == [
        Discard("g2", "job-g2-1"),
        Discard("g0", "job-g0-1"),
        Finish(JobState.FAILED, "bad page"),
    ]


def test_a_full_disk_stops_everything_at_once() -> None:
    machine, _ = begun(4, Limits(in_flight_max=2))
    actions = machine.handle(Broke("g0", "job-g0-1", "disk full", False, stops_job=True))
    assert actions == [Cancel("job-g1-1"), Discard("g0", "job-g0-1")]


def test_what_was_being_committed_is_committed_again_under_its_id() -> None:
    groups = [
        GroupProgress("g0", GroupState.COMMITTING, 1, "job-g0-1", 10, "job-commit-1"),
        GroupProgress("g1", GroupState.WRITTEN, 1, "job-g1-1", 10),
        GroupProgress("g2"),
    ]
    machine = JobMachine("job", groups, limits=Limits(), batches=1)
    actions = machine.handle(Began())
    assert actions == [CommitAgain("job-commit-1", ("g0",)), Start("g2", "job-g2-1", 1)]
    assert machine.state is JobState.COMMITTING
    assert machine.handle(Settled("job-commit-1", ("g0",), ())) == []
    actions = machine.handle(Written("g2", "job-g2-1", 10))
    assert actions == [CommitBatch("job-commit-2", 2, ("g1", "g2"))]


def test_an_unknown_outcome_touches_nothing() -> None:
    machine, _ = begun(1, Limits())
    machine.handle(Written("g0", "job-g0-1", 10))
    assert machine.handle(Unknown("job-commit-1", "no answer")) == [Suspend("no answer")]
    assert machine.group("g0").state is GroupState.COMMITTING
