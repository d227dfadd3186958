"""What is kept of manifests gives the same inventory, whatever happens to it."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog.iceberg import kept_parts, manifest_cache
from catalog.iceberg.kept_parts import read_parts, write_parts
from catalog.iceberg.manifest import FILES, ManifestReader
from catalog.iceberg.table import IcebergTable
from catalog.model import Inventory
from tests.catalog.iceberg.lakes import IcebergLake


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IcebergLake:
    monkeypatch.setattr(manifest_cache, "MANIFESTS_BYTES_MIN", 0)
    made = IcebergLake(tmp_path, 2)
    paths = [made.append(range(start, start + 10), "ab"[start // 10 % 2]) for start in (0, 10, 20)]
    made.delete({paths[0]: [1, 2]})
    return made


class Reading:
    """A table that keeps what it reads, and counts what it reads anew."""

    def __init__(self, lake: IcebergLake, place: Path) -> None:
        self.table: IcebergTable = lake.table
        self.table.kept = place
        self.manifests = 0

    def inventory(self) -> Inventory:
        def counted(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
            some = list(items)
            self.manifests += len(some) if isinstance(function, ManifestReader) else 0
            return map(function, some)

        return self.table.inventory(self.table.snapshot(), map_function=counted)


def test_after_a_commit_only_its_manifest_is_read(lake: IcebergLake, tmp_path: Path) -> None:
    first = Reading(lake, tmp_path / "kept")
    assert first.inventory() == lake.table.inventory(lake.table.snapshot())
    assert first.manifests == 4
    again = Reading(lake, tmp_path / "kept")
    assert (again.inventory(), again.manifests) == (first.inventory(), 0)
    lake.append(range(30, 40))
    assert again.inventory() == lake.table.inventory(lake.table.snapshot())
    assert again.manifests == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_what_is_damaged_is_read_again(lake: IcebergLake, tmp_path: Path, damage: str) -> None:
    expected = Reading(lake, tmp_path / "kept").inventory()
    for file in (tmp_path / "kept").glob("*/*.arrows"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        cut = {"cut": content[: len(content) // 2], "flipped": content, "empty": b""}
        # In its place: what was read before is mapped, and stays as it was.
        (tmp_path / "damaged").write_bytes(bytes(cut[damage]))
        (tmp_path / "damaged").replace(file)
    reading = Reading(lake, tmp_path / "kept")
    assert (reading.inventory(), reading.manifests) == (expected, 4)


def test_what_is_out_of_use_goes_after_a_while(lake: IcebergLake, tmp_path: Path) -> None:
    Reading(lake, tmp_path / "kept").inventory()
    old = set((tmp_path / "kept").glob("*/*.arrows"))
    lake.other.delete("part in ('a', 'b')")
    lake.append(range(40, 50))
    for is_there in (True, False):
        Reading(lake, tmp_path / "kept").inventory()
        left = set((tmp_path / "kept").glob("*/*.arrows"))
        assert (old <= left) is is_there
        for file in left:
            os.utime(file, (0, 0))
    reading = Reading(lake, tmp_path / "kept")
    reading.inventory()
    assert reading.manifests == 0


def test_small_files_are_put_together(
    lake: IcebergLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_cache, "_FILES_MAX", 2)
    for start in range(30, 80, 10):
        lake.append(range(start, start + 10))
        reading = Reading(lake, tmp_path / "kept")
        assert reading.inventory() == lake.table.inventory(lake.table.snapshot())
        for file in (tmp_path / "kept").glob("*/*.arrows"):
            os.utime(file, (0, 0))
    Reading(lake, tmp_path / "kept").inventory()
    # One of deletes; of data files the large one, or the last ones beside it.
    assert len(list((tmp_path / "kept").glob("*/*.arrows"))) <= 3
    again = Reading(lake, tmp_path / "kept")
    assert (again.inventory(), again.manifests) == (reading.inventory(), 0)


def test_the_tables_that_were_used_last_are_kept(
    lake: IcebergLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_cache, "_BYTES_MAX", 1)
    old = tmp_path / "kept" / "another-table"
    old.mkdir(parents=True)
    (old / "x.arrows").write_bytes(b"12")
    os.utime(old, (0, 0))
    Reading(lake, tmp_path / "kept").inventory()
    assert [one.name for one in (tmp_path / "kept").iterdir()] != ["another-table"]
    assert not old.exists()


def test_a_directory_that_cannot_be_written_is_done_without(
    lake: IcebergLake, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("a file where the directory should be")
    reading = Reading(lake, tmp_path / "kept")
    assert reading.inventory() == lake.table.inventory(lake.table.snapshot())


def test_drafts_of_those_who_were_killed_go_after_a_while(
    lake: IcebergLake, tmp_path: Path
) -> None:
    Reading(lake, tmp_path / "kept").inventory()
    (table,) = (tmp_path / "kept").iterdir()
    old, new = table / "old.tmp", table / "new.tmp"
    for draft in (old, new):
        draft.write_bytes(b"half of a file")
    os.utime(old, (0, 0))
    Reading(lake, tmp_path / "kept").inventory()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_stray_file_does_not_lift_the_limit(
    lake: IcebergLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_cache, "_BYTES_MAX", 1)
    old = tmp_path / "kept" / "another-table"
    old.mkdir(parents=True)
    (old / "x.arrows").write_bytes(b"12")
    os.utime(old, (0, 0))
    (tmp_path / "kept" / "notes").write_text("of somebody")
    Reading(lake, tmp_path / "kept").inventory()
    assert not old.exists()
    assert (tmp_path / "kept" / "notes").exists()


def test_a_full_disk_is_done_without(lake: IcebergLake, tmp_path: Path) -> None:
    reading = Reading(lake, tmp_path / "kept")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        found = reading.inventory()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert found == lake.table.inventory(lake.table.snapshot())
    assert not [one for one in (tmp_path / "kept").glob("*/*") if one.is_file()]


def test_a_file_that_names_other_manifests_than_it_holds_is_read_again(tmp_path: Path) -> None:
    path = write_parts(tmp_path, ["one"], [FILES.empty_table()], FILES)
    assert read_parts(path, {"one"}, FILES) == {"one": FILES.empty_table()}
    path.write_bytes(path.read_bytes().replace(b"manifests", b"manifestz"))
    content = path.read_bytes()
    path.write_bytes(kept_parts._checksum(path) + content[4:])
    assert read_parts(path, {"one"}, FILES) == {}
