"""Make the tables of `tests/fixtures/delta` with Spark; names of tables may be given.

Each archive holds a table and `expected.parquet`, what Spark reads of it. Tables that refer to
themselves by absolute path are packed with `PLACE` for the directory that they were made in.
"""

from __future__ import annotations

import io
import sys
import tarfile
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from tests.judges.delta_features import FEATURE_TABLES, FeatureTable
from tests.judges.spark_session import SparkSession, spark_session

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "delta"
PLACE = b"/place/of/the/table"


def make(spark: SparkSession, feature: FeatureTable, scratch: Path) -> None:
    """Make one table and pack it."""
    directory = scratch / feature.name
    directory.mkdir()
    path = str(directory / "table")
    for statement in feature.statements(path):
        spark.run(statement)
    pq.write_table(spark.rows(feature.query(path)), directory / "expected.parquet")
    # A clone writes a checkpoint at once, with absolute paths that nobody can replace.
    pattern = "*checkpoint*" if feature.is_cloned else "*.crc"
    for path in directory.rglob(pattern):
        path.unlink()
    pack(directory, FIXTURES / f"{feature.name}.tar.xz")


def pack(directory: Path, archive: Path) -> None:
    """Pack a directory, less the checksum files of Hadoop's local file system."""
    with tarfile.open(archive, "w:xz") as tar:
        for path in sorted(directory.rglob("*")):
            if path.is_dir() or path.suffix == ".crc":
                continue
            content = path.read_bytes()
            if path.suffix == ".json":
                content = content.replace(str(directory).encode(), PLACE)
            member = tarfile.TarInfo(str(path.relative_to(directory)))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def unpack(name: str, directory: Path) -> Path:
    """Unpack a table; return its path."""
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as tar:
        tar.extractall(directory, filter="data")
    for path in directory.rglob("*.json"):
        path.write_bytes(path.read_bytes().replace(PLACE, str(directory).encode()))
    return directory / "table"


def main(names: list[str]) -> None:
    """Make the named tables, all of them when none is named."""
    FIXTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, spark_session(Path(scratch)) as spark:
        for feature in FEATURE_TABLES:
            if not names or feature.name in names:
                make(spark, feature, Path(scratch))
                sys.stderr.write(f"{feature.name}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
