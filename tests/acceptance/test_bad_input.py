"""What goes wrong in practice, through the command line: a clear error, rows safe, no orphans."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table

from tests.acceptance.program import compact, start
from tests.iceberg_tables import data_files, make_table, rows
from tests.orphans import unreferenced_files

# Root may read everything; this runs a command as a root who may not (util-linux).
ORDINARY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
NOBODY_ID = 65534
SCHEMA = pa.schema(
    [pa.field("id", pa.int64(), nullable=False), pa.field("day", pa.int32()), ("text", pa.string())]
)


def _append(table: Table, first: int, *, count: int = 100) -> None:
    ids = range(first, first + count)
    text = [f"{id(table)}-{number}-{os.urandom(8).hex()}" for number in ids]
    table.append(pa.table([list(ids), [n % 2 for n in ids], text], schema=SCHEMA))


def _fragmented(directory: Path, *, appends: int = 6, count: int = 100) -> Table:
    table = make_table(directory, SCHEMA)
    with table.update_spec() as update:
        update.add_identity("day")
    for number in range(appends):
        _append(table, number * count, count=count)
    return table.refresh()


def _path(file_path: str) -> Path:
    return Path(file_path.removeprefix("file://"))


def _wait_for(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_missing_table_is_named_with_what_was_meant(tmp_path: Path) -> None:
    _fragmented(tmp_path)
    document = compact(tmp_path, "run", "lake.ns.tt", code=10)
    assert document["error"]["code"] == "table-not-found"
    assert "lake.ns.t" in document["error"]["hint"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")
def test_access_denied_is_an_error_of_its_own(tmp_path: Path) -> None:
    table = _fragmented(tmp_path)
    before = rows(table)
    data = _path(table.location()) / "data"
    data.chmod(0o700)
    os.chown(data, NOBODY_ID, NOBODY_ID)
    process = start(tmp_path, "run", "lake.ns.t", "--json", prefix=ORDINARY)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 12, stdout + stderr
    assert "access-denied" in stdout
    assert rows(table) == before


def _add_file(table: Table, like: DataFile, stored: pa.Table) -> Path:
    """Commit a data file with page checksums, described by its own size and rows."""
    path = _path(like.file_path).with_name("added.parquet")
    pq.write_table(stored, path, write_page_checksum=True)
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"file://{path}",
        file_format=FileFormat.PARQUET,
        partition=like.partition,
        record_count=stored.num_rows,
        file_size_in_bytes=path.stat().st_size,
    )
    file.spec_id = like.spec_id
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        append.append_data_file(file)
    return path


@pytest.mark.parametrize("damage", ["flipped", "missing", "truncated"])
def test_a_damaged_file_fails_its_group_alone(tmp_path: Path, damage: str) -> None:
    table = _fragmented(tmp_path)
    like = next(file for file in data_files(table) if file.partition[0] == 0)
    # Without the checksums that this file has, no reader can tell a flipped byte from data.
    victim = _add_file(table, like, pq.read_table(_path(like.file_path), partitioning=None))
    before = rows(table)
    content = victim.read_bytes()
    if damage == "missing":
        victim.unlink()
    elif damage == "truncated":
        victim.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 4
        victim.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    document = compact(tmp_path, "run", "lake.ns.t", code=3)
    assert document["groups"] == {"committed": 1, "dropped": 0, "failed": 1}
    assert victim.name in str(document)
    victim.write_bytes(content)
    assert rows(table) == before
    assert unreferenced_files(table) == []


def test_a_schema_that_cannot_be_mapped_is_refused(tmp_path: Path) -> None:
    table = _fragmented(tmp_path)
    mine = [file for file in data_files(table) if file.partition[0] == 1]
    stored = pq.read_table(_path(mine[0].file_path), partitioning=None)
    index = stored.schema.get_field_index("text")
    field = stored.schema.field(index).with_type(pa.bool_())
    wrong = stored.set_column(index, field, [[True] * stored.num_rows])
    victim = _add_file(table, mine[0], wrong)
    document = compact(tmp_path, "run", "lake.ns.t", code=3)
    assert document["groups"] == {"committed": 1, "dropped": 0, "failed": 1}
    assert victim.name in str(document)
    assert "text" in str(document)
    left = [file for file in data_files(table) if file.partition[0] == 1]
    assert len(left) == len(mine) + 1
    assert unreferenced_files(table) == []


@contextmanager
def _tiny_disk(directory: Path, size: str) -> Iterator[None]:
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        assert not os.environ.get("CI"), "mounting a small disk must work in CI"
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def test_a_full_disk_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with _tiny_disk(disk, "4m"):
        table = _fragmented(disk, appends=8, count=6_000)
        before = rows(table)
        filler = disk / "filler"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        filler.write_bytes(bytes(max(0, free - 250_000)))
        process = start(
            disk, "run", "lake.ns.t", "--json", extra={"XDG_STATE_HOME": str(tmp_path / "state")}
        )
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode in {1, 3}, stdout + stderr
        assert "storage-full" in stdout
        assert rows(table) == before
        filler.unlink()
        assert unreferenced_files(table) == []


def test_a_catalog_that_stops_answering_mid_commit_is_settled_by_the_next_run(
    tmp_path: Path,
) -> None:
    table = _fragmented(tmp_path)
    before = rows(table)
    data = _path(table.location()) / "data"
    count = len(list(data.rglob("*.parquet")))
    process = start(tmp_path, "run", "lake.ns.t", "--json")
    _wait_for(lambda: len(list(data.rglob("*.parquet"))) > count)
    blocker = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None, timeout=30)
    blocker.execute("BEGIN EXCLUSIVE")
    stdout, stderr = process.communicate(timeout=300)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert process.returncode == 1, stdout + stderr
    assert json.loads(stdout)["error"]["code"] == "commit-unknown"
    assert rows(table) == before
    written = set(data.rglob("*.parquet"))
    document = compact(tmp_path, "run", "lake.ns.t")
    assert document["status"] == "succeeded"
    assert rows(table) == before
    # What the first run had written was committed, not written again.
    assert set(data.rglob("*.parquet")) == written
    assert unreferenced_files(table) == []


def test_a_second_compaction_of_the_table_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    table = _fragmented(tmp_path, appends=30, count=2_000)
    before = rows(table)
    first = start(tmp_path, "run", "lake.ns.t", "--json")
    data = _path(table.location()) / "data"
    count = len(list(data.rglob("*.parquet")))
    _wait_for(lambda: len(list(data.rglob("*.parquet"))) > count)
    # Held still, so that it cannot end before the second one has looked.
    first.send_signal(signal.SIGSTOP)
    second = start(tmp_path, "run", "lake.ns.t", "--json")
    second_stdout, _ = second.communicate(timeout=120)
    first.send_signal(signal.SIGCONT)
    stdout, stderr = first.communicate(timeout=120)
    assert first.returncode == 0, stdout + stderr
    assert second.returncode == 11, second_stdout
    assert "table-busy" in second_stdout
    assert rows(table) == before
    assert unreferenced_files(table) == []


def test_two_compactions_that_do_not_know_of_each_other_lose_nothing(tmp_path: Path) -> None:
    table = _fragmented(tmp_path, appends=20, count=500)
    before = rows(table)
    running = [
        start(
            tmp_path, "run", "lake.ns.t", "--json", extra={"XDG_STATE_HOME": str(tmp_path / name)}
        )
        for name in ("one", "other")
    ]
    for process in running:
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode in {0, 3, 11}, stdout + stderr
    assert rows(table) == before
    assert unreferenced_files(table) == []
