"""Make the tables of `tests/catalog/hudi/fixtures` with Spark; names of tables may be given.

Each archive holds `table`, and what Spark reads of it: `snapshot.parquet`, and of tables that
merge on read `read_optimized.parquet`.
"""

from __future__ import annotations

import io
import sys
import tarfile
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from tests.judges.hudi_session import HudiSession, hudi_session
from tests.judges.hudi_tables import TABLES, HudiTable

FIXTURES = Path(__file__).resolve().parent.parent / "catalog" / "hudi" / "fixtures"
READ_OPTIMIZED = {"hoodie.datasource.query.type": "read_optimized"}


def make(spark: HudiSession, table: HudiTable, scratch: Path) -> None:
    """Make one table and pack it."""
    directory = scratch / table.name
    directory.mkdir()
    path = directory / "table"
    spark.make(table, path)
    pq.write_table(spark.read(path), directory / "snapshot.parquet")
    if table.options["hoodie.datasource.write.table.type"] == "MERGE_ON_READ":
        rows = spark.read(path, READ_OPTIMIZED)
        pq.write_table(rows, directory / "read_optimized.parquet")
    pack(directory, FIXTURES / f"{table.name}.tar.xz")


def pack(directory: Path, archive: Path) -> None:
    """Pack a directory, less the checksum files of Hadoop's local file system."""
    with tarfile.open(archive, "w:xz") as tar:
        for path in sorted(directory.rglob("*")):
            if path.is_dir() or path.suffix == ".crc":
                continue
            content = path.read_bytes()
            member = tarfile.TarInfo(str(path.relative_to(directory)))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def unpack(name: str, directory: Path) -> Path:
    """Unpack a table; return its path."""
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as tar:
        tar.extractall(directory, filter="data")
    return directory / "table"


def main(names: list[str]) -> None:
    """Make the named tables, all of them when none is named."""
    FIXTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, hudi_session(Path(scratch)) as spark:
        for table in TABLES:
            if not names or table.name in names:
                make(spark, table, Path(scratch))
                sys.stderr.write(f"{table.name}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
