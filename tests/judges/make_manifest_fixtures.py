"""Make the manifests of `tests/fixtures/manifests` anew, with Spark: run it as a module.

Of each format version a manifest list, a manifest of data files, and one of deletes where there are
such. The table is partitioned by types that Avro has names for, one of them twice.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import fastavro

from tests.judges.engines import ROOT
from tests.judges.spark_session import SparkSession, spark_session

FIXTURES = ROOT / "tests" / "fixtures" / "manifests"
_COLUMNS = "id bigint, part string, price decimal(9,2), cost decimal(9,2), rate double, day date"
_SPEC = "part, price, cost, rate, days(day), bucket(4, id)"


def main() -> None:
    """Make them."""
    with tempfile.TemporaryDirectory() as scratch, spark_session(Path(scratch)) as spark:
        for version in (1, 2, 3):
            _make(spark, Path(scratch), version)


def _make(spark: SparkSession, scratch: Path, version: int) -> None:
    name = f"lake.ns.v{version}"
    spark.run(
        f"create table {name} ({_COLUMNS}) using iceberg partitioned by ({_SPEC})"
        f" tblproperties('format-version'='{version}', 'write.delete.mode'='merge-on-read')"
    )
    spark.run(
        f"insert into {name} select id, 'a b', cast(1.5 as decimal(9,2)), cast(-2.25 as"
        " decimal(9,2)), 0.1D, date'2026-11-20' from range(0, 20)"
    )
    if version > 1:
        spark.run(f"delete from {name} where id in (3, 4, 11)")
    target = FIXTURES / f"v{version}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    metadata = scratch / "iceberg" / "ns" / f"v{version}" / "metadata"
    newest = max(metadata.glob("snap-*.avro"), key=lambda path: path.stat().st_mtime_ns)
    shutil.copyfile(newest, target / "list.avro")
    with newest.open("rb") as source:
        for row in list(fastavro.reader(source)):
            kind = "deletes" if row.get("content") else "data"
            shutil.copyfile(row["manifest_path"].removeprefix("file:"), target / f"{kind}.avro")


if __name__ == "__main__":
    main()
