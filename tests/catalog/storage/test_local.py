"""Local files: atomic under races, durable, and clean after a full disk."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import (
    AccessDeniedError,
    LocationError,
    ObjectExistsError,
    StorageFullError,
)
from catalog.location import Location
from catalog.storage import Storage
from tests.catalog.storage.s3_server import new_bucket, s3_storage

RACERS = 4
ROUNDS = 25
SWAPS = 20


def race(storage: Storage, roots: list[Location], barrier: Barrier, racer: int) -> list[bool]:
    """Try to create the same object as the others, round after round."""
    won = []
    for root in roots:
        barrier.wait()
        try:
            # Large enough that a write in place would be seen in part.
            storage.put_if_absent(root.child("commit"), bytes([racer]) * 100_000)
            won.append(True)
        except ObjectExistsError:
            won.append(False)
    return won


def winners(storage: Storage, roots: list[Location]) -> list[list[bool]]:
    """Race in processes that share nothing but the store."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        barrier = manager.Barrier(RACERS)
        with context.Pool(RACERS) as pool:
            work = [(storage, roots, barrier, racer) for racer in range(RACERS)]
            return pool.starmap(race, work)


def check_one_winner_each(storage: Storage, roots: list[Location]) -> None:
    won = winners(storage, roots)
    for number, root in enumerate(roots):
        winner = [racer for racer in range(RACERS) if won[racer][number]]
        assert len(winner) == 1
        assert storage.read(root.child("commit")) == bytes([winner[0]]) * 100_000
        assert [info.location.name for info in storage.list(root)] == ["commit"]


def test_of_racing_processes_one_creates_the_file(tmp_path: Path) -> None:
    base = Location.parse(str(tmp_path))
    check_one_winner_each(Storage(), [base.child(str(number)) for number in range(ROUNDS)])


def test_of_racing_processes_one_creates_the_s3_object(s3_endpoint: str) -> None:
    base = new_bucket(s3_endpoint)
    roots = [base.child(str(number)) for number in range(ROUNDS)]
    check_one_winner_each(s3_storage(s3_endpoint), roots)


def count_up(location: Location, writer: int) -> None:
    """Add lines to a file by compare and swap, each line once."""
    storage = Storage()
    for number in range(SWAPS):
        while True:
            etag = storage.head(location).etag
            data = storage.read(location)
            try:
                storage.put_if_match(location, data + f"{writer}:{number}\n".encode(), etag)
                break
            except ObjectExistsError:
                continue


def test_swaps_lose_no_update(tmp_path: Path) -> None:
    location = Location.parse(str(tmp_path / "counter"))
    Storage().write(location, b"")
    context = multiprocessing.get_context("spawn")
    with context.Pool(RACERS) as pool:
        pool.starmap(count_up, [(location, writer) for writer in range(RACERS)])
    lines = Storage().read(location).decode().split()
    expected = {f"{writer}:{number}" for writer in range(RACERS) for number in range(SWAPS)}
    assert len(lines) == len(expected)
    assert set(lines) == expected


def test_an_output_takes_no_taken_name(tmp_path: Path) -> None:
    location = Location.parse(str(tmp_path / "a"))
    Storage().write(location, b"live")
    with pytest.raises(ObjectExistsError):
        Storage().open_output(location)
    assert Storage().read(location) == b"live"


def test_listing_refuses_a_name_by_name(tmp_path: Path) -> None:
    (tmp_path / "a\nb").touch()
    with pytest.raises(LocationError, match=r"a\\nb"):
        list(Storage().list(Location.parse(str(tmp_path))))


def test_listing_follows_no_links_to_directories(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").touch()
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "link").symlink_to(tmp_path / "elsewhere")
    assert list(Storage().list(Location.parse(str(tmp_path / "table")))) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_directory_denies_access(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    for use in (Storage().put_if_absent, Storage().write):
        with pytest.raises(AccessDeniedError):
            use(Location.parse(str(tmp_path / "a")), b"x")


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="there is no /proc")
def test_a_file_that_may_not_be_written_denies_access() -> None:
    with pytest.raises(AccessDeniedError, match="/proc/version"):
        Storage().delete([Location.parse("/proc/version")])


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_told_and_left_clean(tiny_disk: Path) -> None:
    storage, root = Storage(), Location.parse(str(tiny_disk))
    storage.write(root.child("old"), b"old")
    for use in (storage.write, storage.put_if_absent):
        with pytest.raises(StorageFullError, match=r"disk/(old|new)") as caught:
            use(root.child("old" if use == storage.write else "new"), b"x" * (2 << 20))
        assert caught.value.hint
    assert storage.read(root.child("old")) == b"old"
    assert [path.name for path in tiny_disk.iterdir()] == ["old"]


def write_parquet(storage: Storage, location: Location, table: pa.Table) -> None:
    with storage.open_output(location) as output, pq.ParquetWriter(output, table.schema) as writer:
        for _ in range(10):
            writer.write_table(table)


def test_a_full_disk_while_streaming_is_told_and_left_clean(tiny_disk: Path) -> None:
    table = pa.table({"noise": [os.urandom(1000) for _ in range(500)]})
    location = Location.parse(str(tiny_disk)).child("data/a.parquet")
    with pytest.raises(StorageFullError, match=r"data/a\.parquet"):
        write_parquet(Storage(), location, table)
    assert list(Storage().list(Location.parse(str(tiny_disk)))) == []


def test_a_full_disk_found_at_close_is_told_and_left_clean(tiny_disk: Path) -> None:
    root = Location.parse(str(tiny_disk))
    Storage().write(root.child("ballast"), b"x" * (900 << 10))
    output = Storage().open_output(root.child("a"))
    # Fits into the buffer, not onto the disk.
    output.write(b"y" * (500 << 10))
    with pytest.raises(StorageFullError):
        output.close()
    assert output.closed
    assert [path.name for path in tiny_disk.iterdir()] == ["ballast"]
