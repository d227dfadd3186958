"""Files that nothing refers to go, and only those."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from catalog.errors import UnsupportedTableError
from catalog.iceberg.cleanup import remove_old_metadata
from catalog.iceberg.file_io import StorageFileIO
from catalog.iceberg.metadata_files import OldMetadata
from catalog.iceberg.orphans import OrphanFiles
from catalog.iceberg.table import IcebergTable
from catalog.location import Location
from catalog.storage import Storage
from catalog.upkeep import UnfinishedJob, UpkeepOrder, UpkeepResult
from tests.catalog.groups import plan_all
from tests.catalog.iceberg.lakes import IcebergLake, rows_of
from tests.catalog.iceberg.upkeep_lakes import NOW, on_disk, referred_to, rows_of_all

DAY_SECONDS = 24 * 3600
DEFAULT = UpkeepOrder()


@pytest.fixture
def lake(tmp_path: Path) -> IcebergLake:
    return make_lake(tmp_path)


def make_lake(directory: Path) -> IcebergLake:
    """Return a table with a history and some orphans."""
    lake = IcebergLake(directory, 2)
    lake.append(range(10))
    lake.append(range(10, 20))
    lake.table.commit(plan_all(lake.table))
    for name in ("data/part=a/lost.parquet", "data/loose.parquet", "metadata/lost-m0.avro"):
        leave(lake, name)
    return lake


def leave(lake: IcebergLake, name: str, content: bytes = b"x") -> Path:
    path = place(lake) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def place(lake: IcebergLake) -> Path:
    return Path(lake.other.location().removeprefix("file://"))


def age(lake: IcebergLake, days: float = 30) -> None:
    """Make everything below the table older."""
    then = time.time() - days * DAY_SECONDS
    for path in place(lake).rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def run(lake: IcebergLake, order: UpkeepOrder = DEFAULT) -> UpkeepResult:
    return OrphanFiles(lake.table).run(order)


def test_orphans_go_and_all_else_stays(lake: IcebergLake) -> None:
    rows, before = rows_of_all(lake), on_disk(lake)
    age(lake)
    told = run(lake, UpkeepOrder(is_dry_run=True))
    assert on_disk(lake) == before
    assert sorted(told.examples) == [
        "data/loose.parquet",
        "data/part=a/lost.parquet",
        "metadata/lost-m0.avro",
    ]
    assert run(lake) == told
    assert on_disk(lake) == referred_to(lake)
    assert rows_of_all(lake) == rows
    assert run(lake).files == 0


def test_young_files_are_left(lake: IcebergLake) -> None:
    age(lake, days=2.9)
    assert run(lake).files == 0
    assert run(lake, UpkeepOrder(retention_seconds=2 * DAY_SECONDS)).files == 3
    with pytest.raises(UnsupportedTableError, match="about to be committed"):
        run(lake, UpkeepOrder(retention_seconds=3599))
    leave(lake, "data/new.parquet")
    leave(lake, "metadata/new-m0.avro")
    age(lake, days=1.5 / 24)
    assert run(lake, UpkeepOrder(retention_seconds=3600, is_dry_run=True)).files == 1
    (place(lake) / "metadata/new-m0.avro").unlink()
    assert run(lake, UpkeepOrder(retention_seconds=0, is_forced=True)).files == 1


def test_what_is_left_by_metadata_only_expiry(lake: IcebergLake) -> None:
    lake.expire()
    age(lake)
    run(lake)
    assert on_disk(lake) == referred_to(lake)


@pytest.mark.parametrize(
    "name",
    [
        "data/notes.txt",
        "data/_temporary/0/part.parquet",
        "data/.hidden.parquet",
        "version-hint.text",
        "inner/data/part=a/theirs.parquet",
        "delta/part=a/theirs.parquet",
        "hudi/theirs.parquet",
        "data/job-7-g1-a1-0.parquet",
        "metadata/snap-1-0-job-7-c1.avro",
    ],
)
def test_what_is_not_ours_to_remove(lake: IcebergLake, name: str) -> None:
    for theirs in ("inner/metadata/00000-x.metadata.json", "delta/_delta_log/0.json"):
        leave(lake, theirs)
    leave(lake, "hudi/.hoodie/hoodie.properties")
    path = leave(lake, name)
    age(lake)
    run(lake, UpkeepOrder(unfinished=(UnfinishedJob("job-7", ""),)))
    assert path.exists()


def test_hidden_looking_partitions_are_none(lake: IcebergLake) -> None:
    path = leave(lake, "data/_part=a/lost.parquet")
    age(lake)
    assert run(lake).files == 4
    assert not path.exists()


def test_another_table_in_the_same_place_is_refused(lake: IcebergLake) -> None:
    other = {"location": lake.other.location(), "table-uuid": "of-another"}
    leave(lake, "metadata/00000-x.metadata.json", json.dumps(other).encode())
    age(lake)
    with pytest.raises(UnsupportedTableError, match="another table"):
        run(lake)
    assert run(lake, UpkeepOrder(is_forced=True)).files == 4


@pytest.mark.parametrize("log", ["_delta_log/00000000000000000000.json", ".hoodie/0.commit"])
def test_a_table_of_another_format_in_the_same_place_is_refused(
    lake: IcebergLake, log: str
) -> None:
    """There are tools that write the metadata of several formats for the same files."""
    leave(lake, log)
    age(lake)
    before = on_disk(lake)
    with pytest.raises(UnsupportedTableError, match="another table"):
        run(lake)
    assert on_disk(lake) == before


def test_a_catalog_that_does_not_tell_of_the_metadata_file_is_refused(
    lake: IcebergLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(lake)
    before, read = on_disk(lake), IcebergTable.read

    def untold(table: IcebergTable) -> object:
        found = read(table)
        found.metadata_location = ""
        return found

    monkeypatch.setattr(IcebergTable, "read", untold)
    with pytest.raises(UnsupportedTableError, match="location of the table's metadata"):
        run(lake, NOW)
    assert on_disk(lake) == before


def test_shared_files_are_refused(lake: IcebergLake) -> None:
    with lake.other.transaction() as transaction:
        transaction.set_properties({"gc.enabled": "false"})
    with pytest.raises(UnsupportedTableError, match=r"gc\.enabled"):
        run(lake)


def test_another_spelling_of_a_file_is_the_same_file(tmp_path: Path) -> None:
    """A table whose metadata say `file:` is listed under a plain path, and the other way round."""
    lake = make_lake(tmp_path)
    age(lake)
    table = lake.table
    metadata = table.load().metadata
    spelled = str(place(lake))
    assert metadata.location != spelled
    moved = metadata.model_copy(update={"location": spelled})
    loaded = table.current()
    loaded.metadata = moved

    class Respelled(IcebergTable):
        def read(self):  # type: ignore[no-untyped-def]
            return loaded

    OrphanFiles(Respelled("t", lake.catalog, ("ns", "t"))).run(UpkeepOrder())
    assert on_disk(lake) == referred_to(lake)


@pytest.mark.parametrize("spelled", ["data//part=a", "data/./part=a", "data/lost/../part=a"])
def test_a_file_that_is_recorded_under_an_odd_path_stays(lake: IcebergLake, spelled: str) -> None:
    """Writers put slashes too many; planning refuses such a table, its readers do not."""
    (place(lake) / "data/lost").mkdir()
    path = place(lake) / "data/part=a/odd.parquet"
    pq.write_table(rows_of(range(70, 80), "a"), path)
    lake.other.add_files([f"{lake.other.location()}/{spelled}/odd.parquet"])
    rows = lake.rows()
    age(lake)
    assert run(lake).files == 3
    assert path.exists()
    assert lake.rows() == rows


def test_what_is_committed_while_it_is_looked_for_stays(
    lake: IcebergLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(lake)
    original: Callable[[Storage, Location], object] = Storage.list
    state: dict[str, str] = {}

    def listing(storage: Storage, prefix: Location) -> object:
        found = list(original(storage, prefix))  # type: ignore[call-overload]
        if not state and prefix.name == "t":
            state["path"] = lake.append(range(100, 110))
            age(lake)
            found = list(original(storage, prefix))  # type: ignore[call-overload]
        return iter(found)

    monkeypatch.setattr(Storage, "list", listing)
    assert run(lake).files == 3
    assert referred_to(lake) <= on_disk(lake)
    assert len(lake.rows()) == 30


def old_metadata(lake: IcebergLake, order: UpkeepOrder = NOW) -> UpkeepResult:
    return OldMetadata(lake.table).run(order)


def versions(lake: IcebergLake) -> list[int]:
    names = (path.name for path in place(lake).glob("metadata/*.metadata.json"))
    return sorted(int(name.partition("-")[0]) for name in names)


def test_old_metadata_go_where_the_table_wants_them_gone(lake: IcebergLake) -> None:
    leave(lake, f"metadata/00000-{'0' * 36}.metadata.json", b'{"table-uuid": "of-another"}')
    for number in range(3):
        lake.append(range(number + 1))
    assert "keeps them" in old_metadata(lake).note
    with lake.other.transaction() as transaction:
        transaction.set_properties(
            {
                "write.metadata.delete-after-commit.enabled": "true",
                "write.metadata.previous-versions-max": "2",
            }
        )
    before = versions(lake)
    told = old_metadata(lake, replace(NOW, is_dry_run=True))
    assert versions(lake) == before
    assert old_metadata(lake) == told
    assert versions(lake) == [0, *before[-3:]]
    assert lake.rows()


def test_a_log_that_the_catalog_does_not_show_removes_nothing(lake: IcebergLake) -> None:
    with lake.other.transaction() as transaction:
        transaction.set_properties({"write.metadata.delete-after-commit.enabled": "true"})
    before, table = versions(lake), lake.other
    assert table.metadata.metadata_log
    shown = table.metadata.model_copy(update={"metadata_log": []})
    io = StorageFileIO(lake.table.storage, lake.table.confinement)
    remove_old_metadata(table, shown, io)
    assert versions(lake) == before
