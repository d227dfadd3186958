"""Make the tables of `tests/catalog/hudi/fixtures` with Spark; names of tables may be given.

Each archive holds `table`, and what Spark reads of it: `snapshot.parquet`, and of tables that
merge on read `read_optimized.parquet`. What Spark's own table services make of a table is in
`then`, with the same two files. Plans with absolute paths are packed with `PLACE` for the
directory that they were made in.
"""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import fastavro
import pyarrow.parquet as pq

from tests.judges.hudi_declared import TABLES
from tests.judges.hudi_session import HudiSession, hudi_session
from tests.judges.hudi_tables import HudiTable

FIXTURES = Path(__file__).resolve().parent.parent / "catalog" / "hudi" / "fixtures"
PLACE = "/place/of/the/table"
READ_OPTIMIZED = {"hoodie.datasource.query.type": "read_optimized"}
LEAN = {"hoodie.metadata.index.column.stats.enable": "false"}


def make(spark: HudiSession, table: HudiTable, scratch: Path) -> None:
    """Make one table and pack it."""
    directory = scratch / table.name
    path, later = directory / "table", directory / "then"
    later.mkdir(parents=True)
    if not table.has_statistics:
        table = replace(table, options={**LEAN, **table.options})
    for step in table.steps:
        spark.take(step, table, path)
    expect(spark, table, path, directory)
    if table.then:
        before = directory / "before"
        shutil.copytree(path, before)
        for step in table.then:
            spark.take(step, table, path)
        expect(spark, table, path, later)
        path.rename(later / "table")
        before.rename(path)
    pack(directory, FIXTURES / f"{table.name}.tar.xz")


def expect(spark: HudiSession, table: HudiTable, path: Path, directory: Path) -> None:
    """Write down what Spark reads of a table."""
    if not table.is_readable:
        return
    pq.write_table(spark.read(path), directory / "snapshot.parquet")
    if table.merges_on_read:
        pq.write_table(spark.read(path, READ_OPTIMIZED), directory / "read_optimized.parquet")


def pack(directory: Path, archive: Path) -> None:
    """Pack a directory, less the checksum files of Hadoop's local file system."""
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for path in sorted(directory.rglob("*")):
            if path.is_dir() or path.suffix == ".crc":
                continue
            content = moved(path.read_bytes(), str(directory), PLACE)
            member = tarfile.TarInfo(str(path.relative_to(directory)))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def unpack(name: str, directory: Path) -> Path:
    """Unpack a table; return its path."""
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as tar:
        tar.extractall(directory, filter="data")
    for path in directory.rglob("*.requested"):
        path.write_bytes(moved(path.read_bytes(), PLACE, str(directory)))
    return directory / "table"


def moved(content: bytes, old: str, new: str) -> bytes:
    """Return an Avro file with another directory in its strings; other content as it is."""
    if not content.startswith(b"Obj\x01") or old.encode() not in content:
        return content
    reader = fastavro.reader(io.BytesIO(content))
    records = [_renamed(record, old, new) for record in reader]
    assert reader.writer_schema is not None
    written = io.BytesIO()
    fastavro.writer(written, reader.writer_schema, records, codec=reader.codec)
    return written.getvalue()


def _renamed(value: object, old: str, new: str) -> object:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {_renamed(key, old, new): _renamed(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, old, new) for item in value]
    return value


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
