"""Spark reads what carried deletes, checkpoints, compacted logs and vacuums leave, and goes on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from catalog.commits import Commit
from catalog.delta.checkpoint import write_checkpoint
from catalog.delta.log_compaction import LogCompaction
from catalog.delta.vacuum import Vacuum
from catalog.upkeep import UpkeepOrder
from tests.catalog.conformance import fill
from tests.catalog.delta.lakes import DeltaLake, commits
from tests.catalog.delta.tracked import TrackedLake
from tests.catalog.groups import plan_all
from tests.judges.spark_session import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(600)]


def ids(spark: SparkSession, lake: DeltaLake) -> list[int]:
    found: list[int] = spark.rows(f"SELECT id FROM delta.`{lake.directory}`")["id"].to_pylist()
    return sorted(found)


def ordered(commit: Commit) -> Commit:
    rewrites = tuple(replace(one, keeps_order=True) for one in commit.rewrites)
    return replace(commit, rewrites=rewrites)


def checkpoint_alone(lake: DeltaLake) -> None:
    """Checkpoint the newest version, and forget the commits before it."""
    segment, state = lake.table.load()
    write_checkpoint(lake.table, segment, state)
    log = lake.directory / "_delta_log"
    for path in log.glob("*[0-9].json"):
        if int(path.stem) < segment.version:
            path.unlink()
    for path in [*log.glob(".*.crc"), *log.glob("*.crc")]:
        path.unlink()


def test_spark_reads_and_extends_carried_deletes(spark: SparkSession, tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    small = fill(lake, parts="b")["b"]
    large = lake.append(range(10_000, 20_000))
    commit = ordered(plan_all(lake.table))
    lake.delete({small[0]: [1, 2]})
    lake.delete({large: np.random.default_rng(1).choice(10_000, 3000, replace=False).tolist()})
    expected = [row[0] for row in lake.rows()]
    assert lake.table.commit(commit).conflicts == ()
    adds = [one["add"] for one in commits(lake.directory)[-1] if "add" in one]
    assert {add["deletionVector"]["storageType"] for add in adds} == {"i", "u"}
    assert ids(spark, lake) == expected
    gone = expected[5::100]
    spark.run(f"DELETE FROM delta.`{lake.directory}` WHERE id IN ({', '.join(map(str, gone))})")
    left = sorted(set(expected) - set(gone))
    assert ids(spark, lake) == left
    assert [row[0] for row in lake.rows()] == left


def test_spark_reads_what_upkeep_leaves(spark: SparkSession, tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    files = fill(lake)
    lake.delete({files["a"][0]: [1]})
    lake.table.commit(plan_all(lake.table))
    checkpoint_alone(lake)
    assert ids(spark, lake) == [row[0] for row in lake.rows()]
    spark.run(f"INSERT INTO delta.`{lake.directory}` VALUES (7777777, 'a', 'x')")
    lake.append(range(900, 910))
    assert LogCompaction(lake.table).run(UpkeepOrder()).files == 1
    expected = [row[0] for row in lake.rows()]
    time.sleep(0.1)
    assert Vacuum(lake.table).run(UpkeepOrder(retention_seconds=0, is_forced=True)).files > 6
    assert ids(spark, lake) == expected
    spark.run(f"OPTIMIZE delta.`{lake.directory}`")
    assert [row[0] for row in lake.rows()] == expected


def test_spark_sees_the_same_row_ids(spark: SparkSession, tmp_path: Path) -> None:
    lake = TrackedLake(tmp_path)
    files = fill(lake, parts="a")["a"]
    commit = ordered(plan_all(lake.table))
    lake.delete({files[1]: [3]})

    def lineage() -> dict[int, tuple[int, int]]:
        columns = "id, _metadata.row_id r, _metadata.row_commit_version v"
        rows = spark.rows(f"SELECT {columns} FROM delta.`{lake.directory}`").to_pylist()
        return {row["id"]: (row["r"], row["v"]) for row in rows}

    before = lineage()
    assert lake.table.commit(commit).conflicts == ()
    assert lineage() == before == lake.lineage()
    checkpoint_alone(lake)
    lake.append(range(500, 510))
    spark.run(f"OPTIMIZE delta.`{lake.directory}`")
    spark.run(f"UPDATE delta.`{lake.directory}` SET text = 'u' WHERE id = 505")
    before = lineage()
    assert lake.lineage() == before
    assert lake.table.commit(plan_all(lake.table)).conflicts == ()
    assert lineage() == before
