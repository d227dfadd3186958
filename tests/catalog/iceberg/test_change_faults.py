"""Changes of an Iceberg table whose catalog fails, or whose driver dies: made once or never."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ForbiddenError

from catalog.commits import Commit
from catalog.errors import AccessDeniedError, CommitUnknownError, StorageError
from catalog.iceberg import proposal
from catalog.storage import Storage
from tests.catalog.changes import Change, plan_change
from tests.catalog.groups import paths
from tests.catalog.iceberg.faults import FaultyCatalog, fail, lose_race, lose_reply
from tests.catalog.iceberg.lakes import IcebergLake
from tests.catalog.iceberg.test_commit_faults import (
    FaultyLake,
    Killed,
    die_with_a_request_under_way,
    refuses_to_tell,
)
from tests.iceberg_tables import catalog_properties, sql_catalog

CHANGE = Change([(3, "a", "new"), (14, "b", "new"), (100, "a", "new")], deletes=[21, 7])


class ChangedLake(FaultyLake):
    """A table with a change that marks rows, and may be under way."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.before = self.rows()
        self.change = plan_change(self.table, CHANGE, marks=True)

    def data_file_rows(self, path: str) -> list[int]:
        return pq.read_table(path.removeprefix("file://"))["id"].to_pylist()

    def deletes(self) -> int:
        """Number of delete files in storage, whether the table refers to them or not."""
        return len(list(self.metadata.parent.rglob("*-deletes.parquet")))

    def is_made_once(self) -> None:
        made = [
            one
            for one in self.other.snapshots()
            if one.summary.additional_properties.get("compactor.commit-id") == self.change.commit_id
        ]
        assert len(made) == 1
        assert self.rows() == CHANGE.apply(self.before)
        assert self.table.watermark("orders") == "1"
        found = self.table.find_commit(self.change)
        assert found is not None
        assert set(found.committed) == {one.group_id for one in self.change.rewrites}
        self.table.clean_commit(self.change)
        assert (self.files(), self.deletes()) == (self.referenced(), 2)
        assert self.rows() == CHANGE.apply(self.before)

    def is_undone(self) -> None:
        assert self.table.find_commit(self.change) is None
        self.table.clean_commit(self.change)
        assert (self.files(), self.deletes()) == (self.referenced(), 0)
        assert self.rows() == self.before
        assert self.table.watermark("orders") is None


class EmptyLake(FaultyLake):
    """A table of version 1 without a snapshot."""

    def __init__(self, directory: Path) -> None:
        sql_catalog(directory)
        self.faulty = FaultyCatalog("lake", **catalog_properties(directory))
        self.faulty.faults = []
        IcebergLake.__init__(self, directory, 1, self.faulty)
        self.metadata = directory / "warehouse" / "ns" / "t" / "metadata"


@pytest.fixture
def lake(tmp_path: Path) -> ChangedLake:
    return ChangedLake(tmp_path)


@pytest.mark.parametrize(
    "error",
    [CommitStateUnknownException("502"), CommitFailedException("409"), TimeoutError("late")],
    ids=lambda error: type(error).__name__,
)
def test_a_lost_reply_is_not_a_lost_change(lake: ChangedLake, error: Exception) -> None:
    lake.faulty.faults = [lose_reply(error)]
    assert lake.ours.commit(lake.change).conflicts == ()
    lake.is_made_once()


def test_a_race_that_is_lost_to_rows_that_come_in_is_a_conflict(lake: ChangedLake) -> None:
    lake.faulty.faults = [lose_race(lambda: lake.append(range(200, 210)))]
    result = lake.ours.commit(lake.change)
    assert (result.snapshot, len(result.conflicts)) == (None, 2)
    lake.before = lake.rows()
    lake.is_undone()


def test_a_race_that_is_lost_to_rows_that_go_elsewhere_is_run_again(lake: ChangedLake) -> None:
    planned = set().union(*(paths(one.files) for one in lake.change.rewrites))
    other = min(paths(lake.table.inventory(lake.table.snapshot())) - planned)
    lake.faulty.faults = [lose_race(lambda: lake.remove(other))]
    assert lake.ours.commit(lake.change).conflicts == ()
    gone = set(lake.data_file_rows(other))
    lake.before = [row for row in lake.before if row[0] not in gone]
    lake.is_made_once()


def test_a_refusal_leaves_nothing_behind(lake: ChangedLake) -> None:
    lake.faulty.faults = [fail(ForbiddenError("no"))]
    with pytest.raises(AccessDeniedError):
        lake.ours.commit(lake.change)
    lake.is_undone()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_is_killed_at_the_swap(lake: ChangedLake, moment: str) -> None:
    lake.faulty.faults = [fail(Killed()) if moment == "before" else lose_reply(Killed())]  # type: ignore[arg-type]
    with pytest.raises(Killed):
        lake.ours.commit(lake.change)
    if moment == "before":
        refuses_to_tell(lake, lake.change)
        assert lake.deletes() == 2
        assert lake.table.commit(lake.change).conflicts == ()
    lake.is_made_once()


