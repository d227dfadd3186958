"""Expired snapshots go with the files that only they had, and nothing else goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table.snapshots import Snapshot

from catalog.commits import Watermark
from catalog.errors import CommitConflictError, StorageError, UnsupportedTableError
from catalog.iceberg.expire import ExpireSnapshots
from catalog.iceberg.orphans import OrphanFiles
from catalog.iceberg.reachable import path_of
from catalog.iceberg.upkeep import Answer, swap
from catalog.puffin import Blob
from catalog.upkeep import UnfinishedJob, UpkeepOrder, UpkeepResult
from tests.catalog.groups import plan_all
from tests.catalog.iceberg.lakes import IcebergLake
from tests.catalog.iceberg.upkeep_lakes import (
    NOW,
    lose_next_reply,
    on_disk,
    referred_to,
    rows_of_all,
)


@pytest.fixture
def lake(tmp_path: Path) -> IcebergLake:
    return make_lake(tmp_path)


def make_lake(directory: Path, version: int = 2) -> IcebergLake:
    """Return a table with a history: appends, a compaction, an append."""
    lake = IcebergLake(directory, version)
    for number in range(3):
        lake.append(range(number * 10, number * 10 + 10))
    lake.table.commit(plan_all(lake.table))
    lake.append(range(100, 110), "b")
    return lake


def run(lake: IcebergLake, order: UpkeepOrder = NOW) -> UpkeepResult:
    return ExpireSnapshots(lake.table).run(order)


def history(lake: IcebergLake) -> list[int]:
    return [one.snapshot_id for one in lake.other.metadata.snapshots]


@pytest.mark.parametrize("version", [1, 2])
def test_only_what_the_rest_refers_to_is_left(tmp_path: Path, version: int) -> None:
    lake = make_lake(tmp_path, version)
    rows, before, ids = lake.rows(), on_disk(lake), history(lake)
    told = run(lake, replace(NOW, is_dry_run=True))
    assert (on_disk(lake), history(lake)) == (before, ids)
    done = run(lake)
    assert done == told
    assert history(lake) == ids[-1:]
    assert on_disk(lake) == referred_to(lake) < before
    assert done.files == len(before) - len(on_disk(lake))
    assert "4 snapshots expired, 1 kept" in done.note
    assert lake.rows() == rows
    assert run(lake).files == 0


def test_by_count_and_by_age(lake: IcebergLake) -> None:
    ids, rows = history(lake), rows_of_all(lake)
    assert run(lake, UpkeepOrder()).files == 0
    run(lake, replace(NOW, versions_min=3))
    assert history(lake) == ids[-3:]
    assert rows_of_all(lake) == {str(one): rows[str(one)] for one in ids[-3:]}
    assert on_disk(lake) == referred_to(lake)
    set_properties(lake, **{"history.expire.max-snapshot-age-ms": "1"})
    set_properties(lake, **{"history.expire.min-snapshots-to-keep": "2"})
    run(lake, UpkeepOrder())
    assert history(lake) == ids[-2:]


def set_properties(lake: IcebergLake, **properties: str) -> None:
    with lake.other.transaction() as transaction:
        transaction.set_properties(properties)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (UpkeepOrder(retention_seconds=3600), "120"),
        (UpkeepOrder(versions_min=2), "the table says 3"),
    ],
)
def test_less_than_the_table_says_is_refused(tmp_path: Path, order: UpkeepOrder, said: str) -> None:
    lake = make_lake(tmp_path)
    set_properties(lake, **{"history.expire.min-snapshots-to-keep": "3"})
    with pytest.raises(UnsupportedTableError, match=said):
        run(lake, order)
    run(lake, replace(order, is_forced=True))


@pytest.mark.parametrize(
    "properties",
    [{"gc.enabled": "false"}, {"history.expire.max-snapshot-age-ms": "soon"}],
)
def test_properties_that_forbid_it(tmp_path: Path, properties: dict[str, str]) -> None:
    lake = make_lake(tmp_path)
    set_properties(lake, **properties)
    with pytest.raises(UnsupportedTableError, match=next(iter(properties))):
        ExpireSnapshots(lake.table).check(NOW)
    with pytest.raises(UnsupportedTableError):
        run(lake)


def test_branches_and_tags_keep_their_own(tmp_path: Path) -> None:
    lake = make_lake(tmp_path)
    ids = history(lake)
    with lake.other.manage_snapshots() as manage:
        manage.create_tag(ids[0], "audit")
        manage.create_tag(ids[1], "brief", max_ref_age_ms=1)
        manage.create_branch(ids[3], "trial", min_snapshots_to_keep=2)
    rows = rows_of_all(lake)
    done = run(lake)
    assert "references dropped: brief" in done.note
    left = [ids[0], ids[2], ids[3], ids[4]]
    assert history(lake) == left
    assert set(lake.other.metadata.refs) == {"main", "audit", "trial"}
    assert rows_of_all(lake) == {str(one): rows[str(one)] for one in left}
    assert on_disk(lake) == referred_to(lake)


def test_the_base_of_an_unfinished_job_stays_an_ancestor(lake: IcebergLake) -> None:
    ids = history(lake)
    order = replace(NOW, unfinished=(UnfinishedJob("job", str(ids[2])), UnfinishedJob("new", "")))
    run(lake, order)
    assert history(lake) == ids[2:]


def test_statistics_go_with_their_snapshot(tmp_path: Path) -> None:
    lake = make_lake(tmp_path)
    for one in (lake.table.snapshot(str(history(lake)[0])), lake.table.snapshot()):
        assert lake.table.add_sidecar(one, [Blob("kind", (), {}, b"x")])
    run(lake)
    assert on_disk(lake) == referred_to(lake)
    assert len(lake.other.metadata.statistics) == 1


def merged(lake: IcebergLake, value: str) -> None:
    commit = replace(plan_all(lake.table), watermarks=(Watermark("feed", value),))
    lake.table.commit(commit)


def test_watermarks_outlive_the_snapshots_that_tell_them(tmp_path: Path) -> None:
    lake = make_lake(tmp_path)
    merged(lake, "7")
    lake.append(range(200, 210))
    run(lake)
    assert len(history(lake)) == 1
    assert lake.table.watermark("feed") == "7"


def test_what_a_watermark_is_judged_by_stays(tmp_path: Path) -> None:
    lake = make_lake(tmp_path)
    merged(lake, "7")
    (first,) = history(lake)[-1:]
    lake.append(range(200, 210))
    merged(lake, "8")
    second = history(lake)[-1]
    lake.append(range(300, 310))
    with lake.other.manage_snapshots() as manage:
        manage.rollback_to_snapshot(history(lake)[-3])
    lake.append(range(400, 410))
    assert lake.table.watermark("feed") == "7"
    run(lake)
    assert {first, second} <= set(history(lake))
    assert lake.table.watermark("feed") == "7"
    merged(lake, "9")
    run(lake)
    assert (len(history(lake)), lake.table.watermark("feed")) == (1, "9")


def test_a_tag_from_before_a_merge_does_not_take_its_watermark(tmp_path: Path) -> None:
    lake = make_lake(tmp_path)
    old = history(lake)[-1]
    with lake.other.manage_snapshots() as manage:
        manage.create_tag(old, "before")
    merged(lake, "7")
    merge = history(lake)[-1]
    lake.append(range(200, 210))
    run(lake)
    assert set(history(lake)) == {old, merge, lake.other.metadata.current_snapshot_id}


class Interfering:
    """Does something once, right before the commit."""

    def __init__(self, lake: IcebergLake, deed: Callable[[], object]) -> None:
        self._catalog, self._commit = lake.catalog, lake.catalog.commit_table
        self._deed = deed
        self.requests = 0

    def __call__(self, *arguments: Any) -> Any:
        self._catalog.commit_table = self._commit  # type: ignore[method-assign]
        self.requests += 1
        self._deed()
        return self._commit(*arguments)


def interfere(lake: IcebergLake, deed: Callable[[], object]) -> None:
    lake.catalog.commit_table = Interfering(lake, deed)  # type: ignore[method-assign]


def test_what_is_committed_meanwhile_is_kept(lake: IcebergLake) -> None:
    interfere(lake, lambda: lake.append(range(500, 510)))
    run(lake)
    assert len(history(lake)) == 1
    assert on_disk(lake) == referred_to(lake)
    assert len(lake.rows()) == 50


def test_a_roll_back_meanwhile_keeps_its_snapshot(lake: IcebergLake) -> None:
    ids, rows = history(lake), rows_of_all(lake)

    def roll_back() -> None:
        with lake.other.manage_snapshots() as manage:
            manage.rollback_to_snapshot(ids[1])

    interfere(lake, roll_back)
    run(lake)
    assert history(lake) == [ids[1]]
    assert lake.rows() == rows[str(ids[1])]
    assert on_disk(lake) == referred_to(lake)


def test_somebody_else_expires_the_same(lake: IcebergLake) -> None:
    interfere(lake, lake.expire)
    run(lake)
    assert len(history(lake)) == 1
    assert on_disk(lake) == referred_to(lake)


@pytest.mark.parametrize("retries", [0, 4])
def test_a_lost_reply(lake: IcebergLake, monkeypatch: pytest.MonkeyPatch, retries: int) -> None:
    set_properties(lake, **{"commit.retry.num-retries": str(retries)})
    lose_next_reply(lake, monkeypatch)
    run(lake)
    assert len(history(lake)) == 1
    assert on_disk(lake) == referred_to(lake)


def test_a_catalog_that_never_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = make_lake(tmp_path)
    set_properties(lake, **{"commit.retry.num-retries": "2"})
    before = on_disk(lake)
    monkeypatch.setattr("catalog.iceberg.expire.swap", lambda *_: Answer.REFUSED)
    with pytest.raises(CommitConflictError, match="other writers won"):
        run(lake)
    assert on_disk(lake) == before


def test_what_cannot_be_read_is_found_out_before_anything_is_done(lake: IcebergLake) -> None:
    ids = history(lake)
    head: Snapshot = lake.other.metadata.snapshots[-1]
    Path(head.manifest_list.removeprefix("file://")).write_bytes(b"damaged")
    with pytest.raises(Exception, match="not an Avro file"):
        run(lake)
    assert history(lake) == ids


def test_a_broken_list_of_an_expired_snapshot_is_told(lake: IcebergLake) -> None:
    first: Snapshot = lake.other.metadata.snapshots[0]
    Path(first.manifest_list.removeprefix("file://")).unlink()
    done = run(lake)
    assert "1 of their metadata files could not be read" in done.note
    assert referred_to(lake) <= on_disk(lake)


_DIES = """
import os, signal, sys
from pathlib import Path
from catalog.iceberg.expire import ExpireSnapshots
from catalog.iceberg.table import IcebergTable
from catalog.storage import Storage
from catalog.upkeep import UpkeepOrder
from tests.iceberg_tables import sql_catalog

