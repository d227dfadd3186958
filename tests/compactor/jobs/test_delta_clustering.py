"""Jobs on Delta tables that are clustered, and curves on tables that are not."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from catalog.delta.row_delta import delete_rows
from catalog.delta.table import DeltaTable
from catalog.errors import UnsupportedTableError
from catalog.location import Location
from compactor.clustering import Strategy, parse_sort_keys
from compactor.errors import SettingsError
from compactor.jobs.compaction import compact_table
from compactor.jobs.options import JobOptions
from compactor.jobs.planning import plan_table
from compactor.jobs.report import JobReport
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.state import JobState
from compactor.jobs.store import open_store
from compactor.planner.health import assess_health
from compactor.planner.planfile import encode_plan, load_plan
from compactor.planner.policy import Policy
from compactor.rewrite.task import Proof
from runtime import Runtime
from runtime.connect import connect
from tests.acceptance.delta_reading import our_rows
from tests.catalog.delta.lakes import commits
from tests.catalog.delta.liquid import CUBE, MAPPED, ROWS, LiquidLake, domain
from tests.judges.make_delta_fixtures import unpack

HILBERT = Policy(strategy=Strategy.HILBERT, target_file_size_bytes=40_000)
PACK = Policy(min_input_files=2, target_file_size_bytes=40_000)


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with connect("inline", memory_bytes=1 << 30) as opened:
        yield opened


@pytest.fixture
def lake(tmp_path: Path) -> LiquidLake:
    return LiquidLake(tmp_path)


def run(table: DeltaTable, directory: Path, runtime: Runtime, policy: Policy) -> JobReport:
    store = open_store(f"sqlite:///{directory}/state/jobs.db")
    environment = JobEnvironment(runtime, store, lambda _: None)
    with store:
        report = compact_table(
            table, policy, environment=environment, options=JobOptions(proof=Proof.FULL)
        )
    assert (report.status, report.verified) == (JobState.SUCCEEDED, True)
    assert not plan_table(table, policy, now_ms=0).groups
    return report


def test_packing_leaves_what_is_clustered_alone_and_says_why(
    lake: LiquidLake, tmp_path: Path, runtime: Runtime
) -> None:
    cubes = {lake.append(seed, **CUBE) for seed in range(3)}
    fresh = {lake.append(seed) for seed in range(3, 6)}
    # Also with deleted rows, which would be purged anywhere else.
    delete_rows(lake.table, {min(cubes): np.arange(ROWS // 2)})
    before = lake.rows()
    policy = replace(PACK, target_file_size_bytes=1 << 20)

    plan = plan_table(lake.table, policy, now_ms=0)
    assert {one.reason for one in plan.skipped} == {
        "clustered, and left to strategies that put rows in order"
    }
    assert sum(one.files for one in plan.skipped) == 3
    assert {path for one in plan.groups for path in one.files.files["path"].to_pylist()} == fresh

    run(lake.table, tmp_path, runtime, policy)
    health = assess_health(lake.table.inventory(lake.table.snapshot()), policy.file_sizes(1))
    assert (health.small_files, health.spare_files) == (1, 0)
    assert cubes < lake.paths()
    assert lake.rows() == before
    (added,) = lake.last("add")
    assert "tags" not in added
    assert "clusteringProvider" not in added


def test_tags_mean_nothing_in_a_table_that_is_clustered_no_more(lake: LiquidLake) -> None:
    lake.append(0, **CUBE)
    lake.append(1, **CUBE)
    lake.commit(domain([]))
    found = lake.table.inventory(lake.table.snapshot()).files["is_clustered"]
    assert found.null_count == 2
    plan = plan_table(lake.table, replace(PACK, target_file_size_bytes=1 << 20), now_ms=0)
    assert [one.files.file_count for one in plan.groups] == [2]
    with pytest.raises(SettingsError, match="no columns"):
        plan_table(lake.table, HILBERT, now_ms=0)


@pytest.mark.parametrize("strategy", [Strategy.HILBERT, Strategy.ZORDER])
def test_a_curve_takes_the_columns_of_the_table_and_marks_its_files(
    lake: LiquidLake, tmp_path: Path, runtime: Runtime, strategy: Strategy
) -> None:
    for seed in range(4):
        lake.append(seed)
    before = lake.rows()

    run(lake.table, tmp_path, runtime, replace(HILBERT, strategy=strategy))

    adds = lake.last("add")
    assert len(adds) > 2
    (cube,) = {add["tags"].pop("ZCUBE_ID") for add in adds}
    assert uuid.UUID(cube)
    for add in adds:
        assert add["clusteringProvider"] == "liquid"
        assert add["tags"] == {
            "ZCUBE_ZORDER_BY": '["id","`my place`.zip"]',
            "ZCUBE_ZORDER_CURVE": strategy.value,
        }
        bounds = json.loads(add["stats"])["minValues"]
        assert {"col-1", "col-2"} <= set(bounds)
    parameters = lake.last("commitInfo")[0]["operationParameters"]
    assert parameters["clusterBy"] == '["id","`my place`.zip"]'
    assert parameters["zOrderBy"] == "[]"
    assert lake.rows() == before
    assert not plan_table(lake.table, PACK, now_ms=0).groups


def test_clustering_again_keeps_what_is_clustered_by_reference(
    lake: LiquidLake, tmp_path: Path, runtime: Runtime
) -> None:
    for seed in range(4):
        lake.append(seed)
    run(lake.table, tmp_path, runtime, HILBERT)
    clustered = lake.paths()
    fresh = lake.append(9)
    before = lake.rows()

    plan = plan_table(lake.table, HILBERT, now_ms=0)
    loaded = load_plan(encode_plan(plan), lake.table.inventory(plan.snapshot))
    assert encode_plan(loaded) == encode_plan(plan)
    run(lake.table, tmp_path, runtime, HILBERT)

    kept = clustered & lake.paths()
    assert len(kept) >= len(clustered) - 1
    assert fresh not in lake.paths()
    assert lake.rows() == before


def test_outputs_have_statistics_of_the_clustering_columns_whatever_else(
    tmp_path: Path, runtime: Runtime
) -> None:
    lake = LiquidLake(tmp_path, configuration={**MAPPED, "delta.dataSkippingStatsColumns": "text"})
    for seed in range(2):
        lake.append(seed)
    run(lake.table, tmp_path, runtime, replace(PACK, target_file_size_bytes=1 << 20))
    (added,) = lake.last("add")
    assert set(json.loads(added["stats"])["minValues"]) == {"col-1", "col-2", "col-4"}


def test_an_order_by_other_columns_marks_nothing(
    lake: LiquidLake, tmp_path: Path, runtime: Runtime
) -> None:
    lake.append(0)
    lake.append(1, **CUBE)
    policy = replace(HILBERT, strategy=Strategy.ZORDER, sort_by=parse_sort_keys("text, id"))
    plan = plan_table(lake.table, policy, now_ms=0)
    assert str(plan.cluster and plan.cluster.clustering) == "zorder of text, id"
    run(lake.table, tmp_path, runtime, policy)
    assert not any("tags" in add or "clusteringProvider" in add for add in lake.last("add"))
    parameters = lake.last("commitInfo")[0]["operationParameters"]
    assert (parameters["zOrderBy"], parameters["clusterBy"]) == ('["text","id"]', "[]")


@pytest.mark.parametrize("name", ["col-4", "nothing", "text.id"])
def test_columns_go_by_the_names_that_readers_know(lake: LiquidLake, name: str) -> None:
    lake.append(0)
    policy = Policy(strategy=Strategy.SORT, sort_by=parse_sort_keys(name))
    with pytest.raises(UnsupportedTableError, match=f"no column '{name}'"):
        plan_table(lake.table, policy, now_ms=0)


def test_an_order_by_partition_is_refused_with_the_reason(tmp_path: Path) -> None:
    opened = DeltaTable("t", Location.parse(str(unpack("partitioned", tmp_path))), {})
    (partition, *_) = opened.load()[1].metadata.partition_columns
    policy = Policy(strategy=Strategy.SORT, sort_by=parse_sort_keys(partition))
    with pytest.raises(UnsupportedTableError, match="partitioned by it"):
        plan_table(opened, policy, now_ms=0)


def test_a_table_of_sparks_is_clustered(tmp_path: Path, runtime: Runtime) -> None:
    table = unpack("clustering", tmp_path)
    before = our_rows(str(table))
    opened = DeltaTable("t", Location.parse(str(table)), {})
    run(opened, tmp_path, runtime, HILBERT)
    adds = [one["add"] for one in commits(table)[-1] if "add" in one]
    assert [add["tags"]["ZCUBE_ZORDER_BY"] for add in adds] == ['["id"]']
    assert our_rows(str(table)) == before
    assert not plan_table(opened, PACK, now_ms=0).groups


@pytest.mark.parametrize("strategy", [Strategy.HILBERT, Strategy.ZORDER, Strategy.SORT])
def test_the_commit_of_a_plain_table_says_what_it_is_ordered_by(
    tmp_path: Path, runtime: Runtime, strategy: Strategy
) -> None:
    table = unpack("partitioned", tmp_path)
    before = our_rows(str(table))
    policy = Policy(strategy=strategy, sort_by=parse_sort_keys("v, id"))
    run(DeltaTable("t", Location.parse(str(table)), {}), tmp_path, runtime, policy)
    (info,) = (one["commitInfo"] for one in commits(table)[-1] if "commitInfo" in one)
    expected = "[]" if strategy is Strategy.SORT else '["v","id"]'
    assert info["operationParameters"]["zOrderBy"] == expected
    assert info["operationParameters"]["clusterBy"] == "[]"
    assert not any("tags" in one["add"] for one in commits(table)[-1] if "add" in one)
    assert our_rows(str(table)) == before