def test_a_process_that_is_killed_among_its_delete_files(
    lake: ChangedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Storage.put_if_absent
    monkeypatch.setattr(Storage, "put_if_absent", _dying_after(put))
    with pytest.raises(Killed):
        lake.ours.commit(lake.change)
    monkeypatch.undo()
    assert lake.deletes() == 1
    lake.is_undone()
    assert lake.table.commit(lake.change).conflicts == ()
    lake.is_made_once()


def _dying_after(put: Callable[..., None]) -> Callable[..., None]:
    def die(*arguments: object) -> None:
        put(*arguments)
        raise Killed

    return die


def test_a_process_that_is_killed_between_delete_files_and_manifests(
    lake: ChangedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(proposal.Staging, "stage", die)
    with pytest.raises(Killed):
        lake.ours.commit(lake.change)
    monkeypatch.undo()
    assert lake.deletes() == 2
    assert lake.table.commit(lake.change).conflicts == ()
    lake.is_made_once()


def test_a_request_of_a_dead_process_arrives_before_the_next_one(lake: ChangedLake) -> None:
    arrive = die_with_a_request_under_way(lake, lake.change)
    lake.faulty.faults = [lose_race(arrive)]
    assert lake.ours.commit(lake.change).conflicts == ()
    lake.is_made_once()


def test_a_request_of_a_dead_process_arrives_after_a_conflict_was_seen(lake: ChangedLake) -> None:
    """The conflict is with the head; the request was to follow an older one: it is refused."""
    arrive = die_with_a_request_under_way(lake, lake.change)
    lake.append(range(200, 210))
    assert len(lake.table.commit(lake.change).conflicts) == 2
    with pytest.raises(CommitFailedException):
        arrive()
    lake.before = lake.rows()
    lake.is_undone()


def test_a_request_that_may_still_arrive_keeps_its_delete_files(lake: ChangedLake) -> None:
    arrive = die_with_a_request_under_way(lake, lake.change)
    lake.faulty.faults = [fail(ForbiddenError("no"))]
    with pytest.raises(CommitUnknownError):
        lake.ours.commit(lake.change)
    arrive()
    lake.is_made_once()


def test_the_first_change_of_a_table_is_under_way(tmp_path: Path) -> None:
    """A table without a snapshot has a head as well: the request names it as its parent."""
    lake = EmptyLake(tmp_path)
    commit = plan_change(lake.table, Change([(1, "a", "x")]))
    arrive = die_with_a_request_under_way(lake, commit)
    refuses_to_tell(lake, commit)
    arrive()
    assert lake.table.find_commit(commit) is not None
    assert lake.rows() == [(1, "a", "x")]


def test_a_change_that_was_expired_since_is_known(lake: ChangedLake) -> None:
    deletes: Commit = plan_change(lake.table, Change(deletes=[21]), marks=True)
    lake.table.commit(deletes)
    lake.append(range(200, 210))
    lake.expire()
    found = lake.table.find_commit(deletes)
    assert found is not None
    assert found.committed == (deletes.rewrites[0].group_id,)
    before = lake.rows()
    lake.table.clean_commit(deletes)
    assert lake.rows() == before
    assert lake.table.commit(deletes) == found
    # One with outputs is known by these, and they are not there.
    assert lake.table.find_commit(lake.change) is None


def test_a_storage_that_fails_while_delete_files_are_written(
    lake: ChangedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("full")

    monkeypatch.setattr(Storage, "put_if_absent", refuse)
    with pytest.raises(StorageError):
        lake.ours.commit(lake.change)
    monkeypatch.undo()
    lake.is_undone()


_DRIVER = """
    import os, pickle, signal, sys
    from pathlib import Path
    from pyiceberg.catalog.sql import SqlCatalog
    from catalog.iceberg.table import IcebergTable
    from catalog.storage import storage
    from tests.iceberg_tables import sql_catalog

    commit, directory, moment = pickle.loads(sys.stdin.buffer.read())

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    put, swap = storage.Storage.put_if_absent, SqlCatalog.commit_table
    if moment == "among the delete files":
        def put_and_die(*arguments):
            put(*arguments)
            die()
        storage.Storage.put_if_absent = put_and_die
    elif moment == "before the swap":
        SqlCatalog.commit_table = die
    elif moment == "after the swap":
        def swap_and_die(*arguments):
            swap(*arguments)
            die()
        SqlCatalog.commit_table = swap_and_die
    IcebergTable("lake.ns.t", sql_catalog(Path(directory)), ("ns", "t")).commit(commit)
    print("not killed")
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["among the delete files", "before the swap", "after the swap"])
def test_a_driver_that_is_killed_and_the_same_change_again(
    lake: ChangedLake, tmp_path: Path, moment: str
) -> None:
    driver = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_DRIVER)],
        input=pickle.dumps((lake.change, str(tmp_path), moment)),
        capture_output=True,
        cwd=Path.cwd(),
        check=False,
    )
    assert driver.returncode == -signal.SIGKILL, driver.stderr.decode()
    assert lake.rows() == (CHANGE.apply(lake.before) if "after" in moment else lake.before)
    if "before" in moment:
        refuses_to_tell(lake, lake.change)
    assert lake.table.commit(lake.change).conflicts == ()
    lake.is_made_once()
