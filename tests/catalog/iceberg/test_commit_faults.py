"""A commit whose reply is lost, late, or never comes; and what it leaves behind."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    ServiceUnavailableError,
)

from catalog.commits import Commit
from catalog.errors import (
    AccessDeniedError,
    CommitConflictError,
    CommitUnknownError,
)
from tests.catalog.conformance import fill
from tests.catalog.groups import outputs, paths, plan_all
from tests.catalog.iceberg.faults import (
    UNKNOWN,
    Fault,
    FaultyCatalog,
    fail,
    lose_race,
    lose_reply,
)
from tests.catalog.iceberg.lakes import IcebergLake
from tests.iceberg_tables import catalog_properties, sql_catalog


class FaultyLake(IcebergLake):
    """A table whose catalog fails us, and one row of files in each of two partitions."""

    def __init__(self, directory: Path) -> None:
        sql_catalog(directory)
        self.faulty = FaultyCatalog("lake", **catalog_properties(directory))
        self.faulty.faults = []
        super().__init__(directory, 2, self.faulty)
        fill(self)
        self.catalog = sql_catalog(directory)
        self.metadata = directory / "warehouse" / "ns" / "t" / "metadata"

    @property
    def ours(self):
        return type(self.table)("lake.ns.t", self.faulty, ("ns", "t"))

    def files(self) -> set[str]:
        return {path.name for path in self.metadata.iterdir()}

    def referenced(self) -> set[str]:
        """Every metadata file that the table still refers to."""
        table = self.other
        found = {table.metadata_location}
        found |= {entry.metadata_file for entry in table.metadata.metadata_log}
        for snapshot in table.snapshots():
            found.add(snapshot.manifest_list)
            found |= {one.manifest_path for one in snapshot.manifests(table.io)}
        return {path.rpartition("/")[2] for path in found}


@pytest.fixture
def lake(tmp_path: Path) -> FaultyLake:
    return FaultyLake(tmp_path)


def landed_once(lake: FaultyLake, commit: Commit) -> None:
    operations = [one.summary.operation.value for one in lake.other.snapshots()]
    assert operations.count("replace") == 1
    assert outputs(commit.rewrites) <= paths(lake.table.inventory(lake.table.snapshot()))


@pytest.mark.parametrize(
    "error",
    [
        CommitStateUnknownException("502"),
        ServiceUnavailableError("503"),
        ConnectionResetError("reset"),
        TimeoutError("timed out"),
        CommitFailedException("409 after a retry of the transport"),
        ValueError("a reply that cannot be parsed"),
        ForbiddenError("the token expired on the way back"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lost_reply_is_not_a_lost_commit(lake: FaultyLake, error: Exception) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    lake.faulty.faults = [lose_reply(error)]
    result = lake.ours.commit(commit)
    assert result.conflicts == ()
    assert result.snapshot == lake.table.snapshot()
    landed_once(lake, commit)
    assert lake.rows() == before
    assert lake.files() == lake.referenced()


def test_a_reply_lost_before_anothers_commit(lake: FaultyLake) -> None:
    commit = plan_all(lake.table)

    def fault(swap):  # type: ignore[no-untyped-def]
        swap()
        lake.append(range(100, 110))
        raise UNKNOWN

    lake.faulty.faults = [fault]
    assert lake.ours.commit(commit).conflicts == ()
    landed_once(lake, commit)
    assert [row[0] for row in lake.rows()] == [*range(60), *range(100, 110)]


def test_a_request_that_was_lost_is_sent_again(lake: FaultyLake) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    lake.faulty.faults = [fail(UNKNOWN), fail(TimeoutError()), fail(ConnectionError())]
    assert lake.ours.commit(commit).conflicts == ()
    landed_once(lake, commit)
    assert lake.rows() == before
    assert lake.files() == lake.referenced()


def test_a_request_that_arrives_late_lands_at_most_once(lake: FaultyLake) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    late = []

    def delay(swap):  # type: ignore[no-untyped-def]
        late.append(swap)
        raise TimeoutError

    def overtaken(swap):  # type: ignore[no-untyped-def]
        late[0]()
        return swap()

    lake.faulty.faults = [delay, overtaken]
    assert lake.ours.commit(commit).conflicts == ()
    landed_once(lake, commit)
    assert lake.rows() == before
    assert lake.files() == lake.referenced()


def test_a_catalog_that_stops_answering_leaves_the_outcome_unknown(lake: FaultyLake) -> None:
    before, commit = lake.rows(), plan_all(lake.table)

    def land_and_die(swap):  # type: ignore[no-untyped-def]
        swap()
        lake.faulty.is_down = True
        raise UNKNOWN

    lake.faulty.faults = [land_and_die]
    ours = lake.ours
    with pytest.raises(CommitUnknownError):
        ours.commit(commit)
    with pytest.raises(CommitUnknownError):
        ours.find_commit(commit)
    landed_once(lake, commit)
    assert lake.rows() == before
    lake.faulty.is_down = False
    found = ours.find_commit(commit)
    assert found is not None
    assert found.snapshot == lake.table.snapshot()


def test_a_catalog_that_answers_nothing_to_commits_leaves_the_outcome_unknown(
    lake: FaultyLake,
) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    written = lake.files()
    lake.faulty.faults = [fail(UNKNOWN)] * 30
    with pytest.raises(CommitUnknownError):
        lake.ours.commit(commit)
    assert lake.files() > written, "what may still land must keep its manifests"
    assert lake.rows() == before
    settle_as_another_process(lake, commit)
    assert lake.rows() == before


def test_a_refusal_is_passed_on_and_cleaned_up(lake: FaultyLake) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    lake.faulty.faults = [fail(ForbiddenError("no"))]
    with pytest.raises(AccessDeniedError):
        lake.ours.commit(commit)
    assert lake.rows() == before
    assert lake.files() == lake.referenced()


def test_lost_races_are_retried_and_cleaned_up(lake: FaultyLake) -> None:
    commit = plan_all(lake.table)
    lake.faulty.faults = [
        lose_race(lambda one=one: lake.append(range(100 + one, 101 + one), "a")) for one in range(3)
    ]
    assert lake.ours.commit(commit).conflicts == ()
    assert [row[0] for row in lake.rows()] == [*range(60), 100, 101, 102]
    assert lake.files() == lake.referenced()


def test_a_group_that_loses_its_file_during_the_race_is_dropped(lake: FaultyLake) -> None:
    commit = plan_all(lake.table)
    lost = next(path for path in paths(commit.rewrites[0].files))
    lake.faulty.faults = [lose_race(lambda: lake.delete({lost: [0, 1]}))]
    before = len(lake.rows())
    result = lake.ours.commit(commit)
    assert [one.group_id for one in result.conflicts] == [commit.rewrites[0].group_id]
    assert len(lake.rows()) == before - 2
    assert lake.files() == lake.referenced()


def test_attempts_are_bounded(lake: FaultyLake) -> None:
    with lake.other.transaction() as transaction:
        transaction.set_properties({"commit.retry.num-retries": "2"})
    before, commit = lake.rows(), plan_all(lake.table)
    faults: list[Fault] = [fail(CommitFailedException("lost"))] * 3
    lake.faulty.faults = [*faults, fail(AssertionError("a fourth attempt"))]
    with pytest.raises(CommitConflictError):
        lake.ours.commit(commit)
    assert len(lake.faulty.faults) == 1
    assert lake.rows() == before
    assert lake.files() == lake.referenced()


def refuses_to_tell(lake: FaultyLake, commit: Commit) -> None:
    """The process that sent the request is gone, the request may still arrive."""
    staged = lake.files()
    with pytest.raises(CommitUnknownError):
        lake.table.find_commit(commit)
    with pytest.raises(CommitUnknownError):
        lake.table.clean_commit(commit)
    assert lake.files() == staged


def settle_as_another_process(lake: FaultyLake, commit: Commit) -> None:
    assert lake.table.commit(commit).conflicts == ()
    landed_once(lake, commit)
    lake.table.clean_commit(commit)
    assert lake.files() == lake.referenced()


class Killed(BaseException):
    """Stands for the end of the process: nothing of ours runs after it."""


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_process_that_is_killed_at_the_swap(
    lake: FaultyLake, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, commit = lake.rows(), plan_all(lake.table)

    def write_and_die(self: object, *args: object, **options: object) -> None:
        original(*args, **options)
        raise Killed

    original = SqlCatalog._write_metadata
    if moment == "between":
        monkeypatch.setattr(FaultyCatalog, "_write_metadata", write_and_die, raising=False)
        original = super(FaultyCatalog, lake.faulty)._write_metadata
    else:
        lake.faulty.faults = [fail(Killed()) if moment == "before" else lose_reply(Killed())]  # type: ignore[arg-type]
    with pytest.raises(Killed):
        lake.ours.commit(commit)
    monkeypatch.undo()
    assert lake.rows() == before
    assert (lake.files() == lake.referenced()) == (moment == "after")
    if moment == "after":
        assert lake.table.find_commit(commit) is not None
    else:
        refuses_to_tell(lake, commit)
    settle_as_another_process(lake, commit)
    assert lake.rows() == before


def test_cleaning_leaves_the_files_of_others_alone(lake: FaultyLake) -> None:
    commit = plan_all(lake.table)
    lake.faulty.faults = [fail(Killed())]
    with pytest.raises(Killed):
        lake.ours.commit(commit)
    foreign = lake.metadata / "0b8f-stranger-m0.avro"
    foreign.write_bytes(b"")
    older = next(lake.metadata.glob("00001-*.metadata.json"))
    (lake.metadata / f"00099-{older.name[6:]}").write_bytes(older.read_bytes())
    lake.append(range(100, 110))
    lake.table.clean_commit(commit)
    assert lake.files() - lake.referenced() == {foreign.name, f"00099-{older.name[6:]}"}


def test_a_commit_that_was_expired_since_is_known_by_its_outputs(lake: FaultyLake) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    lake.table.commit(commit)
    lake.append(range(100, 110))
    lake.expire()
    found = lake.table.find_commit(commit)
    assert found is not None
    assert set(found.committed) == {one.group_id for one in commit.rewrites}
    again = lake.table.commit(commit)
    assert again == found
    lake.table.clean_commit(commit)
    assert lake.rows()[: len(before)] == before


def test_a_busy_database_is_waited_for(lake: FaultyLake) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    error = sqlite3.OperationalError("database is locked")
    lake.faulty.faults = [fail(error), fail(error)]
    assert lake.ours.commit(commit).conflicts == ()
    assert lake.rows() == before


def test_nothing_is_cleaned_while_a_request_may_still_arrive(lake: FaultyLake) -> None:
    """The base is expired, so nothing can be proposed again; the first request is on its way."""
    commit = plan_all(lake.table)
    lake.append(range(100, 110))
    before = lake.rows()
    late = []

    def delay(swap):  # type: ignore[no-untyped-def]
        late.append(swap)
        lake.expire()
        raise TimeoutError

    lake.faulty.faults = [delay]
    with pytest.raises(CommitUnknownError):
        lake.ours.commit(commit)
    late[0]()
    landed_once(lake, commit)
    assert lake.rows() == before
    assert lake.table.find_commit(commit) is not None


def test_nothing_is_cleaned_when_the_landed_snapshot_cannot_be_read(lake: FaultyLake) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    hidden = []

    def hide(swap):  # type: ignore[no-untyped-def]
        swap()
        place = Path(lake.other.current_snapshot().manifest_list.removeprefix("file://"))
        hidden.append((place, place.rename(place.with_suffix(".hidden"))))
        raise CommitFailedException("409 after a retry of the transport")

    lake.faulty.faults = [hide]
    with pytest.raises(CommitUnknownError):
        lake.ours.commit(commit)
    for place, away in hidden:
        away.rename(place)
    landed_once(lake, commit)
    assert lake.rows() == before


def die_with_a_request_under_way(lake: FaultyLake, commit: Commit) -> Callable[[], object]:
    """Kill a process while the catalog holds its request; return how the catalog applies it."""
    held = []

    def hold(swap):  # type: ignore[no-untyped-def]
        held.append(swap)
        raise Killed

    lake.faulty.faults = [hold]
    with pytest.raises(Killed):
        lake.ours.commit(commit)
    return held[0]


def test_a_request_of_a_dead_process_arrives_before_the_next_one(lake: FaultyLake) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    arrive = die_with_a_request_under_way(lake, commit)
    lake.faulty.faults = [lose_race(arrive)]
    assert lake.ours.commit(commit).conflicts == ()
    landed_once(lake, commit)
    assert lake.rows() == before
    lake.table.clean_commit(commit)
    assert lake.files() == lake.referenced()


def test_a_request_of_a_dead_process_arrives_after_the_next_one(lake: FaultyLake) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    arrive = die_with_a_request_under_way(lake, commit)
    assert lake.ours.commit(commit).conflicts == ()
    with pytest.raises(CommitFailedException):
        arrive()
    landed_once(lake, commit)
    assert lake.rows() == before
    lake.table.clean_commit(commit)
    assert lake.files() == lake.referenced()


def test_a_refusal_does_not_answer_for_the_request_of_a_dead_process(lake: FaultyLake) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    arrive = die_with_a_request_under_way(lake, commit)
    staged = lake.files()
    lake.faulty.faults = [fail(ForbiddenError("no"))]
    with pytest.raises(CommitUnknownError):
        lake.ours.commit(commit)
    assert lake.files() == staged
    arrive()
    landed_once(lake, commit)
    assert lake.rows() == before
    assert lake.table.find_commit(commit) is not None


def test_an_expired_base_does_not_answer_for_the_request_of_a_dead_process(
    lake: FaultyLake,
) -> None:
    commit = plan_all(lake.table)
    lake.append(range(100, 110))
    before = lake.rows()
    arrive = die_with_a_request_under_way(lake, commit)
    lake.expire()
    with pytest.raises(CommitUnknownError):
        lake.ours.commit(commit)
    arrive()
    landed_once(lake, commit)
    assert lake.rows() == before


def test_a_request_is_given_up_when_nothing_can_hold_it_any_longer(lake: FaultyLake) -> None:
    commit = plan_all(lake.table)
    die_with_a_request_under_way(lake, commit)
    hours_ago = time.time() - 2 * 3600
    for staged in lake.metadata.glob(f"*{commit.commit_id}*"):
        os.utime(staged, (hours_ago, hours_ago))
    assert lake.table.find_commit(commit) is None
    lake.table.clean_commit(commit)
    assert lake.files() == lake.referenced()


def test_a_request_is_given_up_when_the_head_has_moved_on(lake: FaultyLake) -> None:
    commit = plan_all(lake.table)
    arrive = die_with_a_request_under_way(lake, commit)
    lake.append(range(100, 110))
    assert lake.table.find_commit(commit) is None
    lake.table.clean_commit(commit)
    with pytest.raises(CommitFailedException):
        arrive()


def make_unsupported(lake: FaultyLake) -> None:
    with lake.other.transaction() as transaction:
        transaction.set_properties({"write.format.default": "orc"})


def test_a_table_that_is_no_longer_supported_is_still_asked_for_the_commit(
    lake: FaultyLake,
) -> None:
    """Files that are in the table must not be given up as conflicts."""
    before, commit = lake.rows(), plan_all(lake.table)
    assert lake.ours.commit(commit).conflicts == ()
    make_unsupported(lake)
    with pytest.raises(CommitUnknownError):
        lake.ours.commit(commit)
    operations = [one.summary.operation.value for one in lake.other.snapshots()]
    assert operations.count("replace") == 1
    assert lake.rows() == before


def test_a_commit_that_is_not_in_a_table_that_is_no_longer_supported(lake: FaultyLake) -> None:
    table = lake.ours
    commit = plan_all(table)
    make_unsupported(lake)
    assert len(table.commit(commit).conflicts) == len(commit.rewrites)


def test_a_table_without_its_old_history_may_have_had_the_commit(lake: FaultyLake) -> None:
    table = lake.ours
    commit = plan_all(table)
    lake.append(range(100, 110))
    lake.expire()
    make_unsupported(lake)
    with pytest.raises(CommitUnknownError):
        table.commit(commit)
