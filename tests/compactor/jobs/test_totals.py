"""Row arithmetic: what one attempt answers, and what snapshots around commits must hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.commits import OutputFile
from catalog.memory import MemoryTable
from catalog.model import Snapshot
from compactor.jobs.planning import plan_table
from compactor.jobs.staleness import outdated_groups
from compactor.jobs.totals import CommittedBatch, TableTotals, check_totals, result_mistake
from compactor.planner.plan import FileGroup
from compactor.rewrite.task import Proof, RewriteResult, RowDigest
from tests.compactor.jobs.test_compaction import PARTITIONS, POLICY, SCHEMA, batch


@pytest.fixture
def table(tmp_path: Path) -> MemoryTable:
    made = MemoryTable(tmp_path, SCHEMA)
    for number, partition in enumerate(PARTITIONS * 2):
        made.append(batch(number), partition)
    return made


@pytest.fixture
def groups(table: MemoryTable) -> tuple[FileGroup, ...]:
    return plan_table(table, POLICY, now_ms=0).groups


RIGHT = RewriteResult(
    outputs=(OutputFile("file:///x/1.parquet", 10, 11), OutputFile("file:///x/2.parquet", 10, 6)),
    rows_read=20,
    rows_dropped=3,
    rows_written=17,
    bytes_read=1,
    bytes_written=20,
    requests=1,
    digest=RowDigest(17, 1),
)


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        ({}, ""),
        ({"rows_read": 19}, "read 19 rows where the table lists 20"),
        ({"rows_dropped": 2}, "read 20 rows, dropped 2, but wrote 17"),
        ({"rows_dropped": 2, "rows_written": 18}, "wrote 18 rows, but its files list 17"),
        ({"digest": None}, "gave no digest although a full proof was asked for"),
        ({"digest": RowDigest(16, 1)}, "wrote 17 rows, but proved 16"),
    ],
)
def test_an_answer_must_add_up(
    groups: tuple[FileGroup, ...], changes: dict[str, object], mistake: str
) -> None:
    result = replace(RIGHT, **changes)  # type: ignore[arg-type]
    assert result_mistake(groups[0], result, Proof.FULL) == mistake


def snapshot(number: int) -> Snapshot:
    return Snapshot(str(number), number, number, str(number - 1), "replace")


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(-5, 5)), max_size=12),
    st.integers(0, 3),
    st.data(),
)
def test_lost_rows_are_noticed_whoever_else_commits(
    history: list[tuple[bool, int, int]], lost: int, data: st.DataObject
) -> None:
    """Replay commits of ours (rows dropped) and of others (rows added) with known row counts."""
    rows, counts, ours = 100, {"0": 100}, []
    culprits = [number for number, (is_ours, *_) in enumerate(history) if is_ours]
    culprit = data.draw(st.sampled_from(culprits)) if culprits and lost else None
    for number, (is_ours, dropped, added) in enumerate(history):
        rows += -dropped - (lost if number == culprit else 0) if is_ours else added
        made = snapshot(number + 1)
        counts[made.snapshot_id] = rows
        if is_ours:
            ours.append(CommittedBatch(made, dropped))
    check = check_totals(
        snapshot(0),
        TableTotals(files=1, rows=100),
        ours,
        totals_of=lambda snapshot_id: TableTotals(1, counts[snapshot_id]),
        visible_of=lambda _: None,
    )
    assert check.agrees == (culprit is None)
    assert check.after.rows == (counts[ours[-1].snapshot.snapshot_id] if ours else 100)


def test_groups_that_changed_are_found(table: MemoryTable, groups: tuple[FileGroup, ...]) -> None:
    def outdated() -> dict[str, str]:
        return outdated_groups(groups, table.inventory(table.snapshot()))

    assert outdated() == {}
    table.append(batch(70), "a")
    assert outdated() == {}
    table.delete_rows(groups[1].files.files["path"][0].as_py(), [3])
    table.remove(groups[2].files.files["path"][1].as_py())
    found = outdated()
    assert set(found) == {groups[1].group_id, groups[2].group_id}
    assert "lost rows" in found[groups[1].group_id]
    assert "replaced" in found[groups[2].group_id]
