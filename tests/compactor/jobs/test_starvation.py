"""What is made of groups that other writers have won, job after job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from catalog.memory import MemoryTable
from compactor.jobs.compaction import compact_table
from compactor.jobs.options import JobOptions
from compactor.jobs.outcomes import GroupOutcome
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.starvation import starving, without_starving
from compactor.jobs.store import open_store
from compactor.planner.plan import Plan
from compactor.planner.planning import TableState, make_plan
from compactor.planner.policy import MIB, Policy
from runtime.connect import connect
from tests.compactor.jobs.test_compaction import POLICY, SCHEMA, batch
from tests.compactor.planner.inventories import File, inventory_of, state_of

MINUTE_MS = 60_000


def outcomes(*jobs: tuple[str, str]) -> list[GroupOutcome]:
    """Return groups of jobs a minute apart, oldest first given, newest first returned."""
    made = [
        GroupOutcome(f"job {at}", at * MINUTE_MS, partition, kind == "lost", "rows of x")
        for at, (partition, kind) in enumerate(jobs)
    ]
    return made[::-1]


def test_losses_are_counted_since_a_job_got_through() -> None:
    found = starving(
        outcomes(
            ("a", "lost"), ("b", "lost"), ("a", "done"), ("a", "lost"), ("b", "lost"), ("a", "lost")
        )
    )
    assert {name: one.losses for name, one in found.items()} == {"a": 2, "b": 2}
    assert starving(outcomes(("a", "lost"), ("a", "done"))) == {}


def test_a_job_that_got_a_part_through_has_not_lost() -> None:
    lost = GroupOutcome("j", 1, "a", True, "rows of x")
    done = GroupOutcome("j", 1, "a", False, "")
    assert starving([lost, done]) == {}


def test_waiting_grows_and_is_bounded() -> None:
    def waits(losses: int) -> int:
        (one,) = starving(outcomes(*[("a", "lost")] * losses)).values()
        return one.left_alone_until_ms - one.last_at_ms

    assert waits(2) < 0
    assert [waits(losses) // MINUTE_MS for losses in (3, 4, 5)] == [1, 2, 4]
    assert waits(100) == 60 * MINUTE_MS


def small_files(count: int) -> TableState:
    """Return a table of two partitions with many small files each."""
    files = [File(10 * MIB, partition=name) for name in "ab" for _ in range(count)]
    return state_of(inventory_of(files))


def test_what_is_left_alone_is_said() -> None:
    table = small_files(6)
    plan = make_plan(table, Policy(target_file_size_bytes=64 * MIB), now_ms=0)
    (hot,) = {group.partition for group in plan.groups if "a" in group.partition}
    known = starving(outcomes(*[(hot, "lost")] * 4))
    less = without_starving(plan, known, now_ms=4 * MINUTE_MS)
    assert {group.partition for group in less.groups} == {
        group.partition for group in plan.groups
    } - {hot}
    assert (less.skipped[-1].partition, less.skipped[-1].files) == (hot, 6)
    assert "4 times in a row" in less.skipped[-1].reason
    assert less.kept_files == plan.kept_files + 6
    assert without_starving(plan, known, now_ms=60 * MINUTE_MS) == plan
    assert "leave young files alone" in str(known[hot])


def test_groups_of_a_hot_partition_are_smaller() -> None:
    def groups(plan: Plan) -> dict[str, int]:
        names = [group.partition for group in plan.groups]
        return {name: names.count(name) for name in names}

    policy = Policy(target_file_size_bytes=64 * MIB)
    table = small_files(100)
    (hot, other) = groups(make_plan(table, policy, now_ms=0))
    found = groups(make_plan(replace(table, halvings={hot: 3}), policy, now_ms=0))
    assert found[other] == 1
    assert found[hot] >= 3
    least = groups(make_plan(replace(table, halvings={hot: 6}), policy, now_ms=0))
    assert least[hot] <= 100 * 10 // 64


def test_the_store_remembers(tmp_path: Path) -> None:
    """A job that loses its groups is known to the next one."""
    (tmp_path / "table").mkdir()
    table = MemoryTable(tmp_path / "table", SCHEMA)
    for number in range(4):
        table.append(batch(number), "a")
    commit = table.commit

    def lost(given):  # type: ignore[no-untyped-def]
        table.delete_rows(given.rewrites[0].files.files["path"][0].as_py(), [lost.position])
        lost.position += 1
        return commit(given)

    lost.position = 0  # type: ignore[attr-defined]
    table.commit = lost  # type: ignore[method-assign]
    with open_store(f"sqlite:///{tmp_path}/jobs.db") as store, connect("inline") as runtime:
        environment = JobEnvironment(runtime, store)
        options = JobOptions(rounds_max=2)
        report = compact_table(table, POLICY, environment=environment, options=options)
    assert report.status == "failed"
    ((one,)) = report.starving
    assert (one.partition, one.losses) == ("a", 2)
