"""Markers of files that are being written, and what is deleted by them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from catalog.commits import Commit
from catalog.errors import CommitConflictError
from catalog.hudi import commit as committing
from catalog.hudi.file_names import read_name
from catalog.hudi.heartbeats import beating
from catalog.hudi.instants import InstantWriter
from catalog.hudi.markers import mark, marked_files, remove_failed, remove_markers
from catalog.hudi.reading import Source
from catalog.hudi.scheduling import next_time
from catalog.hudi.table import HudiTable
from catalog.hudi.timeline import Action
from catalog.location import Location
from catalog.storage import Storage
from tests.catalog.hudi.lake import HudiLake
from tests.catalog.hudi.test_compaction import announcement, carried_out, planned

INSTANT = "20261123000000000"


def test_marks_are_those_of_hudi(tmp_path: Path) -> None:
    root, storage = Location.parse(str(tmp_path)), Storage()
    for partition in ("", "part=a/day=1"):
        data = root.child(*filter(None, partition.split("/")), f"f-0_0-1-1_{INSTANT}.parquet")
        mark(storage, root, INSTANT, data)
    folder = tmp_path / ".hoodie" / ".temp" / INSTANT
    (folder / f".f_{INSTANT}.log.1_0-0-0.marker.APPEND").touch()
    assert (folder / "part=a" / "day=1" / f"f-0_0-1-1_{INSTANT}.parquet.marker.CREATE").exists()
    assert {one.relative_to(root) for one in marked_files(storage, root, INSTANT)} == {
        f"f-0_0-1-1_{INSTANT}.parquet",
        f"part=a/day=1/f-0_0-1-1_{INSTANT}.parquet",
    }
    remove_markers(storage, root, INSTANT)
    assert not list(marked_files(storage, root, INSTANT))


def test_only_files_of_the_instant_are_deleted(tmp_path: Path) -> None:
    root, storage = Location.parse(str(tmp_path)), Storage()
    names = [f"f-0_0-1-{token}_{INSTANT}.parquet" for token in range(3)] + ["f-0_0-1-1_1.parquet"]
    for name in names:
        storage.write(root.child("p", name), b"")
        mark(storage, root, INSTANT, root.child("p", name))
    (tmp_path / "p" / f"other_{INSTANT}.parquet").touch()
    remove_failed(storage, root, INSTANT, written={names[1]})
    left = {one.name for one in (tmp_path / "p").iterdir()}
    assert left == {names[1], names[3], f"other_{INSTANT}.parquet"}


def test_markers_of_a_timeline_server_are_in_files(tmp_path: Path) -> None:
    root, storage = Location.parse(str(tmp_path)), Storage()
    folder = root.child(".hoodie", ".temp", INSTANT)
    name = f"f-0_0-1-1_{INSTANT}.parquet"
    storage.write(folder.child("MARKERS.type"), b"TIMELINE_SERVER_BASED")
    lines = [
        f"p/{name}.marker.MERGE",
        f"{name}.marker.CREATE",
        ".f.log.1_0-0-0.marker.APPEND",
        "p/f",
    ]
    storage.write(folder.child("MARKERS3"), "\n".join(lines).encode())
    found = {one.relative_to(root) for one in marked_files(storage, root, INSTANT)}
    assert found == {f"p/{name}", name}
    storage.write(root.child("p", name), b"torn")
    remove_failed(storage, root, INSTANT, written=())
    assert not (tmp_path / "p" / name).exists()


@pytest.fixture
def lake(tmp_path: Path) -> HudiLake:
    made = HudiLake(tmp_path / "table", 9)
    path = made.append(range(20))
    made.update(path, range(5), "late")
    return made


def markers(table: HudiTable) -> list[Location]:
    (instant,) = table.source().timeline.pending(Action.COMPACTION)
    return list(marked_files(table.storage, table.root, instant.time))


def test_files_have_a_marker_until_they_are_committed(lake: HudiLake) -> None:
    commit = carried_out(lake, planned(lake.table))
    (output,) = (one for rewrite in commit.rewrites for one in rewrite.added)
    assert [str(one) for one in markers(lake.table)] == [output.path]
    lost = Location.parse(output.path.replace("-1_2", "-9_2"))
    source = lake.table.source()
    (instant,) = source.timeline.pending(Action.COMPACTION)
    lake.table.storage.write(lost, b"torn")
    mark(source.storage, source.root, instant.time, lost)

    lake.table.commit(commit)

    assert Path(output.path).exists()
    assert not Path(lost.path).exists()
    assert not list(marked_files(source.storage, source.root, instant.time))


def test_what_is_withdrawn_leaves_no_file(lake: HudiLake) -> None:
    plan = planned(lake.table)
    commit = carried_out(lake, plan)
    paths = [one.path for rewrite in commit.rewrites for one in rewrite.added]
    assert all(Path(path).exists() for path in paths)
    lake.table.withdraw(announcement(plan))
    assert not any(Path(path).exists() for path in paths)
    assert not lake.table.source().timeline.pending()


def test_what_another_process_carries_out_is_left_to_it(lake: HudiLake) -> None:
    carried_out(lake, planned(lake.table), "another")
    source = lake.table.source()
    (instant,) = source.timeline.pending(Action.COMPACTION)
    plan = planned(lake.table)
    assert plan.announced is not None
    assert plan.announced.work_id == instant.time
    with (
        beating(source.storage, source.root, instant.time),
        pytest.raises(CommitConflictError, match="another process"),
    ):
        lake.table.announce(announcement(plan))


def test_files_that_another_writer_has_taken_back_are_not_committed(
    lake: HudiLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, commit = lake.rows(), carried_out(lake, planned(lake.table))
    source = lake.table.source()
    (instant,) = source.timeline.pending(Action.COMPACTION)
    see = committing.outputs_seen

    def see_and_lose(of: Source, commit: Commit) -> object:
        """So does a writer that begins the instant anew, right after we looked at our files."""
        found = see(of, commit)
        remove_failed(source.storage, source.root, instant.time, written=())
        remove_markers(source.storage, source.root, instant.time)
        mark(source.storage, source.root, instant.time, source.root.child("a", "theirs.parquet"))
        return found

    monkeypatch.setattr(committing, "outputs_seen", see_and_lose)
    result = lake.table.commit(commit)
    assert not result.committed
    assert "taken back" in result.conflicts[0].reason
    assert lake.rows() == rows
    assert [one.name for one in markers(lake.table)] == ["theirs.parquet"]


@pytest.mark.parametrize(
    "name", ["{}_0-7-7_{}.parquet.marker.MERGE", ".{}_{}.log.1_0-7-7.marker.APPEND"]
)
def test_files_that_a_running_write_changes_are_not_replaced(tmp_path: Path, name: str) -> None:
    """It may take no lock: what it completes in file groups that are gone would be lost."""
    lake = HudiLake(tmp_path / "table", 6)
    paths = [lake.append(range(first, first + 10)) for first in (0, 10, 20)]
    table, plan = lake.table, planned(lake.table)
    commit = carried_out(lake, plan)
    source = table.source()
    writer = InstantWriter(source.storage, source.root, source.config)
    running = writer.begin(writer.request(next_time(source), Action.COMMIT))
    marker = name.format(read_name(paths[0]).file_id, running.time)
    place = source.root.child(".hoodie", ".temp", running.time, "a", marker)
    source.storage.write(place, b"")

    result = lake.table.commit(commit)

    assert not result.committed
    assert "is to be replaced" in result.conflicts[0].reason
    table.withdraw(announcement(plan))
    with pytest.raises(CommitConflictError, match="is to be replaced"):
        lake.table.announce(announcement(plan, "again"))
    source.storage.delete([place])
    assert lake.table.commit(carried_out(lake, plan, "again")).committed


@pytest.mark.parametrize("is_older", [True, False])
def test_who_begins_the_same_beside_us_is_left_alone(lake: HudiLake, is_older: bool) -> None:
    """Writers that are alone by their settings carry out what is pending without a look."""
    commit = carried_out(lake, planned(lake.table))
    source = lake.table.source()
    (instant,) = source.timeline.pending(Action.COMPACTION)
    (ours,) = markers(lake.table)
    token = f"{read_name(str(ours)).file_id}_0-21-33_{instant.time}.parquet"
    theirs = Path(str(ours)).with_name(token)
    theirs.write_bytes(b"being written")
    mark(source.storage, source.root, instant.time, Location.parse(str(theirs)))
    folder = Path(lake.root.path, ".hoodie", ".temp", instant.time)
    (marker,) = folder.rglob(f"{token}.*")
    age = -60 if is_older else 60
    os.utime(marker, (time.time() + age, time.time() + age))

    result = lake.table.commit(commit)

    assert bool(result.committed) is is_older
    assert theirs.exists() is not is_older
    if not is_older:
        assert "another writer is carrying out" in result.conflicts[0].reason
