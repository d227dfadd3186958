"""A commit whose reply is lost, late, or never comes; and what it leaves behind."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from catalog.attempts import Pace
from catalog.commits import Commit
from catalog.delta import commit as commit_module
from catalog.delta import head as head_module
from catalog.delta.carrying import vector_file
from catalog.errors import (
    AccessDeniedError,
    CommitConflictError,
    CommitUnknownError,
    ObjectExistsError,
    StorageError,
)
from tests.catalog.conformance import fill
from tests.catalog.delta.dying import die_committing
from tests.catalog.delta.faults import (
    FaultyTable,
    Put,
    arrive_late,
    fail,
    lose_race,
    lose_reply,
)
from tests.catalog.delta.lakes import WITH_VECTORS, DeltaLake, commits
from tests.catalog.groups import outputs, paths, plan_all

LOST = StorageError("the connection was reset")


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    lake = DeltaLake(tmp_path)
    fill(lake)
    return lake


def compactions(lake: DeltaLake) -> int:
    return sum(some[0]["commitInfo"]["operation"] == "OPTIMIZE" for some in commits(lake.directory))


def landed_once(lake: DeltaLake, commit: Commit) -> None:
    assert compactions(lake) == 1
    assert paths(lake.table.inventory(lake.table.snapshot())) >= outputs(commit.rewrites)


def test_a_reply_that_is_lost_is_found_in_the_log(lake: DeltaLake) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    result = FaultyTable(lake.root, lose_reply(LOST)).commit(commit)
    assert (len(result.committed), result.conflicts) == (2, ())
    assert result.snapshot == lake.table.snapshot()
    assert lake.table.find_commit(commit) == result
    landed_once(lake, commit)
    assert lake.rows() == before


def test_a_conflict_that_is_a_lost_reply_is_none(lake: DeltaLake) -> None:
    commit = plan_all(lake.table)
    table = FaultyTable(lake.root, lose_reply(ObjectExistsError("it is there")))
    assert table.commit(commit).conflicts == ()
    landed_once(lake, commit)


def test_a_request_that_fails_is_sent_again(lake: DeltaLake) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    assert FaultyTable(lake.root, fail(LOST), fail(LOST)).commit(commit).conflicts == ()
    landed_once(lake, commit)
    assert lake.rows() == before


def test_a_race_that_is_lost_is_run_again(lake: DeltaLake) -> None:
    commit = plan_all(lake.table)
    table = FaultyTable(lake.root, *(lose_race(lambda: lake.append(range(100, 110))) for _ in "12"))
    result = table.commit(commit)
    assert result.conflicts == ()
    assert result.snapshot is not None
    assert result.snapshot.snapshot_id == "9"
    landed_once(lake, commit)


def test_a_winner_that_takes_an_input_drops_its_group_alone(lake: DeltaLake) -> None:
    commit = plan_all(lake.table)
    victim = next(iter(paths(commit.rewrites[0].files)))
    result = FaultyTable(lake.root, lose_race(lambda: lake.remove(victim))).commit(commit)
    assert [one.group_id for one in result.conflicts] == [commit.rewrites[0].group_id]
    assert result.committed == (commit.rewrites[1].group_id,)


def test_a_request_that_arrives_late_is_found(lake: DeltaLake) -> None:
    before, commit = lake.rows(), plan_all(lake.table)
    requests: list[Put] = []

    def arrive(put: Put) -> None:
        for request in requests:
            request()
        put()

    table = FaultyTable(lake.root, arrive_late(requests), arrive)
    result = table.commit(commit)
    assert (len(result.committed), result.conflicts) == (2, ())
    landed_once(lake, commit)
    assert lake.rows() == before


def test_a_request_of_a_dead_process_and_the_same_commit_again(lake: DeltaLake) -> None:
    """Whichever comes first, the commit happens once."""
    before, commit = lake.rows(), plan_all(lake.table)
    requests: list[Put] = []
    dead = FaultyTable(lake.root, arrive_late(requests), fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        dead.commit(commit)
    result = lake.table.commit(commit)
    with pytest.raises(ObjectExistsError):
        requests[0]()
    assert len(result.committed) == 2
    landed_once(lake, commit)
    assert lake.rows() == before


def test_without_an_answer_the_outcome_is_unknown(
    lake: DeltaLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_module, "PACE", Pace(3, 0.001, 0.002, 60))
    commit, requests = plan_all(lake.table), list[Put]()
    table = FaultyTable(lake.root, *(arrive_late(requests) for _ in range(9)))
    with pytest.raises(CommitUnknownError):
        table.commit(commit)
    requests[2]()
    found = lake.table.find_commit(commit)
    assert found is not None
    assert len(found.committed) == 2
    for request in requests:
        with suppress(ObjectExistsError):
            request()
    landed_once(lake, commit)


def test_a_log_that_cannot_be_read_makes_it_unknown(lake: DeltaLake) -> None:
    commit = plan_all(lake.table)
    table = FaultyTable(lake.root)

    def lose_all(put: Put) -> None:
        put()
        table.faulty.is_down.append(True)
        raise LOST

    table.faulty.faults.append(lose_all)
    with pytest.raises(CommitUnknownError):
        table.commit(commit)
    with pytest.raises(CommitUnknownError):
        table.find_commit(commit)
    landed_once(lake, commit)
    assert lake.table.commit(commit).conflicts == ()
    landed_once(lake, commit)


def test_a_writer_that_keeps_winning_ends_the_attempts(
    lake: DeltaLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_module, "PACE", Pace(2, 0.001, 0.002, 60))
    commit = plan_all(lake.table)
    winner = lose_race(lambda: lake.append(range(100, 110)))
    with pytest.raises(CommitConflictError):
        FaultyTable(lake.root, *[winner] * 9).commit(commit)
    assert compactions(lake) == 0
    assert lake.table.find_commit(commit) is None
    assert lake.table.commit(commit).conflicts == ()


def test_a_refusal_is_told_as_it_is(lake: DeltaLake) -> None:
    commit = plan_all(lake.table)
    with pytest.raises(AccessDeniedError):
        FaultyTable(lake.root, fail(AccessDeniedError("no"))).commit(commit)
    assert lake.table.find_commit(commit) is None


def carries_a_file_of_vectors(lake: DeltaLake) -> Commit:
    """Plan a commit, and delete so many of its rows that their vector is no part of the log."""
    path = lake.append(range(60_000))
    commit = plan_all(lake.table)
    some = np.random.default_rng(3).choice(60_000, 9_000, replace=False)
    lake.delete({path: some.tolist()})
    return replace(commit, rewrites=(replace(commit.rewrites[0], keeps_order=True),))


@pytest.mark.parametrize("error", [None, LOST, ObjectExistsError("it is there")])
def test_what_a_commit_refers_to_stays_when_all_fails_right_after_it(
    tmp_path: Path, error: Exception | None
) -> None:
    lake = DeltaLake(tmp_path)
    commit = carries_a_file_of_vectors(lake)
    before, table = lake.rows(), FaultyTable(lake.root)

    def fail_after(put: Put) -> None:
        put()
        table.faulty.is_down.append(True)
        if error is not None:
            raise error

    table.faulty.faults.append(fail_after)
    with pytest.raises(CommitUnknownError):
        table.commit(commit)
    assert lake.rows() == before
    found = lake.table.find_commit(commit)
    assert found is not None
    assert len(found.committed) == 1
    landed_once(lake, commit)


def test_vectors_of_attempts_that_lost_are_removed(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    commit = carries_a_file_of_vectors(lake)
    before, live = lake.rows(), set(lake.directory.glob("*.bin"))
    appends = [lose_race(lambda: lake.append(range(70_000, 70_001))) for _ in range(3)]
    assert FaultyTable(lake.root, *appends).commit(commit).conflicts == ()
    version = int(lake.table.snapshot().snapshot_id)
    landed = Path(vector_file(lake.root, commit.commit_id, version).path)
    assert set(lake.directory.glob("*.bin")) - live == {landed}
    assert len(lake.rows()) == len(before) + 3


@pytest.mark.parametrize(
    "moment",
    [
        "before the vectors",
        "before the put",
        "while it is staged",
        "after the put",
        "before it is tidied",
        "before the checkpoint is there",
        "before the checkpoint is pointed to",
    ],
)
def test_a_driver_that_is_killed_and_the_same_commit_again(tmp_path: Path, moment: str) -> None:
    lake = DeltaLake(tmp_path, configuration={**WITH_VECTORS, "delta.checkpointInterval": "1"})
    path = lake.append(range(30_000))
    commit = plan_all(lake.table)
    commit = replace(commit, rewrites=(replace(commit.rewrites[0], keeps_order=True),))
    some = np.random.default_rng(3).choice(30_000, 9_000, replace=False)
    lake.delete({path: some.tolist()})
    before = lake.rows()
    die_committing(commit, lake.root, moment)
    assert lake.rows() == before
    result = lake.table.commit(commit)
    assert (len(result.committed), result.conflicts) == (1, ())
    lake.table.clean_commit(commit)
    landed_once(lake, commit)
    assert lake.rows() == before
    add = next(one["add"] for one in commits(lake.directory)[-1] if "add" in one)
    assert len(json.dumps(add["deletionVector"])) < 200
    assert len(list(lake.directory.glob("*.bin"))) == 2


def test_a_log_that_is_cleaned_behind_our_back_is_listed_anew(
    lake: DeltaLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is gone must not be taken for one that nobody has written."""
    monkeypatch.setattr(head_module, "_LISTING_SECONDS_MAX", 0.0)
    commit = plan_all(lake.table)

    def interfere() -> None:
        lake.append(range(100, 110))
        lake.append(range(110, 120))
        lake.peer.create_checkpoint()
        (lake.directory / "_delta_log" / f"{7:020}.json").unlink()

    before = lake.rows()

    def clean_once(_: Put) -> None:
        interfere()
        raise LOST

    assert FaultyTable(lake.root, clean_once).commit(commit).conflicts == ()
    assert not (lake.directory / "_delta_log" / f"{7:020}.json").exists()
    assert lake.table.snapshot().snapshot_id == "9"
    assert len(lake.rows()) == len(before) + 20


