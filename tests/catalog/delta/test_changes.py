"""Changes of Delta tables: what only this format has to get right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from catalog.commits import ChangeScope, Commit, Watermark
from catalog.delta.carrying import vector_file
from catalog.delta.contents import app_id
from catalog.errors import (
    CorruptTableError,
    ObjectExistsError,
    StorageError,
    UnsupportedTableError,
)
from catalog.model import Selection
from tests.catalog.changes import Change, plan_change
from tests.catalog.conformance import expected, fill
from tests.catalog.delta.dying import die_committing
from tests.catalog.delta.faults import FaultyTable, Put, arrive_late, fail, lose_race, lose_reply
from tests.catalog.delta.lakes import WITH_VECTORS, DeltaLake, commits
from tests.catalog.delta.tracked import TrackedLake
from tests.catalog.groups import plan_all

CHANGE = Change([(3, "a", "new"), (14, "b", "new"), (100, "a", "new")], deletes=[21, 7])
LOST = StorageError("the connection was reset")


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    lake = DeltaLake(tmp_path)
    fill(lake)
    return lake


def last(lake: DeltaLake, kind: str) -> list[dict[str, Any]]:
    """Return the actions of a kind in the newest version."""
    return [one[kind] for one in commits(lake.directory)[-1] if kind in one]


def made_once(lake: DeltaLake, commit: Commit) -> None:
    found = [
        some
        for some in commits(lake.directory)
        if any(one.get("txn", {}).get("appId") == app_id(commit.commit_id) for one in some)
    ]
    assert len(found) == 1
    assert lake.table.watermark("orders") == "1"


@pytest.mark.parametrize("marks", [False, True], ids=["rewritten", "marked"])
def test_a_merge_says_what_it_did(lake: DeltaLake, marks: bool) -> None:
    commit = plan_change(lake.table, CHANGE, marks=marks)
    lake.table.commit(commit)
    (info,) = last(lake, "commitInfo")
    adds, removes = last(lake, "add"), last(lake, "remove")
    assert (info["operation"], info["isolationLevel"]) == ("MERGE", "Serializable")
    assert info["readVersion"] == int(commit.base.snapshot_id)
    assert all(one["dataChange"] for one in adds + removes)
    metrics = {name: int(value) for name, value in info["operationMetrics"].items()}
    assert metrics["numTargetRowsInserted"] == 3
    assert metrics["numTargetRowsDeleted"] == 4
    assert metrics["numTargetRowsCopied"] == (0 if marks else 26)
    assert metrics["numOutputRows"] == (3 if marks else 29)
    assert metrics["numTargetFilesAdded"] == 2
    assert metrics["numTargetFilesRemoved"] == (0 if marks else 3)
    assert metrics["numTargetDeletionVectorsAdded"] == (3 if marks else 0)
    assert lake.peer.history(1)[0]["operation"] == "MERGE"


def test_new_rows_alone_are_a_write(lake: DeltaLake) -> None:
    lake.table.commit(plan_change(lake.table, Change(expected(range(500, 503)))))
    (info,) = last(lake, "commitInfo")
    assert (info["operation"], info["operationParameters"]) == ("WRITE", {"mode": "Append"})
    assert info["operationMetrics"]["numOutputRows"] == "3"


def test_marks_keep_statistics_and_lose_tight_bounds(lake: DeltaLake) -> None:
    for number, deletes in enumerate(([21, 7], [22, 7, 5])):
        lake.table.commit(plan_change(lake.table, Change(deletes=deletes), marks=True))
        adds = {one["path"]: one for one in last(lake, "add")}
        assert {path for path, one in adds.items() if not one.get("deletionVector")} == set()
        for one in adds.values():
            stats = json.loads(one["stats"])
            assert (stats["numRecords"], stats["tightBounds"]) == (10, False)
            assert stats["minValues"].keys() >= {"id"}
        cardinalities = sorted(one["deletionVector"]["cardinality"] for one in adds.values())
        assert cardinalities == ([1, 1], [2, 2])[number]
    assert len(lake.rows()) == 56


def test_files_without_statistics_are_counted_when_they_are_marked(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    path = lake.append(range(10))
    add = lake.add_of(path)
    lake.commit([{"remove": lake.remove_of(path)}, {"add": {**add, "stats": None}}])
    lake.table.commit(plan_change(lake.table, Change(deletes=[4]), marks=True))
    (one,) = last(lake, "add")
    assert json.loads(one["stats"]) == {"numRecords": 10, "tightBounds": False}
    assert lake.rows() == expected([one for one in range(10) if one != 4])


def test_rows_that_are_deleted_already_cannot_be_marked(lake: DeltaLake) -> None:
    lake.table.commit(plan_change(lake.table, Change(deletes=[3]), marks=True))
    commit = plan_change(lake.table, Change(deletes=[4]), marks=True)
    (one,) = commit.rewrites
    marks = {path: Selection(np.array([3, 4])) for path in one.marks}
    with pytest.raises(CorruptTableError, match="already"):
        lake.table.commit(replace(commit, rewrites=(replace(one, marks=marks),)))


def test_other_engines_read_what_was_marked_and_skip_by_what_was_written(lake: DeltaLake) -> None:
    lake.table.commit(plan_change(lake.table, CHANGE, marks=True))
    # The peer deletes from the very files, and goes on.
    lake.peer.delete("id = 4")
    found = duckdb.from_arrow(lake.peer.scan(columns=["id", "text"]))
    assert found.filter("text = 'new'").order("id").fetchall() == [
        (3, "new"),
        (14, "new"),
        (100, "new"),
    ]
    assert 4 not in {row[0] for row in lake.rows()}


@pytest.mark.parametrize("name", ["plain", "replaced"])
def test_ids_are_said_to_be_kept_unless_a_row_was_replaced(tmp_path: Path, name: str) -> None:
    lake = TrackedLake(tmp_path)
    fill(lake)
    lake.table.commit(plan_change(lake.table, CHANGE if name == "replaced" else Change((), [3])))
    (info,) = last(lake, "commitInfo")
    kept = "false" if name == "replaced" else "true"
    assert info["tags"] == {"delta.rowTracking.preserved": kept}
    assert (
        info["inCommitTimestamp"]
        > commits(lake.directory)[-2][0]["commitInfo"]["inCommitTimestamp"]
    )


ADDS, REMOVES = ChangeScope(True, False), ChangeScope(False, True)
LACKS = ChangeScope(True, False, frozenset({"text"}))
REFUSALS = {
    "delta.appendOnly": (REMOVES, {}, {"delta.appendOnly": "true"}),
    "delta.enableChangeDataFeed": (REMOVES, {}, {"delta.enableChangeDataFeed": "true"}),
    "delta.constraints.positive": (ADDS, {}, {"delta.constraints.positive": "id > 0"}),
    "delta.setTransactionRetentionDuration": (
        REMOVES,
        {},
        {"delta.setTransactionRetentionDuration": "interval 7 days"},
    ),
    "delta.invariants": (ADDS, {"delta.invariants": "{}"}, {}),
    "delta.generationExpression": (ADDS, {"delta.generationExpression": "id + 1"}, {}),
    "delta.identity.start": (ADDS, {"delta.identity.start": 1}, {}),
    "CURRENT_DEFAULT": (LACKS, {"CURRENT_DEFAULT": "'x'"}, {}),
}


def with_features(
    directory: Path, said: dict[str, Any], configuration: dict[str, str]
) -> DeltaLake:
    """Make a filled table of which the column `text` has features."""
    lake = DeltaLake(directory)
    fill(lake, parts="a", files=1)
    metadata = next(one["metaData"] for one in commits(lake.directory)[0] if "metaData" in one)
    schema = json.loads(metadata["schemaString"])
    schema["fields"][2]["metadata"] = said
    lake.commit(
        [
            {
                "metaData": {
                    **metadata,
                    "schemaString": json.dumps(schema),
                    "configuration": {**WITH_VECTORS, **configuration},
                }
            }
        ]
    )
    return lake


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_asked_of_changes_is_refused_by_name(tmp_path: Path, name: str) -> None:
    scope, said, configuration = REFUSALS[name]
    lake = with_features(tmp_path, said, configuration)
    with pytest.raises(UnsupportedTableError, match=name):
        lake.table.check_change(scope)
    change = Change([(100, "a", "x")]) if scope.adds_rows else Change(deletes=[3])
    commit = plan_change(lake.table, change)
    if scope.lacking:  # the files alone do not tell
        lake.table.check_change(ADDS)
        assert lake.table.commit(commit).conflicts == ()
        return
    before = lake.rows()
    with pytest.raises(UnsupportedTableError, match=name):
        lake.table.commit(commit)
    assert (lake.rows(), lake.table.snapshot()) == (before, commit.base)
    # What the feature does not speak of goes.
    if name != "delta.setTransactionRetentionDuration":
        other = Change(deletes=[3]) if scope.adds_rows else Change([(100, "a", "x")])
        assert lake.table.commit(plan_change(lake.table, other)).conflicts == ()
        assert lake.rows() == other.apply(before)


def test_marks_are_refused_where_vectors_are_off(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path, configuration={})
    lake.append(range(10))
    assert not lake.table.can_mark
    with pytest.raises(UnsupportedTableError, match="enableDeletionVectors"):
        lake.table.commit(plan_change(lake.table, Change(deletes=[3]), marks=True))
    change = Change([(3, "a", "x")])
    assert lake.table.commit(plan_change(lake.table, change)).conflicts == ()
    assert lake.rows() == change.apply(expected(range(10)))


def test_another_schema_since_the_base_is_a_conflict(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    fill(lake, parts="a", files=1)
    commit = plan_change(lake.table, Change(deletes=[3]))
    metadata = next(one["metaData"] for one in commits(lake.directory)[0] if "metaData" in one)
    configuration = {**WITH_VECTORS, "delta.appendOnly": "false"}
    lake.commit([{"metaData": {**metadata, "configuration": configuration}}])
    assert lake.table.commit(commit).snapshot is None


def test_files_that_come_back_with_other_deletes_are_a_conflict(lake: DeltaLake) -> None:
    """They may have got rows back that the change looked for."""
    files = lake.table.inventory(lake.table.snapshot())
    commit = plan_change(lake.table, Change([(3, "a", "x")]))
    path = next(one.path for one in files.slices() if one.path not in named(commit))
    lake.delete({path: [0]})
    assert lake.table.commit(commit).snapshot is None


def named(commit: Commit) -> set[str]:
    return {path for one in commit.rewrites for path in one.files.files["path"].to_pylist()}


def test_watermarks_survive_checkpoints_and_are_transactions_to_others(lake: DeltaLake) -> None:
    odd = Watermark("s3://x/ä", "9")
    lake.table.commit(plan_change(lake.table, replace(CHANGE, watermarks=(odd,))))
    lake.peer.create_checkpoint()
    lake.expire()
    assert lake.table.watermark("s3://x/ä") == "9"
    name = 'compact.watermark:["s3://x/ä", "9"]'
    assert lake.peer.transaction_version(name) == int(lake.table.snapshot().snapshot_id)


def test_a_reply_that_is_lost_is_found_in_the_log(lake: DeltaLake) -> None:
    before, commit = lake.rows(), plan_change(lake.table, CHANGE, marks=True)
    result = FaultyTable(lake.root, lose_reply(LOST)).commit(commit)
    assert result.snapshot == lake.table.snapshot()
    made_once(lake, commit)
    assert lake.rows() == CHANGE.apply(before)


def test_a_race_that_is_lost_to_rows_that_come_in_is_a_conflict(lake: DeltaLake) -> None:
    commit = plan_change(lake.table, CHANGE, marks=True)
    table = FaultyTable(lake.root, lose_race(lambda: lake.append(range(200, 210))))
    assert table.commit(commit).snapshot is None
    assert lake.table.find_commit(commit) is None
    assert lake.table.watermark("orders") is None


def test_a_race_that_is_lost_to_a_rewrite_of_other_files_is_run_again(lake: DeltaLake) -> None:
    before, commit = lake.rows(), plan_change(lake.table, Change([(3, "a", "x")]), marks=True)
    compaction = plan_all(lake.table)
    compaction = replace(compaction, rewrites=compaction.rewrites[1:])
    table = FaultyTable(lake.root, lose_race(lambda: lake.table.commit(compaction)))
    assert table.commit(commit).conflicts == ()
    made_once(lake, commit)
    assert lake.rows() == Change([(3, "a", "x")]).apply(before)


def test_a_request_of_a_dead_process_and_the_same_change_again(lake: DeltaLake) -> None:
    before, commit = lake.rows(), plan_change(lake.table, CHANGE, marks=True)
    requests: list[Put] = []
    dead = FaultyTable(lake.root, arrive_late(requests), fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        dead.commit(commit)
    assert lake.table.commit(commit).conflicts == ()
    with pytest.raises(ObjectExistsError):
        requests[0]()
    made_once(lake, commit)
    assert lake.rows() == CHANGE.apply(before)


def test_large_marks_are_in_a_file_that_is_found_again(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    lake.append(range(60_000))
    ids = np.random.default_rng(3).choice(60_000, 9_000, replace=False).tolist()
    commit = plan_change(lake.table, Change(deletes=ids), marks=True)
    appends = lose_race(lambda: lake.commit([]))
    assert FaultyTable(lake.root, appends, appends).commit(commit).conflicts == ()
    version = int(lake.table.snapshot().snapshot_id)
    landed = Path(vector_file(lake.root, commit.commit_id, version).path)
    assert set(lake.directory.glob("*.bin")) == {landed}
    assert len(lake.rows()) == 51_000


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before the vectors", "while it is staged", "after the put"])
def test_a_driver_that_is_killed_and_the_same_change_again(tmp_path: Path, moment: str) -> None:
    lake = DeltaLake(tmp_path)
    lake.append(range(60_000))
    ids = np.random.default_rng(3).choice(60_000, 9_000, replace=False).tolist()
    change = Change([(70_000, "a", "new")], deletes=ids)
    before, commit = lake.rows(), plan_change(lake.table, change, marks=True)
    die_committing(commit, lake.root, moment)
    assert (lake.table.find_commit(commit) is not None) == (moment == "after the put")
    assert lake.table.commit(commit).conflicts == ()
    lake.table.clean_commit(commit)
    made_once(lake, commit)
    assert lake.rows() == change.apply(before)
    assert len(list(lake.directory.glob("*.bin"))) == 1
