"""Delta tables that Spark has made, with every feature: we compact them, and Spark goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.delta_reading import Rows, our_rows, spelled
from tests.acceptance.program import compact
from tests.acceptance.test_delta_fixtures import COMPACTED, REFUSED, by_name, contents
from tests.judges.delta_engines import READERS, UNREADABLE, read_ids_with_duckdb
from tests.judges.delta_features import FEATURE_TABLES, FeatureTable
from tests.judges.make_delta_fixtures import unpack
from tests.judges.spark_session import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]

TRACKING = ("row_id", "row_commit_version")


@dataclass(frozen=True)
class Judged:
    """A table of Spark's, and its twin that is never compacted."""

    spark: SparkSession
    feature: FeatureTable
    directory: Path

    @property
    def path(self) -> str:
        return str(self.directory / "table")

    @property
    def twin(self) -> str:
        return str(self.directory / "twin")

    def make(self) -> None:
        # Spark has made it before: that takes it longer than all the rest.
        unpack(self.feature.name, self.directory)
        shutil.copytree(self.path, self.twin)

    def live_on(self) -> None:
        for path in (self.path, self.twin):
            for statement in self.feature.later(path):
                self.spark.run(statement)

    def rows(self, version: int | None = None) -> Rows:
        table = self.spark.rows(self.feature.query(self.path, version))
        return spelled(table, table.column_names)

    def shown(self, path: str) -> Rows:
        """Return the rows without what row tracking knows of them."""
        table = self.spark.rows(self.feature.query(path))
        return spelled(table, [name for name in table.column_names if name not in TRACKING])

    def counts(self, path: str) -> Rows:
        """Return what Spark finds by predicates: files are skipped by the statistics."""
        return spelled(self.spark.rows(self.feature.counts(path)), ["id", "found"])

    def version(self) -> int:
        logs = Path(self.path, "_delta_log").glob("*.json")
        return max(int(path.stem) for path in logs if path.stem.isdigit())

    def compact(self, *options: str, code: int = 0) -> dict:
        arguments = ("--yes", "--min-input-files", "2", "--verify", "full", *options)
        return compact(self.directory, "run", "table/", *arguments, code=code)


@pytest.fixture
def judged(spark: SparkSession, tmp_path: Path) -> Callable[[FeatureTable], Judged]:
    def make(feature: FeatureTable) -> Judged:
        made = Judged(spark, feature, tmp_path)
        made.make()
        return made

    return make


@pytest.mark.parametrize("feature", COMPACTED, ids=by_name)
def test_spark_reads_what_was_compacted_and_goes_on(
    feature: FeatureTable, judged: Callable[[FeatureTable], Judged]
) -> None:
    table = judged(feature)
    before, planned_from = table.rows(), table.version()
    # Row groups of Spark's are copied here, and encoded anew further below.
    report = table.compact("--effort", "bytes")
    assert report["status"] == "succeeded"
    assert report["files_after"] < report["files_before"]
    is_as_before(table, before)
    assert table.rows(planned_from) == before
    assert table.counts(table.path) == table.counts(table.twin)
    table.live_on()
    expected = table.shown(table.twin)
    assert table.shown(table.path) == expected
    before = table.rows()
    report = table.compact()
    # A merge without deletion vectors may have left one file in each of two partitions.
    assert report["groups"]["committed"] >= 1 or report["files_before"] <= 2
    is_as_before(table, before)
    table.spark.run(f"OPTIMIZE delta.`{table.path}`")
    table.spark.run(f"VACUUM delta.`{table.path}` RETAIN 0 HOURS")
    is_as_before(table, before)
    assert table.shown(table.path) == expected


def is_as_before(table: Judged, before: Rows) -> None:
    """Every engine that can read the table finds the rows, and Spark the same row ids."""
    names, ours = our_rows(table.path)
    assert table.rows() == before
    assert ours == before
    identity = names.index("id")
    ids = sorted(read_ids_with_duckdb(table.path)["id"].to_pylist())
    assert ids == [row[identity] for row in before]
    shown = [name for name in names if name not in TRACKING]
    for engine, read in READERS.items():
        if table.feature.name not in UNREADABLE[engine]:
            assert spelled(read(table.path), shown) == [row[: len(shown)] for row in before]


@pytest.mark.parametrize("feature", [f for f in FEATURE_TABLES if f.name in REFUSED], ids=by_name)
def test_what_is_not_understood_is_refused_and_not_touched(
    feature: FeatureTable, judged: Callable[[FeatureTable], Judged]
) -> None:
    table = judged(feature)
    before = contents(Path(table.path))
    answer = table.compact(code=1)
    assert REFUSED[feature.name] in str(answer)
    assert contents(Path(table.path)) == before