def test_a_version_that_was_put_behind_the_head_is_none(lake: DeltaLake) -> None:
    """A log may be cleaned as fast as it grows: what was just read says nothing of what is free."""
    commit = plan_all(lake.table)

    def overtake() -> None:
        lake.append(range(100, 110))
        lake.append(range(110, 120))
        lake.expire()

    result = FaultyTable(lake.root, lose_race(overtake)).commit(commit)
    assert (len(result.committed), result.conflicts) == (2, ())
    assert result.snapshot == lake.table.snapshot()
    assert result.snapshot.snapshot_id == "9"
    assert lake.table.find_commit(commit) is not None
    assert paths(lake.table.inventory(lake.table.snapshot())) >= outputs(commit.rewrites)
    assert {row[0] for row in lake.rows()} >= set(range(100, 120))


@pytest.mark.parametrize("has_landed", [True, False])
def test_a_table_that_is_no_longer_supported_is_still_asked_for_the_commit(
    lake: DeltaLake, has_landed: bool
) -> None:
    """Files that are in the table must not be given up as conflicts."""
    commit = plan_all(lake.table)
    if has_landed:
        lake.table.commit(commit)
    (protocol,) = (one["protocol"] for one in commits(lake.directory)[0] if "protocol" in one)
    features = [*protocol["writerFeatures"], "somethingOfTomorrow"]
    lake.commit([{"protocol": {**protocol, "writerFeatures": features}}])
    if has_landed:
        with pytest.raises(CommitUnknownError):
            lake.table.commit(commit)
        with pytest.raises(CommitUnknownError):
            lake.table.find_commit(commit)
    else:
        assert len(lake.table.commit(commit).conflicts) == 2
        assert lake.table.find_commit(commit) is None
