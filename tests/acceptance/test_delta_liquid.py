"""Liquid-clustered tables that Spark and we put in order by turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.delta_reading import Rows, our_rows, spelled
from tests.acceptance.program import compact
from tests.catalog.delta.lakes import commits
from tests.judges.spark_session import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]

ROWS = 3_000
COLUMNS = ["id", "place", "text"]
SMALL = ("--target-file-size", "60KiB")
CLUSTERED_BY = ["id", "place.`zip code`"]


class Shared:
    """One table that Spark writes and both put in order."""

    def __init__(self, spark: SparkSession, directory: Path, clause: str) -> None:
        self._spark = spark
        self._directory = directory
        self.path = directory / "table"
        self.name = f"delta.`{self.path}`"
        self._inserts = 0
        spark.run(
            f"CREATE TABLE {self.name}"
            f" (id BIGINT, place STRUCT<`zip code`: INT>, text STRING) USING DELTA {clause}"
            " TBLPROPERTIES ('delta.columnMapping.mode' = 'name',"
            " 'delta.enableDeletionVectors' = 'true')"
        )

    def insert(self) -> None:
        first = self._inserts * ROWS
        self._inserts += 1
        self.run(
            f"INSERT INTO {self.name} SELECT id, named_struct('zip code', CAST(hash(id) % 100 AS"
            f" INT)), concat('text ', hash(id, 7)) FROM range({first}, {first + ROWS}, 1, 1)"
        )

    def run(self, statement: str) -> None:
        self._spark.run(statement)

    def rows(self) -> Rows:
        return spelled(self._spark.rows(f"SELECT * FROM {self.name}"), COLUMNS)

    def found(self, predicate: str) -> int:
        query = f"SELECT count(*) AS found FROM {self.name} WHERE {predicate}"
        found: int = self._spark.rows(query)["found"][0].as_py()
        return found

    def detail(self) -> dict[str, Any]:
        found: dict[str, Any] = self._spark.rows(f"DESCRIBE DETAIL {self.name}").to_pylist()[0]
        return found

    def history(self) -> dict[str, Any]:
        """Return what Spark reads of the newest commit."""
        table = self._spark.rows(f"DESCRIBE HISTORY {self.name} LIMIT 1")
        found: dict[str, Any] = table.to_pylist()[0]
        return found

    def cluster_by(self) -> str:
        """Return what the newest commit says that its files were clustered by."""
        found: str = dict(self.history()["operationParameters"])["clusterBy"]
        return found

    def compact(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = compact(
            self._directory, "run", "table/", "--yes", "--verify", "full", *arguments
        )
        return found

    def last(self, kind: str) -> list[dict[str, Any]]:
        return [one[kind] for one in commits(self.path)[-1] if kind in one]


def test_spark_and_we_cluster_a_table_by_turns(spark: SparkSession, tmp_path: Path) -> None:
    table = Shared(spark, tmp_path, "CLUSTER BY (id, place.`zip code`)")
    for _ in range(4):
        table.insert()
    table.run(f"DELETE FROM {table.name} WHERE id % 5 = 3")
    before, wanted = table.rows(), table.found("id > 4000 AND place.`zip code` = 7")

    assert table.compact("--strategy", "hilbert", *SMALL)["status"] == "succeeded"
    ours = table.cluster_by()
    adds = table.last("add")
    assert len(adds) > 1
    (named,) = {add["tags"]["ZCUBE_ZORDER_BY"] for add in adds}
    is_as_before(table, before)
    assert table.found("id > 4000 AND place.`zip code` = 7") == wanted

    # One cube, and Spark takes it for one: there is nothing for it to do.
    version = table.history()["version"]
    table.run(f"OPTIMIZE {table.name}")
    assert table.history()["version"] == version

    table.insert()
    before = table.rows()
    table.run(f"OPTIMIZE {table.name}")
    assert table.history()["version"] > version + 1
    assert table.cluster_by() == ours
    (cube,) = table.last("add")
    assert cube["tags"]["ZCUBE_ZORDER_BY"] == named
    is_as_before(table, before)

    # Spark's cube stays, though it has lost rows; what has come since is packed.
    table.run(f"DELETE FROM {table.name} WHERE id % 4 = 1")
    for _ in range(2):
        table.insert()
    before = table.rows()
    table.compact("--min-input-files", "2", "--target-file-size", "1MiB")
    assert cube["path"] not in {one["path"] for one in table.last("remove")}
    assert len(table.last("remove")) == 2
    is_as_before(table, before)


def is_as_before(table: Shared, before: Rows) -> None:
    assert table.rows() == before
    assert our_rows(str(table.path)) == (COLUMNS, before)
    assert table.detail()["clusteringColumns"] == CLUSTERED_BY


def test_spark_reads_what_a_plain_table_was_ordered_by(spark: SparkSession, tmp_path: Path) -> None:
    table = Shared(spark, tmp_path, "")
    for _ in range(2):
        table.insert()
    before = table.rows()
    table.run(f"OPTIMIZE {table.name} ZORDER BY (id, place.`zip code`)")
    theirs = dict(table.history()["operationParameters"])["zOrderBy"]
    table.compact("--strategy", "zorder", "--sort-by", 'id, "place.zip code"')
    found = table.history()
    assert found["operation"] == "OPTIMIZE"
    assert dict(found["operationParameters"])["zOrderBy"] == theirs
    assert table.rows() == before
