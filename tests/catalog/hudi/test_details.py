"""What commits wrote and plans want, in both of their forms."""

import json
import pickle

import pytest

from catalog.avro.container import AvroFile
from catalog.errors import CorruptTableError
from catalog.hudi.avro_schemas import Kind
from catalog.hudi.avro_writing import container
from catalog.hudi.details import read_clustering_plan, read_commit, read_compaction_plan

STAT = {
    "fileId": "f-0",
    "path": "p/.f-0_1.log.2_0-1-2",
    "prevCommit": "null",
    "numWrites": 3,
    "numDeletes": 1,
    "fileSizeInBytes": 99,
    "logFiles": [".f-0_1.log.2_0-1-2"],
}
COMMIT = {
    "partitionToWriteStats": {"p": [STAT]},
    "operationType": "UPSERT",
    "compacted": True,
    "extraMetadata": {"schema": "{}", "other": ""},
}


@pytest.mark.parametrize("form", ["json", "avro"])
def test_both_forms_of_a_commit_say_the_same(form):
    data = json.dumps(COMMIT).encode() if form == "json" else container(Kind.COMMIT, [COMMIT])
    found = pickle.loads(pickle.dumps(read_commit("1.commit", data)))
    (stat,) = found.write_stats
    assert (stat.file_id, stat.partition_path) == ("f-0", "p")
    assert (stat.name, stat.row_count, stat.deleted_count) == (".f-0_1.log.2_0-1-2", 3, 1)
    assert (stat.size_bytes, stat.log_files) == (99, (".f-0_1.log.2_0-1-2",))
    assert (found.operation, found.is_compacted, found.schema) == ("UPSERT", True, "{}")
    assert found.extra["other"] == ""


def test_a_replacement_says_what_it_replaced():
    data = json.dumps({"partitionToReplaceFileIds": {"p": ["a", "b"], "q": []}}).encode()
    assert read_commit("1.replacecommit", data).replaced == {"p": ("a", "b"), "q": ()}


def test_what_a_commit_says_nothing_of_is_empty():
    found = read_commit(
        "1.commit", b'{"extraMetadata":{"a":null},"partitionToWriteStats":{"p":null}}'
    )
    assert (found.extra, found.write_stats, found.operation) == ({"a": ""}, (), "")


def test_an_empty_commit_did_nothing():
    found = read_commit("1.commit", b"")
    assert (found.write_stats, found.replaced, found.schema) == ((), {}, "")


@pytest.mark.parametrize("data", [b"torn {", b"[]", b"Obj\x01\x02"])
def test_what_is_no_commit_is_damaged(data):
    with pytest.raises(CorruptTableError, match=r"1\.commit"):
        read_commit("1.commit", data)


def test_plans_name_files_without_their_folders():
    operation = {
        "baseInstantTime": "1",
        "deltaFilePaths": ["file:/t/p/.a_1.log.1", ".a_2.log.1"],
        "dataFilePath": "a_0_1.parquet",
        "fileId": "a",
        "partitionPath": "p",
        "metrics": {"TOTAL_IO_MB": 2.0},
    }
    data = container(Kind.COMPACTION_PLAN, [{"operations": [operation], "version": 2}])
    (one,) = read_compaction_plan("3.compaction.requested", data).slices
    assert (one.base_file, one.log_files) == ("a_0_1.parquet", (".a_1.log.1", ".a_2.log.1"))
    assert (one.file_id, one.base_instant, one.metrics) == ("a", "1", {"TOTAL_IO_MB": 2.0})


def test_a_clustering_has_groups_and_a_strategy():
    group = {
        "slices": [
            {"dataFilePath": "file:/t/p/a_0_1.parquet", "fileId": "a", "partitionPath": "p"}
        ],
        "numOutputFileGroups": 2,
    }
    plan = {
        "inputGroups": [group],
        "strategy": {"strategyClassName": "S", "strategyParams": {"x": "id"}},
        "preserveHoodieMetadata": True,
    }
    data = container(Kind.CLUSTERING_PLAN, [{"operationType": "CLUSTER", "clusteringPlan": plan}])
    found = read_clustering_plan("3.clustering.requested", data)
    assert [one.base_file for one in found.slices] == ["a_0_1.parquet"]
    assert found.groups[0][1] == 2
    assert (found.strategy, found.parameters, found.preserves_metadata) == ("S", {"x": "id"}, True)


@pytest.mark.parametrize("data", [b"", b"{}"])
def test_a_replacement_without_a_plan_is_no_clustering(data):
    assert read_clustering_plan("3.replacecommit.requested", data) is None


def test_fields_may_be_stepped_over():
    file = AvroFile.parse("x", container(Kind.COMMIT, [COMMIT]))
    found = file.the_record(unwanted=frozenset(["fileId"]))
    assert found["partitionToWriteStats"]["p"][0]["fileId"] is None
    assert found["partitionToWriteStats"]["p"][0]["numWrites"] == 3
