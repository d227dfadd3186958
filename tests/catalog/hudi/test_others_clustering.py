"""Clusterings that Spark has planned, carried out here as Spark carried them out, or left alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from catalog.errors import CommitConflictError, CorruptTableError
from catalog.hudi.avro_schemas import Kind
from catalog.hudi.avro_writing import container
from catalog.hudi.details import instant_record
from catalog.hudi.instants import InstantWriter
from catalog.hudi.reading import read_details
from catalog.hudi.table import HudiTable
from catalog.hudi.timeline import Action, State
from catalog.location import Location
from compactor.jobs.state import JobState
from tests.catalog.hudi.compacting import compact, planned, verified
from tests.catalog.hudi.test_compaction import announcement, carried_out
from tests.judges.make_hudi_fixtures import unpack

KNOWN = "org.apache.hudi.client.clustering.run.strategy.SparkSortAndSizeExecutionStrategy"
SORT = "hoodie.clustering.plan.strategy.sort.columns"
PENDING = (
    "v6_cow_clustering_pending",
    "v9_mor_clustering_pending",
    pytest.param("v6_mor_clustering_pending", marks=pytest.mark.slow),
    pytest.param("v8_cow_clustering_pending", marks=pytest.mark.slow),
    pytest.param("v9_cow_clustering_pending", marks=pytest.mark.slow),
    pytest.param("v9_cow_record_index_clustering_pending", marks=pytest.mark.slow),
)


def opened(name: str, directory: Path) -> HudiTable:
    return at(unpack(name, directory))


def at(path: Path) -> HudiTable:
    return HudiTable(str(path), Location.parse(str(path)), {})


def done(table: HudiTable) -> tuple[object, ...]:
    """Return what the last replacement did: its instant, what is gone, and what came as ordered."""
    source = table.source()
    instant = source.timeline.completed(Action.REPLACECOMMIT)[-1]
    details = read_details(source, instant)
    gone = {path: sorted(ids) for path, ids in details.replaced.items()}
    came = sorted(
        (one.partition_path, pq.read_table(source.root.child(one.path).path)["id"].to_pylist())
        for one in details.write_stats
    )
    return instant.time, gone, came, details.operation


@pytest.mark.parametrize("name", PENDING)
def test_it_is_what_spark_made_of_the_same_plan(name: str, tmp_path: Path) -> None:
    table = opened(name, tmp_path)
    before = table.snapshot().snapshot_id
    (pending,) = table.source().timeline.pending(Action.CLUSTERING, Action.REPLACECOMMIT)

    report = compact(table, tmp_path)

    assert report.status is JobState.SUCCEEDED
    assert done(table) == done(at(tmp_path / "then" / "table"))
    assert done(table)[0] == pending.time
    assert verified(table, before).is_equal
    assert not table.source().timeline.pending()
    assert not list(Path(table.root.child(".hoodie", ".heartbeat").path).glob("*"))


def altered(table: HudiTable, change: Callable[[dict[str, Any]], None]) -> None:
    """Have the pending plan say something else."""
    (path,) = Path(table.root.child(".hoodie").path).rglob("*.clustering.requested")
    record = instant_record(path.name, path.read_bytes())
    change(record["clusteringPlan"])
    path.write_bytes(container(Kind.CLUSTERING_PLAN, [record]))


def strategy(name: str, **parameters: str) -> Callable[[dict[str, Any]], None]:
    def change(plan: dict[str, Any]) -> None:
        plan["strategy"]["strategyClassName"] = name
        plan["strategy"]["strategyParams"] |= parameters

    return change


def regrouped(plan: dict[str, Any]) -> None:
    first, second, *others = plan["inputGroups"]
    first["slices"] += second["slices"]
    plan["inputGroups"] = [first, *others]


def repeated(plan: dict[str, Any]) -> None:
    slices = plan["inputGroups"][0]["slices"]
    slices.append(slices[0])


LEFT = {
    "another strategy": strategy("org.example.OwnStrategy"),
    "no strategy": strategy(""),
    "other parameters": strategy(KNOWN, curve="zorder"),
    "new meta columns": lambda plan: plan.update(preserveHoodieMetadata=False),
    "groups across partitions": regrouped,
    "a slice twice": repeated,
    "other files": lambda plan: plan["inputGroups"][0]["slices"][0].update(fileId="gone-0"),
    "no base file": lambda plan: plan["inputGroups"][0]["slices"][0].update(dataFilePath=""),
    "no such column": strategy(KNOWN, **{SORT: "nothing"}),
}


@pytest.mark.parametrize("why", LEFT)
def test_what_cannot_be_done_exactly_is_left_to_its_owner(why: str, tmp_path: Path) -> None:
    table = opened("v9_cow_clustering_pending", tmp_path)
    altered(table, LEFT[why])
    plan = planned(table)
    assert not plan.groups
    assert table.source().timeline.pending(Action.CLUSTERING)


def test_columns_may_come_twice(tmp_path: Path) -> None:
    table = opened("v9_cow_clustering_pending", tmp_path)
    altered(table, strategy(KNOWN, **{SORT: "id,id"}))
    assert compact(table, tmp_path).status is JobState.SUCCEEDED
    assert done(table) == done(at(tmp_path / "then" / "table"))


def test_rows_keep_their_order_where_the_plan_names_none(tmp_path: Path) -> None:
    table = opened("v9_cow_clustering_pending", tmp_path)
    altered(table, lambda plan: plan["strategy"].update(strategyParams={}))
    plan = planned(table)
    assert (len(plan.groups), plan.cluster) == (3, None)
    assert compact(table, tmp_path).status is JobState.SUCCEEDED
    assert [len(ids) for _, ids in done(table)[2]] == [
        len(ids) for _, ids in done(at(tmp_path / "then" / "table"))[2]
    ]


def test_files_are_no_larger_than_the_plan_has_them(tmp_path: Path) -> None:
    table = opened("v9_cow_clustering_pending", tmp_path)
    altered(table, lambda plan: plan["inputGroups"][0].update(numOutputFileGroups=3))
    plan = planned(table)
    sizes = [group.files.size_bytes for group in plan.groups]
    assert max(sizes) // 2 <= plan.target_file_size_bytes < max(sizes)


@pytest.fixture
def begun(tmp_path: Path) -> HudiTable:
    """Somebody carries the plan out."""
    table = opened("v9_cow_clustering_pending", tmp_path)
    source = table.source()
    (pending,) = source.timeline.pending(Action.CLUSTERING)
    InstantWriter(source.storage, source.root, source.config).begin(pending)
    return table


def beat(table: HudiTable, age_seconds: float) -> None:
    (pending,) = table.source().timeline.pending(Action.CLUSTERING)
    path = Path(table.root.child(".hoodie", ".heartbeat", pending.time).path)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - age_seconds,) * 2)


def test_what_is_begun_is_left_to_whoever_may_live(begun: HudiTable) -> None:
    assert not planned(begun).groups
    for seconds in (5, 500):
        beat(begun, seconds)
        assert not planned(begun).groups


def test_what_a_dead_process_began_is_carried_out(begun: HudiTable, tmp_path: Path) -> None:
    beat(begun, 1000)
    assert compact(begun, tmp_path).status is JobState.SUCCEEDED
    assert done(begun) == done(at(tmp_path / "then" / "table"))


def test_files_of_a_dead_process_do_not_stay(tmp_path: Path) -> None:
    table = opened("v9_cow_clustering_pending", tmp_path)
    plan = planned(table)
    commit = carried_out(SimpleNamespace(table=table), plan)
    written = {Path(one.path) for rewrite in commit.rewrites for one in rewrite.added}
    # Another process cannot tell whether the first one lives, until its last sign of life is old.
    other = at(tmp_path / "table")
    assert not planned(other).groups
    table.withdraw(announcement(plan))
    beat(other, 1000)
    assert compact(other, tmp_path).status is JobState.SUCCEEDED
    assert done(other) == done(at(tmp_path / "then" / "table"))
    assert not any(path.exists() for path in written)
    # The first one was not dead after all: it comes too late.
    with pytest.raises(CorruptTableError, match="does not exist"):
        table.commit(commit)
    assert done(other) == done(at(tmp_path / "then" / "table"))


def test_what_is_begun_meanwhile_is_not_disturbed(tmp_path: Path) -> None:
    table = opened("v9_cow_clustering_pending", tmp_path)
    plan = planned(table)
    source = table.source()
    (pending,) = source.timeline.pending(Action.CLUSTERING)
    InstantWriter(source.storage, source.root, source.config).begin(pending)
    with pytest.raises(CommitConflictError, match="another process is carrying out"):
        table.announce(announcement(plan))
    assert not list(Path(table.root.child(".hoodie", ".heartbeat").path).glob("*"))


def test_what_fails_here_stays_announced_for_its_owner(tmp_path: Path) -> None:
    table = opened("v9_cow_clustering_pending", tmp_path)
    plan = planned(table)
    table.announce(announcement(plan))
    table.withdraw(announcement(plan))
    (pending,) = table.source().timeline.pending(Action.CLUSTERING)
    assert pending.state is State.INFLIGHT
    assert not list(Path(table.root.child(".hoodie", ".heartbeat").path).glob("*"))
    assert not planned(table).groups
