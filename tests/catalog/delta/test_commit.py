"""What a commit writes into the log, and what other writers may do meanwhile."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from catalog.delta.contents import app_id
from catalog.delta.log import LOG_DIRECTORY
from catalog.errors import CorruptTableError
from tests.catalog.conformance import expected, fill, group_of
from tests.catalog.delta.lakes import DeltaLake, commits, create_table
from tests.catalog.delta.tracked import FAR_FUTURE_MS, TrackedLake
from tests.catalog.groups import make_commit, plan_all, rewrite


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    return DeltaLake(tmp_path)


@pytest.fixture
def tracked(tmp_path: Path) -> TrackedLake:
    return TrackedLake(tmp_path)


def last_commit(lake: DeltaLake) -> list[dict[str, Any]]:
    return commits(lake.directory)[-1]


def all_of(actions: Sequence[Mapping[str, Any]], kind: str) -> list[Any]:
    return [one[kind] for one in actions if kind in one]


def test_actions_come_in_their_order_and_change_no_data(lake: DeltaLake) -> None:
    fill(lake)
    commit = plan_all(lake.table)
    lake.table.commit(commit)
    actions = last_commit(lake)
    assert [next(iter(one)) for one in actions] == (
        ["commitInfo"] + ["remove"] * 6 + ["add"] * 2 + ["txn"]
    )
    files = [*all_of(actions, "remove"), *all_of(actions, "add")]
    assert {one["dataChange"] for one in files} == {False}
    assert actions[-1]["txn"]["appId"] == app_id(commit.commit_id)
    assert actions[-1]["txn"]["version"] == 7


def test_the_commit_says_who_made_it_and_what_it_did(lake: DeltaLake) -> None:
    fill(lake)
    properties = (("compactor.version", "1.2.3"), ("compactor.job", "j"))
    commit = replace(plan_all(lake.table), properties=properties)
    lake.table.commit(commit)
    actions = last_commit(lake)
    (info,) = all_of(actions, "commitInfo")
    assert info["operation"] == "OPTIMIZE"
    assert (info["readVersion"], info["isBlindAppend"]) == (6, False)
    assert info["isolationLevel"] == "SnapshotIsolation"
    assert (info["engineInfo"], info["txnId"]) == ("compact/1.2.3", commit.commit_id)
    assert json.loads(info["userMetadata"]) == dict(properties)
    assert all(isinstance(one, str) for one in info["operationParameters"].values())
    metrics = info["operationMetrics"]
    assert all(isinstance(one, str) for one in metrics.values())
    assert (metrics["numRemovedFiles"], metrics["numAddedFiles"]) == ("6", "2")
    sizes = sorted(one["size"] for one in all_of(actions, "add"))
    assert [int(metrics[name]) for name in ("minFileSize", "maxFileSize")] == sizes
    assert int(metrics["numAddedBytes"]) == sum(sizes)
    assert lake.peer.history(1)[0]["operation"] == "OPTIMIZE"


def test_metrics_are_right_after_a_group_was_dropped(lake: DeltaLake) -> None:
    files = fill(lake)
    commit = plan_all(lake.table)
    lake.remove(files["a"][0])
    lake.table.commit(commit)
    metrics = last_commit(lake)[0]["commitInfo"]["operationMetrics"]
    assert (metrics["numRemovedFiles"], metrics["numAddedFiles"]) == ("3", "1")


def test_removes_carry_what_was_said_of_the_file(lake: DeltaLake) -> None:
    files = fill(lake, parts="a")["a"]
    lake.delete({files[0]: [1, 2]})
    before = {path: lake.add_of(path) for path in files}
    lake.table.commit(plan_all(lake.table))
    removes = {one["path"]: one for one in all_of(last_commit(lake), "remove")}
    for add in before.values():
        remove = removes[add["path"]]
        for name in ("stats", "partitionValues", "size"):
            assert remove[name] == add[name]
        assert remove.get("deletionVector") == add.get("deletionVector")
        assert remove["extendedFileMetadata"] is True
    info = last_commit(lake)[0]["commitInfo"]
    assert info["operationMetrics"]["numDeletionVectorsRemoved"] == "1"


def test_removes_carry_it_from_a_checkpoint_as_well(lake: DeltaLake) -> None:
    files = fill(lake, parts="a")["a"]
    lake.delete({files[0]: [1, 2]})
    before = {path: lake.add_of(path) for path in files}
    lake.expire()
    lake.table.commit(plan_all(lake.table))
    removes = {one["path"]: one for one in all_of(last_commit(lake), "remove")}
    for add in before.values():
        remove = removes[add["path"]]
        assert json.loads(remove["stats"]) == json.loads(add["stats"])
        assert remove["partitionValues"] == {"part": "a"}
        assert remove.get("deletionVector") == add.get("deletionVector")
    assert len(lake.rows()) == 28


def test_added_files_have_statistics_that_readers_skip_by(lake: DeltaLake) -> None:
    fill(lake, parts="a")
    lake.table.commit(plan_all(lake.table))
    (add,) = all_of(last_commit(lake), "add")
    stats = json.loads(add["stats"])
    assert stats["numRecords"] == 30
    assert (stats["minValues"]["id"], stats["maxValues"]["id"]) == (0, 29)
    found = pa.table(lake.peer.get_add_actions(flatten=True)).to_pylist()
    assert [(one["num_records"], one["max.id"]) for one in found] == [(30, 29)]
    assert pa.table(lake.peer.scan(predicate="id > 25")).num_rows == 4


def test_row_ids_are_fresh_above_the_high_water_mark(tracked: TrackedLake) -> None:
    fill(tracked, parts="ab")
    before = tracked.lineage()
    tracked.table.commit(plan_all(tracked.table))
    actions = last_commit(tracked)
    adds = all_of(actions, "add")
    assert [one["baseRowId"] for one in adds] == [60, 90]
    assert {one["defaultRowCommitVersion"] for one in adds} == {7}
    (domain,) = all_of(actions, "domainMetadata")
    assert domain["domain"] == "delta.rowTracking"
    assert json.loads(domain["configuration"]) == {"rowIdHighWaterMark": 119}
    assert actions[0]["commitInfo"]["tags"] == {"delta.rowTracking.preserved": "true"}
    assert all("baseRowId" in one for one in all_of(actions, "remove"))
    assert all("clusteringProvider" not in one for one in adds)
    assert tracked.lineage() == before


def test_row_ids_are_counted_anew_after_a_lost_race(tracked: TrackedLake) -> None:
    fill(tracked, parts="a")
    commit = plan_all(tracked.table)
    tracked.append(range(100, 110))
    before = tracked.lineage()
    tracked.table.commit(commit)
    (add,) = all_of(last_commit(tracked), "add")
    assert (add["baseRowId"], add["defaultRowCommitVersion"]) == (40, 5)
    assert tracked.lineage() == before


def test_times_in_the_log_grow_against_every_clock(tracked: TrackedLake) -> None:
    fill(tracked, parts="a")
    tracked.advance_clock()
    tracked.append(range(100, 110))
    result = tracked.table.commit(plan_all(tracked.table))
    info = last_commit(tracked)[0]["commitInfo"]
    assert next(iter(info)) == "inCommitTimestamp"
    assert info["inCommitTimestamp"] == FAR_FUTURE_MS + 1
    assert result.snapshot is not None
    assert result.snapshot.timestamp_ms == FAR_FUTURE_MS + 1


@pytest.mark.parametrize("change", ["protocol", "metaData", "configuration"])
def test_a_changed_table_is_planned_anew(lake: DeltaLake, change: str) -> None:
    fill(lake)
    commit = plan_all(lake.table)
    first = commits(lake.directory)[0]
    if change == "protocol":
        (protocol,) = all_of(first, "protocol")
        features = [*protocol["writerFeatures"], "appendOnly"]
        lake.commit([{"protocol": {**protocol, "writerFeatures": features}}])
    else:
        (metadata,) = all_of(first, "metaData")
        changed = {"schemaString": metadata["schemaString"].replace('"text"', '"txt"')}
        if change == "configuration":
            changed = {"configuration": {"delta.appendOnly": "false"}}
        lake.commit([{"metaData": {**metadata, **changed}}])
    head = lake.table.snapshot()
    result = lake.table.commit(commit)
    assert (result.snapshot, len(result.conflicts)) == (None, 2)
    assert "changed" in result.conflicts[0].reason
    assert lake.table.snapshot() == head


def test_metadata_that_says_the_same_is_no_change(lake: DeltaLake) -> None:
    fill(lake)
    commit = plan_all(lake.table)
    (metadata,) = all_of(commits(lake.directory)[0], "metaData")
    fields = json.loads(metadata["schemaString"])
    fields["fields"][0]["metadata"]["delta.identity.highWaterMark"] = 17
    lake.commit([{"metaData": metadata}])
    lake.commit([{"metaData": {**metadata, "schemaString": json.dumps(fields)}}])
    assert lake.table.commit(commit).conflicts == ()


def test_another_table_in_its_place_conflicts(lake: DeltaLake) -> None:
    fill(lake)
    commit = plan_all(lake.table)
    (metadata,) = all_of(commits(lake.directory)[0], "metaData")
    lake.commit([{"metaData": {**metadata, "id": "another"}}])
    assert len(lake.table.commit(commit).conflicts) == 2


def test_a_file_with_other_row_ids_is_another_file(tracked: TrackedLake) -> None:
    files = fill(tracked, parts="a")["a"]
    commit = plan_all(tracked.table)
    add = tracked.add_of(files[1])
    tracked.commit([{"remove": tracked.remove_of(files[1])}, {"add": {**add, "baseRowId": 500}}])
    result = tracked.table.commit(commit)
    assert len(result.conflicts) == 1
    assert files[1] in result.conflicts[0].reason


def test_a_file_that_is_added_again_as_it_was_is_the_same(lake: DeltaLake) -> None:
    files = fill(lake, parts="a")["a"]
    commit = plan_all(lake.table)
    add = {**lake.add_of(files[1]), "stats": '{"numRecords":10}'}
    lake.commit([{"add": add}])
    before = lake.rows()
    assert lake.table.commit(commit).conflicts == ()
    assert lake.rows() == before


def test_paths_are_removed_as_they_were_spelled(lake: DeltaLake) -> None:
    for number in range(3):
        lake.append(range(number * 10, number * 10 + 10), "k 1/ä%")
    lake.delete({next(iter(lake.paths())): [0]})
    before = lake.rows()
    stored = {
        one["add"]["path"] for some in commits(lake.directory) for one in some if "add" in one
    }
    assert any("%25" in path for path in stored)
    assert lake.table.commit(plan_all(lake.table)).conflicts == ()
    assert {one["path"] for one in all_of(last_commit(lake), "remove")} == stored
    assert lake.rows() == before
    assert len(lake.paths()) == 1


def test_a_commit_is_found_after_its_file_was_cleaned_from_the_log(lake: DeltaLake) -> None:
    files = fill(lake)
    commit = plan_all(lake.table)
    lake.remove(files["a"][0])
    result = lake.table.commit(commit)
    lake.append(range(100, 110))
    lake.expire()
    found = lake.table.find_commit(commit)
    assert found is not None
    assert found.committed == result.committed == (group_of(commit, files["b"][0]),)
    assert lake.table.commit(commit).committed == result.committed
    assert [one for one in commits(lake.directory) if "OPTIMIZE" in json.dumps(one)] == []


def test_outputs_that_show_other_rows_are_refused_before_anything_is_put(lake: DeltaLake) -> None:
    fill(lake, parts="a")
    commit = plan_all(lake.table)
    wrong = replace(commit.rewrites[0], rows_dropped=1)
    with pytest.raises(CorruptTableError):
        lake.table.commit(replace(commit, rewrites=(wrong,)))
    assert lake.table.snapshot() == commit.base


def test_a_faulty_peer_in_the_log_is_told_of(lake: DeltaLake) -> None:
    fill(lake, parts="a")
    lake.peer.optimize.compact()
    fill(lake, parts="a")
    result = lake.table.commit(plan_all(lake.table))
    assert len(result.warnings) == 1
    assert "delta-rs:py-1.6.6" in result.warnings[0]


def test_nobody_is_warned_of_sound_writers(lake: DeltaLake) -> None:
    fill(lake, parts="a")
    assert lake.table.commit(plan_all(lake.table)).warnings == ()


def test_a_table_without_partitions(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path, creates=False)
    create_table(lake.directory, configuration={}, partition_columns=())
    for number in range(3):
        lake.append(range(number * 10, number * 10 + 10), "x")
    assert lake.table.commit(plan_all(lake.table)).conflicts == ()
    assert lake.rows() == expected(range(30), "x")


def test_a_legacy_protocol(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path, creates=False)
    for number in range(3):
        rows = pa.table({"id": [number], "part": ["a"], "text": ["t"]})
        write_deltalake(str(lake.directory), rows, mode="append", partition_by=["part"])
    assert lake.table.commit(plan_all(lake.table)).conflicts == ()
    assert len(lake.rows()) == 3
    assert len(lake.paths()) == 1


def test_nothing_is_left_in_the_log_but_versions(lake: DeltaLake) -> None:
    fill(lake)
    lake.table.commit(plan_all(lake.table))
    names = {one.name for one in (lake.directory / LOG_DIRECTORY).iterdir()}
    assert names == {f"{version:020}.json" for version in range(8)}


def test_files_of_two_partitions_cannot_become_one(lake: DeltaLake) -> None:
    fill(lake)
    snapshot = lake.table.snapshot()
    inventory = lake.table.inventory(snapshot)
    commit = make_commit(snapshot, rewrite(lake.table, snapshot, inventory))
    with pytest.raises(CorruptTableError, match="2 partitions"):
        lake.table.commit(commit)
    assert lake.table.snapshot() == snapshot


def test_a_null_that_the_log_leaves_out_is_a_null(lake: DeltaLake) -> None:
    lake.append([0, 1], part=None)
    first = next(iter(lake.paths()))
    lake.append([2, 3], part=None)
    unnamed = {**lake.add_of(first), "partitionValues": {}}
    lake.commit([{"remove": lake.remove_of(first)}, {"add": unnamed}])
    assert lake.table.commit(plan_all(lake.table)).conflicts == ()
    (added,) = all_of(last_commit(lake), "add")
    assert added["partitionValues"] == {"part": None}
    assert [row[:2] for row in lake.rows()] == [(one, None) for one in range(4)]
