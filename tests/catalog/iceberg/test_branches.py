"""Work on a branch: planned from it, committed to it, and nothing else is moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog.commits import ChangeScope
from catalog.errors import SnapshotNotFoundError, UnsupportedTableError
from catalog.open import open_table
from catalog.table import Table
from compactor.jobs.compaction import compact_table
from compactor.jobs.options import JobOptions
from compactor.jobs.planning import plan_table
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.store import open_store
from compactor.planner.policy import Policy
from runtime.connect import connect
from tests.catalog.iceberg.lakes import BY_PART, SCHEMA, rows_of
from tests.iceberg_tables import catalog_properties, make_table

POLICY = Policy(min_input_files=2)


@pytest.fixture
def table(tmp_path: Path) -> Any:
    made = make_table(tmp_path, SCHEMA, spec=BY_PART)
    for number in range(3):
        made.append(rows_of(range(number * 10, number * 10 + 10), "a"))
    snapshot = made.current_snapshot().snapshot_id
    made.manage_snapshots().create_branch(snapshot, "audit").create_tag(snapshot, "v1").commit()
    made.append(rows_of(range(90, 95), "a"), branch="audit")
    made.append(rows_of(range(50, 55), "b"))
    return made


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[JobEnvironment]:
    with open_store(f"sqlite:///{tmp_path}/jobs.db") as store, connect("inline") as runtime:
        yield JobEnvironment(runtime, store)


def opened(directory: Path, branch: str) -> Table:
    return open_table(f"lake.ns.t@{branch}", catalog_properties(directory))


def seen(table: Any, branch: str) -> list[int]:
    found: list[int] = table.refresh().scan().use_ref(branch).to_arrow()["id"].to_pylist()
    return sorted(found)


def test_a_branch_is_compacted_and_the_others_stay(
    tmp_path: Path, table: Any, environment: JobEnvironment
) -> None:
    before = {name: seen(table, name) for name in ("main", "audit", "v1")}
    heads = {name: one.snapshot_id for name, one in table.refresh().refs().items()}
    branch = opened(tmp_path, "audit")
    assert plan_table(branch, POLICY, now_ms=0).totals().files == 4
    report = compact_table(branch, POLICY, environment=environment, options=JobOptions())
    assert (report.status, report.files_before, report.files_after) == ("succeeded", 4, 1)
    assert report.verified
    assert {name: seen(table, name) for name in before} == before
    now = {name: one.snapshot_id for name, one in table.refresh().refs().items()}
    assert {name for name in heads if now[name] != heads[name]} == {"audit"}
    assert plan_table(opened(tmp_path, "audit"), POLICY, now_ms=0).groups == ()
    assert plan_table(opened(tmp_path, "main"), POLICY, now_ms=0).totals().files == 3


def test_commits_to_other_branches_take_numbers_and_are_no_conflict(
    tmp_path: Path, table: Any, environment: JobEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from catalog.iceberg import commit as module

    request, raced = module._request, []

    def late(*given: Any, **named: Any) -> Any:
        if not raced:
            raced.append(1)
            table.refresh().append(rows_of([77], "b"))
        return request(*given, **named)

    monkeypatch.setattr(module, "_request", late)
    report = compact_table(
        opened(tmp_path, "audit"), POLICY, environment=environment, options=JobOptions()
    )
    assert (report.status, report.conflicts) == ("succeeded", 0)
    assert 77 in seen(table, "main")
    assert 77 not in seen(table, "audit")


def test_what_is_no_branch_is_refused(tmp_path: Path, table: Any) -> None:
    with pytest.raises(SnapshotNotFoundError, match="no branch `none`"):
        opened(tmp_path, "none")
    with pytest.raises(UnsupportedTableError, match="is a tag"):
        opened(tmp_path, "v1")
    branch = opened(tmp_path, "audit")
    with pytest.raises(UnsupportedTableError, match="upkeep on the branch"):
        branch.upkeep()
    with pytest.raises(UnsupportedTableError, match="to merge changes on the branch"):
        branch.check_change(ChangeScope(adds_rows=True, removes_rows=False))
