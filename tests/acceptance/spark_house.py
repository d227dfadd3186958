"""A REST catalog, Spark over it, and ourselves: what tests of all three have in common."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from catalog.iceberg.catalogs import open_catalog
from catalog.iceberg.entries import live_entries, manifests_of
from catalog.iceberg.file_io import StorageFileIO
from catalog.iceberg.table import IcebergTable
from tests.acceptance.program import compact
from tests.catalog.iceberg.version3 import Version3Lake
from tests.judges.rest_catalog import rest_catalog
from tests.judges.spark_session import SparkSession

MERGE_ON_READ = ", ".join(
    f"'write.{kind}.mode'='merge-on-read'" for kind in ("delete", "update", "merge")
)
LINEAGE = "_row_id, _last_updated_sequence_number"


@dataclass(frozen=True)
class House:
    """Tables `rest.ns.*` of Spark's, which are `lake.ns.*` for us."""

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

    def insert_texts(self, name: str, first: int, count: int) -> None:
        self.spark.run(
            f"insert into rest.ns.{name} select id, concat(sha2(cast(id as string), 512), id)"
            f" from range({first}, {first + count}, 1, 1)"
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

    def adopted(self, name: str, lake: Version3Lake) -> list[Any]:
        """Read a table of another catalog, as it is now, under a name of this one."""
        self.catalog.register_table(f"ns.{name}", lake.other.metadata_location)
        return self.rows(name)

    def table(self, name: str) -> Table:
        return self.catalog.load_table(f"ns.{name}")

    def entries(self, name: str) -> list[Any]:
        """Return the live files of the head, of all kinds."""
        ours = IcebergTable(f"lake.ns.{name}", self.catalog, ("ns", name))
        io = StorageFileIO(ours.storage, ours.confinement)
        head = ours.load().metadata.current_snapshot()
        assert head is not None
        return [entry for one in manifests_of(head, io) for entry in live_entries(one, io)]


@contextmanager
def spark_house(scratch: Path, spark: SparkSession) -> Iterator[House]:
    """Serve the catalog and show it to Spark, once in the life of a session."""
    with rest_catalog(scratch) as address:
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
