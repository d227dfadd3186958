"""Tables of Hudi that Spark has made: we compact and cluster them, Spark judges and goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from compactor.jobs.failpoints import Failpoint
from tests.acceptance.hudi_judged import INCREMENTAL, Judged, Rows, metadata_is_true
from tests.judges.hudi_declared import TABLES
from tests.judges.hudi_session import HudiSession, shared_hudi_session
from tests.judges.hudi_tables import HudiTable

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]

# What is refused, and the word by which.
REFUSED = {
    "v9_mor_hfile_logs": "HFile",
    "v6_mor_custom_payload": "OverwriteNonDefaultsWithLatestAvroPayload",
    "v9_mor_no_meta_fields": "populate.meta.fields",
}
COMPACTED = [one for one in TABLES if one.merges_on_read and one.name not in REFUSED]
COPIED = [one for one in TABLES if not one.merges_on_read and one.name not in REFUSED]
# The ends of a job that leave something on the timeline.
KILLED = (
    Failpoint.ATTEMPT_SUBMITTED,
    Failpoint.RESULT_JOURNALED,
    Failpoint.BATCH_JOURNALED,
    Failpoint.BATCH_COMMITTED,
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
    "v6_mor_failed_write",
    "v9_mor_failed_write",
    "v9_mor_types",
    "v9_mor_strange_keys",
    "v9_mor_evolved",
    "v9_mor_cdc",
    "v6_cow",
    "v9_cow",
    "v6_cow_failed_write",
    "v9_cow_record_index_clustering_pending",
}


@pytest.fixture(scope="module")
def hudi() -> HudiSession:
    return shared_hudi_session()


@pytest.fixture
def judged(hudi: HudiSession, tmp_path: Path) -> Callable[[HudiTable], Judged]:
    def make(declared: HudiTable) -> Judged:
        return Judged.of(hudi, declared, tmp_path)

    return make


def by_name(declared: HudiTable) -> str:
    return declared.name


@pytest.mark.parametrize("declared", COMPACTED, ids=by_name)
def test_spark_reads_what_was_compacted_and_goes_on(
    declared: HudiTable, judged: Callable[[HudiTable], Judged]
) -> None:
    table = judged(declared)
    before = table.rows()
    assert table.compact()["status"] == "succeeded"
    is_as_before(table, before)
    assert table.optimized() == before
    if declared.name in LIVED_ON:
        goes_on(table)


@pytest.mark.parametrize("declared", COPIED, ids=by_name)
def test_spark_reads_what_was_merged_and_goes_on(
    declared: HudiTable, judged: Callable[[HudiTable], Judged]
) -> None:
    table = judged(declared)
    before = table.rows()
    assert table.compact()["status"] == "succeeded"
    is_as_before(table, before)
    if declared.name in LIVED_ON:
        goes_on(table)


@pytest.mark.parametrize("place", KILLED)
@pytest.mark.parametrize("name", ["v6_mor", "v9_mor"])
def test_what_a_killed_run_left_is_finished_by_spark_or_by_us(
    name: str, place: Failpoint, judged: Callable[[HudiTable], Judged]
) -> None:
    table = judged(next(one for one in TABLES if one.name == name))
    before = table.rows()
    table.compact(code=-signal.SIGKILL, failpoint=place)
    assert table.rows() == before
    table.live_on()
    expected = table.shown(table.twin)
    assert table.shown(table.path) == expected
    table.compact_with_spark()
    assert table.shown(table.path) == expected
    assert table.compact()["status"] == "succeeded"
    assert table.shown(table.path) == expected
    assert [one for one in table.call("show_compaction") if one["state"] != "COMPLETED"] == []
    metadata_is_true(table)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_and_not_touched(
    name: str, judged: Callable[[HudiTable], Judged]
) -> None:
    table = judged(next(one for one in TABLES if one.name == name))
    before = contents(table.path)
    answer = table.compact(code=1)
    assert REFUSED[name] in str(answer)
    assert contents(table.path) == before


def is_as_before(table: Judged, before: Rows) -> None:
    """Every way of reading finds the same rows, and the metadata table is true."""
    assert table.rows() == before
    assert table.rows(INCREMENTAL) == before
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
    table.roll_back_last()
    # The last write was the same twice.
    table.write_last(table.twin)
    assert table.shown(table.path) == table.shown(table.twin)


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
