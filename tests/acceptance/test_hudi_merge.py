"""Changes merged into tables of Hudi that Spark has made: it finds the rows of the model."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from _pytest.mark import ParameterSet

from catalog.hudi.table import HudiTable
from catalog.location import Location
from compactor.jobs.failpoints import VARIABLE, Failpoint
from tests.acceptance.hudi_judged import INCREMENTAL, QUIET, Judged, metadata_is_true
from tests.acceptance.program import compact, start
from tests.acceptance.test_hudi_race import BY_FILE, Place, Writer, writing
from tests.acceptance.test_hudi_spark import LIVED_ON, goes_on, named
from tests.judges.hudi_session import HudiSession, shared_hudi_session
from tests.judges.hudi_tables import Write, changes

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]

# An update, a row that comes to another partition, rows that are new, also of a key that was
# deleted before and in a partition that was not there, and deletes. They are newer than what is
# stored: Spark, which makes them elsewhere, goes by that.
UPSERTS = (
    ("a1", 50, "p1", 100.5),
    ("b1", 50, "p1", 101.5),
    ("d1", 50, "p3", 102.5),
    ("a4", 50, "p1", 103.5),
    ("e1", 50, "p9", 104.5),
)
DELETES = ("a3", "c1", "zz")
# Each partition has a record index of its own there: rows of new ones are refused.
DIVIDED = "v9_mor_partitioned_record_index"
OFTEN = {"v6_mor", "v9_cow", "v9_mor"}
MERGED = (
    *sorted(OFTEN),
    "v6_cow",
    "v8_mor_record_index",
    "v8_cow",
    "v8_mor",
    "v6_cow_scattered",
    "v6_mor_archived",
    "v6_mor_commit_time",
    "v6_mor_unpartitioned",
    "v9_cow_archived",
    "v9_cow_record_index_scattered",
    "v9_mor_archived",
    "v9_mor_bloom_in_metadata",
    "v9_mor_compacted",
    "v9_mor_global_bloom_index",
    "v9_mor_no_metadata",
    DIVIDED,
    "v9_mor_scattered",
    "v9_mor_simple_index",
    "v9_mor_unpartitioned_commit_time",
)
RACE_SECONDS = 30.0
KILLED = (
    Failpoint.PLAN_JOURNALED,
    Failpoint.ATTEMPT_SUBMITTED,
    Failpoint.RESULT_JOURNALED,
    Failpoint.BATCH_JOURNALED,
    Failpoint.BATCH_COMMITTED,
)
# Each place in the work on one type of table, the middle of it on the other, too.
KILLED_OFTEN = {
    *(("v9_mor", place) for place in KILLED[1:]),
    ("v6_cow", Failpoint.RESULT_JOURNALED),
    ("v6_cow", Failpoint.BATCH_JOURNALED),
}

Values = dict[str, tuple[Any, ...]]


@pytest.fixture(scope="module")
def hudi() -> HudiSession:
    return shared_hudi_session()


@pytest.fixture
def judged(hudi: HudiSession, tmp_path: Path) -> Callable[[str], Judged]:
    def make(name: str) -> Judged:
        table = Judged.of(hudi, named(name), tmp_path)
        bring_changes(tmp_path / "changes", upserts_of(table))
        return table

    return make


def each(names: Iterable[str]) -> list[ParameterSet]:
    return [pytest.param(one, marks=() if one in OFTEN else pytest.mark.thorough) for one in names]


def upserts_of(table: Judged) -> Sequence[tuple[Any, ...]]:
    return UPSERTS[:-1] if table.declared.name == DIVIDED else UPSERTS


def bring_changes(directory: Path, upserts: Sequence[tuple[Any, ...]]) -> None:
    directory.mkdir()
    rows = [(*one, "U") for one in upserts] + [(one, 20, "p1", 0.0, "D") for one in DELETES]
    write_changes(directory / "1.parquet", rows)


def write_changes(path: Path, rows: Sequence[tuple[Any, ...]]) -> None:
    names = ("id", "ts", "part", "amount", "op")
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    pq.write_table(table, path)


MERGE = ("merge", "table/", "--changes", "changes/", "--key", "id", "--op-column", "op", "--yes")


def merge(table: Judged, code: int = 0) -> dict[str, Any]:
    return compact(table.directory, *MERGE, "--verify", "full", code=code)


def values(table: Judged) -> Values:
    """Return the rows that Spark reads, by their key."""
    rows = table.spark.read(table.path).select(["id", "ts", "part", "amount"]).to_pylist()
    found = {row["id"]: tuple(row.values()) for row in rows}
    assert len(found) == len(rows), "a key is there twice"
    return found


def expected(table: Judged, before: Values) -> Values:
    kept = {key: row for key, row in before.items() if key not in DELETES}
    return kept | {row[0]: row for row in upserts_of(table)}


def merge_with_spark(table: Judged, before: Values) -> None:
    """Let Spark make the same changes to the twin."""
    moved = [before[key] for key in (*DELETES, "b1") if key in before]
    for operation, rows in (("delete", moved), ("upsert", upserts_of(table))):
        told = [f"('{key}', {ts + 10}L, '{part}', {amount}D)" for key, ts, part, amount in rows]
        if operation == "upsert":
            told = [f"('{key}', {ts}L, '{part}', {amount}D)" for key, ts, part, amount in rows]
        write = Write(changes(*told), operation, options=QUIET)
        table.spark.write(write, table.declared, table.twin)


@pytest.mark.parametrize("name", each(MERGED))
def test_spark_reads_what_was_merged_and_goes_on(
    name: str, judged: Callable[[str], Judged]
) -> None:
    table = judged(name)
    before = values(table)
    last = max(table.completed("commit", "deltacommit", "replacecommit"))
    ended = HudiTable(str(table.path), Location.parse(str(table.path)), {}).snapshot().snapshot_id
    report = merge(table)
    assert report["status"] == "succeeded"
    assert values(table) == expected(table, before)
    stored = table.spark.read(table.path)
    ours = stored.filter(pc.greater(stored["_hoodie_commit_time"], last))
    assert set(ours["id"].to_pylist()) == {row[0] for row in upserts_of(table)}
    names = stored["_hoodie_file_name"].to_pylist()
    assert len(set(stored["_hoodie_commit_seqno"].to_pylist())) == len(names)
    since = {**INCREMENTAL, "hoodie.datasource.read.begin.instanttime": ended}
    changed = table.spark.read(table.path, since)
    assert set(changed["id"].to_pylist()) == {row[0] for row in upserts_of(table)}
    metadata_is_true(table)
    assert merge(table)["rows_added"] == 0
    merge_with_spark(table, before)
    assert by_value(table.shown(table.path)) == by_value(table.shown(table.twin))
    if name in LIVED_ON:
        goes_on(table)


def by_value(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=repr)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["v6_mor", "v8_mor_record_index", "v9_cow", "v9_mor"])
def test_a_merge_that_spark_takes_back_is_made_again(
    name: str, judged: Callable[[str], Judged]
) -> None:
    table = judged(name)
    before = values(table)
    saved = max(table.completed("commit", "deltacommit"))
    merge(table)
    after = values(table)
    if table.declared.keeps_its_version:
        table.roll_back_last()
        assert values(table) == before
        assert merge(table)["rows_added"]
        assert values(table) == after
    with table.as_it_was_made():
        table.call("create_savepoint", commit_time=saved)
        table.call("rollback_to_savepoint", instant_time=saved)
    assert values(table) == before
    assert merge(table)["rows_added"]
    assert values(table) == after
    table.write_last()
    metadata_is_true(table)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        pytest.param(*one, marks=() if one in KILLED_OFTEN else pytest.mark.thorough)
        for one in product(("v6_cow", "v9_mor"), KILLED)
    ],
)
def test_what_a_killed_merge_left_is_finished_by_us_or_rolled_back_by_spark(
    name: str, place: Failpoint, judged: Callable[[str], Judged]
) -> None:
    table = judged(name)
    before = values(table)
    process = start(table.directory, *MERGE, extra={VARIABLE: place})
    told = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL, told
    assert values(table) in (before, expected(table, before))
    if place in (Failpoint.ATTEMPT_SUBMITTED, Failpoint.BATCH_JOURNALED):
        # A single writer rolls back what is pending.
        table.write_last()
        before = values(table)
    assert merge(table)["status"] == "succeeded"
    assert values(table) == expected(table, before)
    metadata_is_true(table)
    table.write_last()
    # Its index is one of each partition, and a key had moved.
    rows = table.spark.read(table.path).select(["id", "part"]).to_pylist()
    assert len({tuple(row.values()) for row in rows}) == len(rows)
    assert not list((table.path / ".hoodie").rglob("*.marker.*"))


@pytest.mark.parametrize(
    "name",
    [
        "v9_mor",
        pytest.param("v6_cow", marks=pytest.mark.thorough),
        pytest.param("v9_cow", marks=pytest.mark.thorough),
    ],
)
def test_every_row_is_accounted_for_beside_a_writer(
    name: str, judged: Callable[[str], Judged]
) -> None:
    """Spark and we change rows of the same file groups, under the lock of the table."""
    table = judged(name)
    place = Place(table, table.path, "table/", BY_FILE)
    merge(table)
    writer = Writer(place, place.amounts(), rests=name.startswith("v6"))
    ours: dict[str, float | None] = {}
    merged, end = 0, time.monotonic() + RACE_SECONDS
    with writing(writer):
        while not writer.is_through and (time.monotonic() < end or min(merged, writer.writes) < 3):
            key, number = f"m{len(ours) % 5}{merged % 3}", time.monotonic_ns()
            ours[key] = None if merged % 3 == 2 else float(number)
            part, amount = f"p{ord(key[-1]) % 2}", ours[key] or 0.0
            change = (key, 20, part, amount, "D" if ours[key] is None else "U")
            write_changes(table.directory / "changes" / f"{number}.parquet", [change])
            process = start(table.directory, *MERGE)
            told = process.communicate(timeout=600)
            # Succeeded, or every attempt lost to the writer.
            assert process.returncode in (0, 11), told
            merged += process.returncode == 0
    assert merge(table)["status"] == "succeeded"
    there = {key: amount for key, amount in ours.items() if amount is not None}
    assert place.amounts() == writer.expected | there
    metadata_is_true(table)
    assert writer.writes > writer.conflicts
