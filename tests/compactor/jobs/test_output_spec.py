"""Files of old partition specs rewritten into another one, by `--output-spec`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.transforms import BucketTransform

from catalog.commits import Commit, CommitResult
from catalog.errors import UnsupportedTableError
from catalog.memory import MemoryTable
from compactor.errors import SettingsError
from compactor.jobs.compaction import compact_table
from compactor.jobs.options import JobOptions
from compactor.jobs.planning import plan_table
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.store import open_store
from compactor.planner.plan import Rung
from compactor.planner.planfile import encode_plan, load_plan
from compactor.planner.policy import Policy
from compactor.proof import Proof
from compactor.sort_keys import Strategy
from runtime.connect import connect
from tests.catalog.iceberg.keyed import kept_rows, live_files, ours
from tests.catalog.iceberg.lakes import SCHEMA, rows_of
from tests.iceberg_tables import (
    commit_deletes,
    data_files,
    delete_positions,
    make_table,
    rows,
    write_key_deletes,
)

CURRENT = Policy(output_spec="current")
FULL = JobOptions(proof=Proof.FULL)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[JobEnvironment]:
    with open_store(f"sqlite:///{tmp_path}/jobs.db") as store, connect("inline") as runtime:
        yield JobEnvironment(runtime, store)


@pytest.fixture
def table(tmp_path: Path) -> Any:
    """Files without partitions, and one of the spec that came later."""
    made = make_table(tmp_path, SCHEMA)
    for number in range(4):
        part = "ab"[number % 2]
        made.append(rows_of(range(number * 10, number * 10 + 10), part))
    delete_positions(made, data_files(made)[0], [1, 2])
    with made.update_spec() as update:
        update.add_identity("part")
        update.add_field("id", BucketTransform(4), "bucket")
    made.append(rows_of(range(90, 95), "a"))
    return made


def test_old_files_are_parted_anew(tmp_path: Path, table: Any, environment: JobEnvironment) -> None:
    before = kept_rows(ours(tmp_path))
    plan = plan_table(ours(tmp_path), CURRENT, now_ms=0)
    assert [group.rung for group in plan.groups] == [Rung.REPARTITION]
    assert (plan.totals().files, plan.output_spec) == (4, 1)
    assert load_plan(encode_plan(plan), ours(tmp_path).inventory(plan.snapshot)) == plan

    report = compact_table(ours(tmp_path), CURRENT, environment=environment, options=FULL)

    assert (report.status, report.verified, report.rows_dropped) == ("succeeded", True, 2)
    assert kept_rows(ours(tmp_path)) == sorted(map(repr, rows(table))) == before
    assert {file.spec_id for file in live_files(table)} == {1}
    # Readers skip by the new partitions.
    scan = table.refresh().scan(row_filter="part = 'b'")
    assert len(scan.to_arrow()) == sum(row["part"] == "b" for row in rows(table))
    assert all(task.file.partition[0] == "b" for task in scan.plan_files())
    assert plan_table(ours(tmp_path), CURRENT, now_ms=0).groups == ()


def test_into_a_spec_by_its_id(tmp_path: Path, table: Any, environment: JobEnvironment) -> None:
    before = kept_rows(ours(tmp_path))
    policy = Policy(output_spec="0")
    compact_table(ours(tmp_path), policy, environment=environment, options=FULL)
    assert {file.spec_id for file in live_files(table)} == {0}
    assert kept_rows(ours(tmp_path)) == sorted(map(repr, rows(table))) == before


def test_keys_deleted_meanwhile_are_a_conflict(
    tmp_path: Path, table: Any, environment: JobEnvironment
) -> None:
    """They apply to partitions of one spec: where rows go, they must not be hit; nor be spared."""
    young = next(file for file in live_files(table) if file.spec_id == 1)
    keys = pa.table({"id": list(range(40))})
    raced = _Raced(
        ours(tmp_path),
        lambda: commit_deletes(table, write_key_deletes(table, keys, like=young)),
    )
    options = JobOptions(rounds_max=1)
    report = compact_table(raced, CURRENT, environment=environment, options=options)  # type: ignore[arg-type]
    assert (report.status, report.conflicts) == ("failed", 1)
    assert len(kept_rows(ours(tmp_path))) == 38 + 5


def test_what_cannot_be_parted_is_refused(tmp_path: Path, table: Any) -> None:
    with pytest.raises(UnsupportedTableError, match="no partition spec `7`"):
        plan_table(ours(tmp_path), Policy(output_spec="7"), now_ms=0)
    with pytest.raises(SettingsError, match="but the strategy is sort"):
        Policy(output_spec="current", strategy=Strategy.SORT)
    field = pa.field("n", pa.int64(), metadata={"PARQUET:field_id": "1"})
    (tmp_path / "table").mkdir()
    memory = MemoryTable(tmp_path / "table", pa.schema([field]))
    memory.append(pa.table({"n": [1]}), "a")
    with pytest.raises(UnsupportedTableError, match="does not part files"):
        plan_table(memory, CURRENT, now_ms=0)


class _Raced:
    """A table whose first commit comes after another writer's."""

    def __init__(self, table: Any, other: Any) -> None:
        self._table = table
        self._other = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def commit(self, commit: Commit) -> CommitResult:
        self._other()
        result: CommitResult = self._table.commit(commit)
        return result