Storage.delete = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
table = IcebergTable("lake.ns.t", sql_catalog(Path(sys.argv[1])), ("ns", "t"))
ExpireSnapshots(table).run(UpkeepOrder(retention_seconds=0, is_forced=True))
"""


def test_killed_between_commit_and_removal(tmp_path: Path) -> None:
    lake = make_lake(tmp_path)
    rows, before = lake.rows(), on_disk(lake)
    died = subprocess.run(
        [sys.executable, "-c", _DIES, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert died.returncode == -signal.SIGKILL
    assert (len(history(lake)), on_disk(lake)) == (1, before)
    assert referred_to(lake) < before
    OrphanFiles(lake.table).run(NOW)
    assert on_disk(lake) == referred_to(lake)
    assert lake.rows() == rows


def test_paths_are_compared_without_scheme_and_bucket() -> None:
    spelled = ("s3://b/x/y", "s3a://b/x/y", "s3://other/x/y", "file:///x/y", "file:/x/y", "/x/y")
    assert {path_of(one) for one in spelled} == {"x/y"}
    assert path_of("/x/a:b/y") == "x/a:b/y"


def test_spellings_of_a_path_are_one_path() -> None:
    spelled = ("s3://b/x/p=1%2F2/y z", "/x//p=1/2/y%20z", "file:/x/./p=1%252F2/w/../y%2520z")
    assert {path_of(one) for one in spelled} == {"x/p=1/2/y z"}
    assert path_of("/x/..y/z.") == "x/..y/z."


def test_swap_takes_no_refusal_for_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = make_lake(tmp_path)

    def away(*_: object) -> None:
        raise StorageError("away")

    monkeypatch.setattr(lake.catalog, "commit_table", away)
    assert swap(lake.table, lake.table.load(), ()) is Answer.UNKNOWN
