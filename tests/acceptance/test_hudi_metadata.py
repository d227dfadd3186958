"""The metadata table that we write, judged by Spark: read through, deaths in between, upkeep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.hudi.instants import InstantWriter
from catalog.hudi.locking import NoLock
from catalog.hudi.metadata_table.upkeep import maintain_metadata
from catalog.hudi.timeline import Action
from tests.catalog.hudi.metadata_table.committing import (
    Opened,
    Prepared,
    clustering,
    compaction,
)
from tests.judges.hudi_declared import TABLES
from tests.judges.hudi_session import HudiSession, shared_hudi_session
from tests.judges.hudi_tables import HudiTable, Write, changes
from tests.judges.make_hudi_fixtures import LEAN, unpack
from tests.judges.spark_process import SparkError

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]

SKIPPING = {"hoodie.metadata.enable": "true", "hoodie.enable.data.skipping": "true"}
PLAIN = {"hoodie.metadata.enable": "false"}
DECLARED = {one.name: one for one in TABLES}
COLUMNS = ("id", "ts", "part", "amount")
Row = tuple[str, int, str, float]
CONDITIONS: Mapping[str, Callable[[Row], bool]] = {
    "part = 'p1' and amount < 4": lambda row: row[2] == "p1" and row[3] < 4,
    "_hoodie_record_key = 'b3'": lambda row: row[0] == "b3",
    "amount = 8.0": lambda row: row[3] == 8.0,
}
_names = count()


@dataclass(frozen=True)
class Table:
    """A table that Spark has made, as we have it and as Spark does."""

    spark: HudiSession
    declared: HudiTable
    path: Path
    name: str

    @property
    def opened(self) -> Opened:
        """The table as it is now."""
        return Opened.at(self.path)

    def rows(self, options: dict[str, str]) -> list[Row]:
        """Return what Spark reads."""
        return _rows(self.spark.read(self.path, options))

    def write(self, operation: str, *values: str) -> None:
        """Have Spark write rows."""
        self.spark.write(Write(changes(*values), operation), self.declared, self.path)

    def require(self, wanted: list[Row]) -> None:
        """Have Spark read through the metadata table and past it, and compare both."""
        assert self.rows(SKIPPING) == wanted
        assert self.rows(PLAIN) == wanted
        self.spark.sql(f"refresh table {self.name}")
        for condition, holds in CONDITIONS.items():
            found = self.spark.sql(f"select id from {self.name} where {condition}")
            assert sorted(found["id"].to_pylist()) == [row[0] for row in wanted if holds(row)]
        wrong = self.spark.sql(f"call validate_metadata_table_files(table => '{self.name}')")
        assert wrong.to_pylist() == []

    def snapshot(self) -> pa.Table:
        """Return what Spark reads, meta columns included."""
        return self.spark.read(self.path, SKIPPING)


@pytest.fixture(scope="module")
def hudi() -> HudiSession:
    return shared_hudi_session()


def _table(hudi: HudiSession, name: str, directory: Path) -> tuple[Table, list[Row]]:
    path = unpack(name, directory)
    known = f"metadata_{next(_names)}"
    hudi.sql(f"create table {known} using hudi location '{path}'")
    for option, value in SKIPPING.items():
        hudi.sql(f"set {option}={value}")
    wanted = _rows(pq.read_table(directory / "snapshot.parquet"))
    declared = DECLARED[name]
    if not declared.has_statistics:
        declared = replace(declared, options={**LEAN, **declared.options})
    return Table(hudi, declared, path, known), wanted


def _rows(found: pa.Table) -> list[Row]:
    rows = found.select(COLUMNS).to_pylist()
    return sorted((row["id"], row["ts"], row["part"], row["amount"]) for row in rows)


def _commit(prepared: Prepared) -> None:
    prepared.write_metadata()
    prepared.complete()


@pytest.mark.parametrize(
    ("name", "commits"),
    [
        pytest.param("v6_mor", 14, marks=pytest.mark.thorough),
        ("v8_mor_record_index", 14),
        pytest.param("v9_mor_bloom_in_metadata", 1, marks=pytest.mark.thorough),
        pytest.param("v9_mor_secondary_index", 1, marks=pytest.mark.thorough),
        ("v9_mor_partitioned_record_index", 1),
    ],
)
def test_spark_goes_on_with_a_metadata_table_that_we_kept_up(
    name: str, commits: int, hudi: HudiSession, tmp_path: Path
) -> None:
    table, wanted = _table(hudi, name, tmp_path)
    _commit(compaction(table.opened, table.snapshot()))
    _commit(clustering(table.opened, table.snapshot()))
    table.require(wanted)
    # Where rows were moved to is where Spark's index of records must find them.
    table.write("upsert", "('a1', 20L, 'p1', 100.0D)", "('z9', 20L, 'p2', 50.0D)")
    wanted = [row for row in wanted if row[0] != "a1"]
    wanted = sorted([*wanted, ("a1", 20, "p1", 100.0), ("z9", 20, "p2", 50.0)])
    rows = table.snapshot()
    for _ in range(commits):
        opened = table.opened
        _commit(clustering(opened, rows))
        maintain_metadata(opened.metadata, opened.timeline(), NoLock())
    folded = table.opened.metadata.timeline().completed(Action.COMMIT)
    assert folded or commits == 1
    table.require(wanted)
    table.write("upsert", "('a1', 30L, 'p1', 7.0D)", "('y9', 30L, 'p3', 51.0D)")
    table.write("delete", "('z9', 30L, 'p2', 7.0D)")
    wanted = [row for row in wanted if row[0] not in ("a1", "z9")]
    wanted = sorted([*wanted, ("a1", 30, "p1", 7.0), ("y9", 30, "p3", 51.0)])
    table.require(wanted)
    hudi.sql(f"call run_clean(table => '{table.name}', retain_commits => 2)")
    table.require(wanted)


@pytest.mark.thorough
def test_spark_itself_fails_to_add_statistics_to_an_index_of_records(
    hudi: HudiSession, tmp_path: Path
) -> None:
    """Why the writes of these tests name no statistics where a table began without."""
    name = "v9_mor_partitioned_record_index"
    untouched = unpack(name, tmp_path)
    write = Write(changes("('z9', 20L, 'p2', 50.0D)"))
    with pytest.raises(SparkError, match=r"NullPointerException.*pathInfo"):
        hudi.write(write, DECLARED[name], untouched)


class _DiedError(Exception):
    pass


@pytest.mark.parametrize(
    ("name", "dies_inside"),
    [("v6_mor", True), ("v9_mor", False), ("v9_cow", True), ("v9_cow", False)],
)
def test_spark_goes_on_after_a_death(
    name: str,
    dies_inside: bool,
    hudi: HudiSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, wanted = _table(hudi, name, tmp_path)
    make = compaction if table.declared.merges_on_read else clustering
    prepared = make(table.opened, table.snapshot())

    def die(*_: object) -> None:
        raise _DiedError

    if dies_inside:
        with monkeypatch.context() as dying:
            dying.setattr(InstantWriter, "complete", die)
            with pytest.raises(_DiedError):
                prepared.write_metadata()
    else:
        prepared.write_metadata()
    table.require(wanted)
    table.write("upsert", "('y7', 20L, 'p3', 50.0D)")
    wanted = sorted([*wanted, ("y7", 20, "p3", 50.0)])
    left = table.opened.timeline().find(prepared.instant.time)
    if left is not None and not left.is_completed and not table.declared.merges_on_read:
        _commit(prepared)
        table.require(wanted)
    table.write("upsert", "('a1', 40L, 'p1', 9.0D)")
    wanted = sorted([*(row for row in wanted if row[0] != "a1"), ("a1", 40, "p1", 9.0)])
    table.require(wanted)
