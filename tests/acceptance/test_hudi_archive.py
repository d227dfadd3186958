"""Tables of version 6 whose timelines we have archived: Spark reads them, archives and goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.acceptance.hudi_judged import (
    INCREMENTAL,
    MOVED,
    QUIET,
    Judged,
    Rows,
    metadata_is_true,
    spelled,
)
from tests.acceptance.program import compact
from tests.judges.hudi_declared import TABLES
from tests.judges.hudi_session import shared_hudi_session

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]

# The metadata table keeps what it has not folded: its every commit is.
OFTEN = {"hoodie.metadata.compact.max.delta.commits": "1"}
KEPT = {
    "hoodie.keep.min.commits": "3",
    "hoodie.keep.max.commits": "4",
    "hoodie.clean.commits.retained": "2",
}
PLAIN = {**QUIET, **OFTEN, "hoodie.archive.automatic": "false"}
ARCHIVING = {**KEPT, **OFTEN, "hoodie.clean.automatic": "true", "hoodie.archive.automatic": "true"}


@pytest.fixture(params=["v6_mor_archived", pytest.param("v6_cow", marks=pytest.mark.thorough)])
def judged(request: pytest.FixtureRequest, tmp_path: Path) -> Judged:
    declared = next(one for one in TABLES if one.name == request.param)
    table = Judged.of(shared_hudi_session(), declared, tmp_path)
    properties = table.path / ".hoodie" / "hoodie.properties"
    kept = "".join(f"{key}={value}\n" for key, value in KEPT.items())
    properties.write_text(properties.read_text() + kept)
    return table


def write(table: Judged, times: int, options: Mapping[str, str]) -> None:
    """Let Spark make the last write again and again."""
    last = replace(table.writes[-1], options=options)
    for _ in range(times):
        table.spark.write(last, table.declared, table.path)


def archive(table: Judged) -> int:
    """Archive as `compact upkeep` does; return how many instants have left the timeline."""
    answer = compact(table.directory, "upkeep", "table/", "--only", "archive")
    (done,) = answer["operations"]
    return int(done["files"])


def archived(table: Judged) -> dict[str, Mapping[str, object]]:
    """Return what Spark reads of archived commits, by their times; each is there once."""
    span = {"start_ts": "20200101000000000", "end_ts": "20300101000000000"}
    rows = table.call("show_archived_commits", limit=1000, **span)
    found = {row["commit_time"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def since(table: Judged, instant: str) -> Rows:
    """Return what an incremental query finds behind an instant."""
    options = {**INCREMENTAL, "hoodie.datasource.read.begin.instanttime": instant}
    return spelled(table.spark.read(table.path, options), MOVED)


def commits(table: Judged) -> list[str]:
    return table.completed("commit", "deltacommit")


def test_spark_lives_with_our_archive(judged: Judged) -> None:
    write(judged, 4, PLAIN)
    rows, before = judged.rows(), commits(judged)
    told, earlier = judged.call("show_commits", limit=1000), archived(judged)
    later = since(judged, before[-3])

    left = archive(judged)

    gone = [one for one in before if one not in commits(judged)]
    assert left >= len(gone) > 0
    found = archived(judged)
    assert found.keys() == earlier.keys() | set(gone)
    for one in told:
        del one["action"]
        assert one["commit_time"] not in gone or found[one["commit_time"]] == one
    assert judged.rows() == rows
    assert since(judged, before[-3]) == later
    metadata_is_true(judged)
    assert archive(judged) == 0

    write(judged, 3, ARCHIVING)
    rows = judged.rows()
    assert archived(judged).keys() > found.keys()
    assert archive(judged) == 0
    assert judged.rows() == rows
    metadata_is_true(judged)


def test_a_savepoint_is_kept_and_rolled_back_to(judged: Judged) -> None:
    write(judged, 2, PLAIN)
    saved = commits(judged)[-1]
    rows = judged.rows()
    with judged.as_it_was_made():
        judged.call("create_savepoint", commit_time=saved)
    write(judged, 5, PLAIN)
    archive(judged)
    assert saved in commits(judged)
    with judged.as_it_was_made():
        judged.call("rollback_to_savepoint", instant_time=saved)
    assert judged.rows() == rows
    archive(judged)
    assert judged.rows() == rows
