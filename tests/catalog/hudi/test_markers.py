"""Markers of files that are being written, and what is deleted by them."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.errors import CommitConflictError
from catalog.hudi.heartbeats import beating
from catalog.hudi.markers import mark, marked_files, remove_failed, remove_markers
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
