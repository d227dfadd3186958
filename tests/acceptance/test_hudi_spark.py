"""Tables of Hudi that Spark has made: we compact and cluster them, Spark judges and goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.acceptance.hudi_judged import Judged, Rows, metadata_is_true
from tests.judges.hudi_declared import RUN_CLUSTERING, TABLES
from tests.judges.hudi_session import HudiSession, shared_hudi_session
from tests.judges.hudi_tables import EVENT_TIME, HudiTable, Write, options

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]

# What is refused, and the word by which.
REFUSED = {
    "v9_mor_hfile_logs": "hfile data",
    "v6_mor_custom_payload": "OverwriteNonDefaultsWithLatestAvroPayload",
    "v9_mor_no_meta_fields": "virtual keys",
}
ACCEPTED = [one for one in TABLES if one.name not in REFUSED]
# A compaction of version 6 must not be planned beside a write that is not through.
BLOCKED = "v6_mor_failed_write"
# What Spark has planned to cluster.
CLUSTERED = [one for one in ACCEPTED if RUN_CLUSTERING in one.then]
COMPACTED = [
    one for one in ACCEPTED if one.merges_on_read and one not in CLUSTERED and one.name != BLOCKED
]
COPIED = [one for one in ACCEPTED if not one.merges_on_read and one not in CLUSTERED]
# Of each kind one, judged by every `make interop`; all of them by `make interop-all`.
OFTEN = {
    "v6_mor",
    "v6_mor_compaction_pending",
    "v9_mor",
    "v9_mor_bucket_index",
    "v9_mor_partial_updates",
    "v9_mor_types",
    "v6_cow",
    "v9_cow_record_index_scattered",
    "v6_cow_clustering_pending",
    "v9_mor_clustering_pending",
}
# Several small files in a partition, some with logs.
SCATTERED = (
    "v6_cow_scattered",
    "v8_cow_scattered",
    "v9_cow_scattered",
    "v6_mor_scattered",
    "v9_mor_scattered",
    "v9_cow_record_index_scattered",
)
# Of each way of life one: Spark writes on, compacts, cleans, archives and rolls back.
LIVED_ON = {
    "v6_mor",
    "v8_mor",
    "v9_mor",
    "v6_mor_commit_time",
    "v9_mor_no_metadata",
    "v9_mor_written_while_compaction_pending",
    "v6_mor_written_while_compaction_pending",
    "v9_mor_record_index_compaction_pending",
    "v9_mor_archived",
    "v8_mor_record_index",
    "v9_mor_bucket_index",
    "v9_mor_global_bloom_index",
    "v9_mor_simple_index",
    "v9_mor_two_levels",
    "v9_mor_failed_write",
    "v9_mor_types",
    "v9_mor_strange_keys",
    "v9_mor_evolved",
    "v9_mor_cdc",
    "v6_cow",
    "v9_cow",
    "v6_cow_failed_write",
    *SCATTERED,
}


@pytest.fixture(scope="module")
def hudi() -> HudiSession:
    return shared_hudi_session()


@pytest.fixture
def judged(hudi: HudiSession, tmp_path: Path) -> Callable[[HudiTable], Judged]:
    def make(declared: HudiTable) -> Judged:
        return Judged.of(hudi, declared, tmp_path)

    return make


def named(name: str) -> HudiTable:
    return next(one for one in TABLES if one.name == name)


def each(tables: Iterable[HudiTable]) -> list[ParameterSet]:
    return [
        pytest.param(one, id=one.name, marks=() if one.name in OFTEN else pytest.mark.thorough)
        for one in tables
    ]


@pytest.mark.parametrize("declared", each(COMPACTED))
def test_spark_reads_what_was_compacted_and_goes_on(
    declared: HudiTable, judged: Callable[[HudiTable], Judged]
) -> None:
    table = judged(declared)
    before = table.rows(), table.since_the_start()
    assert table.compact()["status"] == "succeeded"
    is_as_before(table, *before)
    assert table.optimized() == table.rows()
    if declared.name in LIVED_ON:
        goes_on(table)


@pytest.mark.parametrize("declared", each(COPIED))
def test_spark_reads_what_was_merged_and_goes_on(
    declared: HudiTable, judged: Callable[[HudiTable], Judged]
) -> None:
    table = judged(declared)
    before = table.rows(), table.since_the_start()
    assert table.compact()["status"] == "succeeded"
    is_as_before(table, *before)
    if declared.name in LIVED_ON:
        goes_on(table)


@pytest.mark.parametrize("declared", each(map(named, SCATTERED)))
def test_rows_that_were_put_in_order_are_the_same_for_spark(
    declared: HudiTable, judged: Callable[[HudiTable], Judged]
) -> None:
    table = judged(declared)
    before = table.rows(), table.since_the_start()
    report = table.compact("--strategy", "sort", "--sort-by", "id desc")
    assert report["files_after"] < report["files_before"]
    is_as_before(table, *before)
    goes_on(table)


@pytest.mark.parametrize("declared", each(CLUSTERED))
def test_what_spark_has_planned_to_cluster_is_carried_out(
    declared: HudiTable, judged: Callable[[HudiTable], Judged]
) -> None:
    table = judged(declared)
    before = table.rows(), table.since_the_start()
    report = table.compact()
    assert (report["status"], report["files_after"]) == ("succeeded", 3)
    is_as_before(table, *before)
    assert [one for one in table.call("show_clustering") if one["state"] != "COMPLETED"] == []
    # Spark finds nothing that is left of its plan.
    table.serve(RUN_CLUSTERING)
    assert table.rows() == before[0]
    # Spark refuses to update what is to be clustered.
    table.spark.take(RUN_CLUSTERING, declared, table.twin)
    goes_on(table)


def test_what_spark_clusters_just_now_is_left_to_it(
    judged: Callable[[HudiTable], Judged],
) -> None:
    table = judged(named("v9_cow_clustering_pending"))
    before = table.rows(), table.since_the_start()
    folder = table.path / ".hoodie" / "timeline"
    (planned,) = folder.glob("*.clustering.requested")
    planned.with_suffix(".inflight").touch()
    assert table.compact()["groups"]["committed"] == 0
    assert table.rows() == before[0]
    table.serve(RUN_CLUSTERING)
    is_as_before(table, *before)


def test_a_write_of_version_6_that_failed_is_waited_for(
    judged: Callable[[HudiTable], Judged],
) -> None:
    table = judged(named(BLOCKED))
    before = table.rows()
    answer = table.compact(code=11)
    assert "is not completed" in str(answer["problems"])
    assert table.rows() == before
    # The next writer rolls it back.
    goes_on(table)


def test_spark_finds_by_our_filters_every_key_that_was_there(
    hudi: HudiSession, tmp_path: Path
) -> None:
    """So many keys that the filter of a base file has several rows, and starts anew on them."""
    keys = "SELECT concat('ключ-', id) AS id, {}L AS ts, 'p1' AS part, 0.5D AS amount FROM range"
    first = Write(f"{keys.format(10)}(130000)", "bulk_insert")
    second = Write(f"{keys.format(11)}(0, 130000, 5)")
    declared = HudiTable("many_keys", options(9, "MERGE_ON_READ", EVENT_TIME), (first, second))
    table = Judged(hudi, declared, tmp_path)
    for step in declared.steps:
        hudi.take(step, declared, table.path)
    assert table.compact()["groups"]["committed"] == 1
    hudi.write(Write(f"{keys.format(12)}(0, 130000, 100)"), declared, table.path)
    versions = hudi.read(table.path)["ts"].value_counts().to_pylist()
    assert {one["values"]: one["counts"] for one in versions} == {
        10: 104_000,
        11: 24_700,
        12: 1_300,
    }


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_and_not_touched(
    name: str, judged: Callable[[HudiTable], Judged]
) -> None:
    table = judged(named(name))
    before = contents(table.path)
    answer = table.compact(code=1)
    assert REFUSED[name] in str(answer)
    assert contents(table.path) == before


def is_as_before(table: Judged, before: Rows, since_the_start: Rows) -> None:
    """Every way of reading finds the same rows, and the metadata table is true."""
    assert table.rows() == before
    assert table.since_the_start() == since_the_start
    if table.declared.has_statistics:
        for chosen, rows in table.sought():
            assert rows == [row for row in before if chosen(row)]
    metadata_is_true(table)


def goes_on(table: Judged) -> None:
    """Spark writes on top, compacts, cleans, archives and rolls back as if we had never been."""
    table.live_on()
    expected = table.shown(table.twin)
    assert table.shown(table.path) == expected
    if table.declared.merges_on_read:
        table.compact_with_spark()
        assert table.shown(table.path) == expected
    table.write_last()
    assert table.compact()["status"] == "succeeded"
    table.clean_and_archive()
    metadata_is_true(table)
    table.write_last()
    if table.declared.keeps_its_version:
        table.roll_back_last()
    # The last write was the same twice.
    table.write_last(table.twin)
    assert table.shown(table.path) == table.shown(table.twin)


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
