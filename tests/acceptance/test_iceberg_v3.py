"""Tables of format version 3 between us and the reference implementation: rows, ids and vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from catalog.iceberg.catalogs import open_catalog
from catalog.iceberg.entries import live_entries, manifests_of
from catalog.iceberg.file_io import StorageFileIO
from catalog.iceberg.table import IcebergTable
from tests.acceptance.program import compact
from tests.judges.rest_catalog import rest_catalog
from tests.judges.spark_session import SparkSession, spark_session

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]

MERGE_ON_READ = ", ".join(
    f"'write.{kind}.mode'='merge-on-read'" for kind in ("delete", "update", "merge")
)
LINEAGE = "_row_id, _last_updated_sequence_number"


@dataclass(frozen=True)
class House:
    """A REST catalog, Spark over it, and ourselves."""

    spark: SparkSession
    catalog: Catalog
    address: str
    scratch: Path

    def create(self, name: str, columns: str, tail: str = "", version: int = 3) -> None:
        self.spark.run(
            f"create table rest.ns.{name} ({columns}) using iceberg {tail}"
            f" tblproperties('format-version'='{version}', {MERGE_ON_READ})"
        )

    def insert(self, name: str, first: int, count: int, part: str = "a") -> None:
        self.spark.run(
            f"insert into rest.ns.{name}"
            f" select id, '{part}', concat('text ', id) from range({first}, {first + count})"
        )

    def rows(self, name: str, columns: str = f"*, {LINEAGE}", at: int | None = None) -> list[Any]:
        version = "" if at is None else f" version as of {at}"
        found = self.spark.rows(f"select {columns} from rest.ns.{name}{version}").to_pylist()
        return sorted(found, key=lambda row: json.dumps(row, default=str))

    def run(self, verb: str, name: str, *options: str, code: int = 0) -> dict[str, Any]:
        report = compact(
            self.scratch, verb, f"lake.ns.{name}", *options, code=code,
            extra={
                "PYICEBERG_CATALOG__LAKE__TYPE": "rest",
                "PYICEBERG_CATALOG__LAKE__URI": self.address,
            },
        )  # fmt: skip
        self.spark.run(f"refresh table rest.ns.{name}")
        return report

    def table(self, name: str) -> Table:
        return self.catalog.load_table(f"ns.{name}")

    def entries(self, name: str) -> list[Any]:
        """Return the live files of the head, of all kinds."""
        ours = IcebergTable(f"lake.ns.{name}", self.catalog, ("ns", name))
        io = StorageFileIO(ours.storage, ours.confinement)
        head = ours.load().metadata.current_snapshot()
        assert head is not None
        return [entry for one in manifests_of(head, io) for entry in live_entries(one, io)]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    scratch = tmp_path_factory.mktemp("v3")
    with rest_catalog(scratch) as address, spark_session(scratch) as spark:
        catalog = open_catalog("lake", {"type": "rest", "uri": address})
        catalog.create_namespace("ns")
        for name, value in {
            "rest": "org.apache.iceberg.spark.SparkCatalog",
            "rest.type": "rest",
            "rest.uri": address,
            "rest.cache-enabled": "false",
        }.items():
            spark.run(f"set `spark.sql.catalog.{name}`={value}")
        yield House(spark, catalog, address, scratch)


def fill(house: House, name: str) -> None:
    """Make a table with many small files, deletion vectors and updated rows."""
    house.create(name, "id bigint, part string, text string", "partitioned by (part)")
    for number in range(4):
        for at, part in enumerate("ab"):
            house.insert(name, (number * 2 + at) * 10, 10, part)
    house.spark.run(f"delete from rest.ns.{name} where id in (3, 13, 14, 61)")
    house.spark.run(f"update rest.ns.{name} set text = 'new' where id in (5, 16, 62)")
    house.spark.run(f"delete from rest.ns.{name} where id = 4")


def test_rows_keep_their_ids_and_spark_goes_on(house: House) -> None:
    fill(house, "t")
    before, snapshot = house.rows("t"), house.table("t").metadata.current_snapshot_id
    report = house.run("run", "t", "--verify", "full", "--min-input-files", "2", "--yes")
    assert (report["status"], report["verified"], report["rows_dropped"]) == ("succeeded", True, 8)
    assert house.rows("t") == before
    assert house.rows("t", at=snapshot) == before
    assert [one.data_file.content.name for one in house.entries("t")] == ["DATA", "DATA"]
    house.spark.run("update rest.ns.t set text = 'newer' where id in (6, 17)")
    house.spark.run("delete from rest.ns.t where id in (7, 62)")
    house.spark.run(
        "merge into rest.ns.t using (select 8L as id, 'a' as part, 'merged' as text union all"
        " select 1000L, 'b', 'came') as s on rest.ns.t.id = s.id"
        " when matched then update set text = s.text when not matched then insert *"
    )
    after = house.rows("t")
    ids = {row["id"]: row["_row_id"] for row in before}
    assert all(ids[row["id"]] == row["_row_id"] for row in after if row["id"] in ids)
    assert len({row["_row_id"] for row in after}) == len(after) == len(before) - 1
    house.spark.run("call rest.system.rewrite_position_delete_files(table => 'ns.t')")
    house.spark.run(
        "call rest.system.rewrite_data_files(table => 'ns.t', options => map('rewrite-all','true'))"
    )
    assert house.rows("t") == after
    assert house.run("plan", "t", "--min-input-files", "2", "--check")["groups"] == []
