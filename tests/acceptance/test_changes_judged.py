"""Changes of rows as other engines see them: they read what we commit, and go on from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from catalog.commits import Watermark
from catalog.delta.table import DeltaTable
from catalog.location import Location
from catalog.table import Table
from tests.catalog.changes import Change, Row, plan_change
from tests.catalog.conformance import expected, fill
from tests.catalog.delta.lakes import DeltaLake
from tests.catalog.groups import plan_all
from tests.catalog.iceberg.lakes import IcebergLake
from tests.judges.delta_engines import READERS as DELTA_READERS
from tests.judges.engines import READERS
from tests.judges.spark_session import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(600)]

# Rewritten, marked, marked again, added to, and rewritten with what was marked.
CHANGES = [
    (Change([(3, "a", "one"), (14, "b", "one"), (100, "a", "one")], [21, 7]), False),
    (Change([(4, "a", "two"), (15, "b", "two")], [22, 8, 100]), True),
    (Change([(4, "a", "three"), (3, "b", "three")], [9, 44]), True),
    (Change([(200, "b", "four")]), True),
    (Change([(200, "a", "five"), (15, "b", "five")], [10]), False),
]


def commit_all(table: Table, rows: Sequence[Row]) -> tuple[list[str], list[list[Row]]]:
    """Commit all changes; return the snapshots, and the rows that each should have."""
    snapshots, states = [], [list(rows)]
    for number, (change, marks) in enumerate(CHANGES):
        marked = replace(change, watermarks=(Watermark("orders", str(number)),))
        result = table.commit(plan_change(table, marked, marks=marks))
        assert result.snapshot is not None
        snapshots.append(result.snapshot.snapshot_id)
        states.append(change.apply(states[-1]))
    return snapshots, states[1:]


def as_rows(table: pa.Table) -> list[Row]:
    columns = (table[name].to_pylist() for name in ("id", "part", "text"))
    return sorted(zip(*columns, strict=True))


@pytest.mark.parametrize("engine", READERS)
def test_engines_read_changes_of_iceberg_tables(tmp_path: Path, engine: str) -> None:
    lake = IcebergLake(tmp_path, 2)
    fill(lake)
    snapshots, states = commit_all(lake.table, lake.rows())
    compacted = lake.table.commit(plan_all(lake.table)).snapshot
    assert compacted is not None
    metadata = lake.other.metadata_location
    # Spark takes its time to start: the others read every state.
    wanted = list(zip([*snapshots, compacted.snapshot_id], [*states, states[-1]], strict=True))
    for snapshot_id, rows in wanted[2:4] if engine == "spark" else wanted:
        found = READERS[engine](metadata, int(snapshot_id), tmp_path)
        assert as_rows(found) == rows, snapshot_id


@pytest.mark.parametrize("engine", DELTA_READERS)
def test_engines_read_changes_of_delta_tables(tmp_path: Path, engine: str) -> None:
    lake = DeltaLake(tmp_path)
    fill(lake)
    _, states = commit_all(lake.table, lake.rows())
    assert as_rows(DELTA_READERS[engine](str(lake.directory))) == states[-1]
    lake.table.commit(plan_all(lake.table))
    assert as_rows(DELTA_READERS[engine](str(lake.directory))) == states[-1]


def test_spark_goes_on_with_a_delta_table_that_was_changed(
    tmp_path: Path, spark: SparkSession
) -> None:
    path = tmp_path / "table"
    spark.run(
        f"CREATE TABLE delta.`{path}` (id BIGINT NOT NULL, part STRING, text STRING) USING delta"
        " PARTITIONED BY (part) TBLPROPERTIES ('delta.enableDeletionVectors' = 'true',"
        " 'delta.enableRowTracking' = 'true', 'delta.checkpointInterval' = '2')"
    )
    for first, part in ((0, "a"), (10, "b"), (20, "a")):
        values = ", ".join(map(str, expected(range(first, first + 10), part)))
        spark.run(f"INSERT INTO delta.`{path}` VALUES {values}")
    table = DeltaTable("spark", Location.parse(str(path)), {})

    def rows(version: str | None = None) -> list[Row]:
        at = "" if version is None else f" VERSION AS OF {version}"
        return as_rows(spark.rows(f"SELECT id, part, text FROM delta.`{path}`{at}"))

    def ids() -> dict[int, int]:
        query = f"SELECT id, _metadata.row_id AS row_id FROM delta.`{path}`"
        found = spark.rows(query).to_pydict()
        return dict(zip(found["id"], found["row_id"], strict=True))

    before, known = rows(), ids()
    snapshots, states = commit_all(table, before)
    for snapshot_id, state in zip(snapshots, states, strict=True):
        assert rows(snapshot_id) == state
    found = ids()
    changed = frozenset().union(*(change.ids for change, _ in CHANGES))
    assert {one: found[one] for one in found if one not in changed} == {
        one: known[one] for one in known if one not in changed
    }
    assert len(set(found.values())) == len(found)
    history = spark.rows(f"DESCRIBE HISTORY delta.`{path}` LIMIT 5")
    assert history["operation"].to_pylist() == ["MERGE", "WRITE", "MERGE", "MERGE", "MERGE"]
    spark.run(
        f"MERGE INTO delta.`{path}` t USING (SELECT * FROM VALUES (4L, 'a', 'spark'),"
        " (500L, 'b', 'spark') AS v(id, part, text)) s ON t.id = s.id WHEN MATCHED THEN UPDATE"
        " SET text = s.text WHEN NOT MATCHED THEN INSERT *"
    )
    spark.run(f"DELETE FROM delta.`{path}` WHERE id = 5")
    expected_rows = Change([(4, "a", "spark"), (500, "b", "spark")], [5]).apply(states[-1])
    assert rows() == expected_rows
    last = Change([(4, "b", "ours")], [500])
    marked = replace(last, watermarks=(Watermark("orders", "9"),))
    assert table.commit(plan_change(table, marked, marks=True)).conflicts == ()
    spark.run(f"OPTIMIZE delta.`{path}`")
    assert rows() == last.apply(expected_rows)
    assert table.watermark("orders") == "9"


def test_spark_checks_what_it_can_be_asked_to(tmp_path: Path, spark: SparkSession) -> None:
    """A table with a constraint and one with an identity column take no new rows from us."""
    for name, columns, after in (
        (
            "constraint",
            "id BIGINT, part STRING, text STRING",
            "ADD CONSTRAINT positive CHECK (id > 0)",
        ),
        ("identity", "id BIGINT GENERATED BY DEFAULT AS IDENTITY, part STRING, text STRING", ""),
        ("generated", "id BIGINT, part STRING, text STRING GENERATED ALWAYS AS (part)", ""),
    ):
        path = tmp_path / name
        spark.run(f"CREATE TABLE delta.`{path}` ({columns}) USING delta")
        if after:
            spark.run(f"ALTER TABLE delta.`{path}` {after}")
        table = DeltaTable("spark", Location.parse(str(path)), {})
        commit = plan_change(table, Change([(1, "a", "a")]))
        with pytest.raises(Exception, match=r"positive|id is an identity|text is generated"):
            table.commit(commit)
