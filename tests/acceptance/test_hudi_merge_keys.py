"""Spark finds the rows that were merged under the record keys and paths that it makes itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.acceptance.hudi_judged import QUIET, Judged, metadata_is_true
from tests.acceptance.program import compact
from tests.acceptance.test_hudi_spark import named
from tests.judges.hudi_session import HudiSession, shared_hudi_session
from tests.judges.hudi_tables import Write

pytestmark = [
    pytest.mark.slow,
    pytest.mark.interop,
    pytest.mark.thorough,
    pytest.mark.timeout(900),
]

Row = tuple[Any, ...]

PLAIN = ("id", "ts", "part", "amount")
LEVELS = ("id", "kind", "ts", "part", "region", "amount")
STRANGE = (
    ("schlüssel", 60, "p1", 0.5),
    ("a,b:c", 60, "p 9", 1.5),
    ("👍", 60, "größe%", 2.5),
    ("__null__", 60, "p1", 3.5),
    ("new,id:1", 60, "p1", 4.5),
)
SPARSE = (
    ("a1", 2, 60, "p 1", "us", 0.5),
    ("a,b:c", -7, 60, None, "us", 1.5),
    ("", 3, 60, "größe", "us", 2.5),
    ("b,id:9", 4, 60, None, "us", 3.5),
)
ENCODED = (*SPARSE, ("a5", 1, 60, "p:2/3%=?#[x]{y}^", "eu/west", 4.5))
BROUGHT: dict[str, tuple[tuple[str, ...], Sequence[Row]]] = {
    "v9_mor_strange_keys": (PLAIN, STRANGE),
    "v9_mor_two_levels": (LEVELS, ENCODED),
    "v9_mor_hive_style": (LEVELS, ENCODED),
    "v6_mor_hive_style": (LEVELS, SPARSE),
}
BUCKETS = ("v6_mor_bucket_index", "v9_mor_bucket_index", "v9_mor_consistent_bucket_index")


@pytest.fixture(scope="module")
def hudi() -> HudiSession:
    return shared_hudi_session()


def literal(value: object) -> str:
    if value is None:
        return "CAST(NULL AS STRING)"
    if isinstance(value, str):
        return f"'{value}'"
    return f"{value}D" if isinstance(value, float) else f"{value}"


def told(names: Sequence[str], rows: Sequence[Row]) -> Write:
    """Return the write by which Spark brings the same rows."""
    values = ", ".join(f"({', '.join(map(literal, row))})" for row in rows)
    columns = ", ".join("CAST(ts AS BIGINT) AS ts" if one == "ts" else one for one in names)
    query = f"SELECT {columns} FROM VALUES {values} AS t({', '.join(names)})"
    return Write(query, "upsert", options=QUIET)


def merge(table: Judged, names: Sequence[str], rows: Sequence[Row]) -> None:
    folder = table.directory / "changes"
    folder.mkdir(exist_ok=True)
    changes = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    if "kind" in names:
        at = changes.schema.get_field_index("kind")
        changes = changes.set_column(at, "kind", changes["kind"].cast(pa.int32()))
    pq.write_table(changes, folder / f"{len(list(folder.iterdir()))}.parquet")
    keys = [text for one in ("id", "kind") if one in names for text in ("--key", one)]
    operations = ["--op-column", "op"] if "op" in names else []
    arguments = ["table/", "--changes", "changes/", *keys, *operations, "--yes"]
    assert compact(table.directory, "merge", *arguments, "--verify", "full")


def read(table: Judged, names: Sequence[str]) -> dict[Row, Row]:
    stored = table.spark.read(table.path)
    rows = [tuple(row.values()) for row in stored.select(names).to_pylist()]
    keys = [row[:2] if "kind" in names else row[:1] for row in rows]
    assert len(set(keys)) == len(keys), "a key is there twice"
    held = stored.select(["_hoodie_record_key"])
    assert len(set(held["_hoodie_record_key"].to_pylist())) == len(rows)
    return dict(zip(keys, rows, strict=True))


@pytest.mark.parametrize("name", BROUGHT)
def test_spark_updates_rows_that_were_merged(name: str, hudi: HudiSession, tmp_path: Path) -> None:
    table = Judged.of(hudi, named(name), tmp_path)
    names, rows = BROUGHT[name]
    width = 2 if "kind" in names else 1
    expected = read(table, names) | {row[:width]: row for row in rows}
    merge(table, names, rows)
    assert read(table, names) == expected
    metadata_is_true(table)
    later = [(*row[:-1], row[-1] + 100.0) for row in rows]
    table.spark.write(told(names, later), table.declared, table.path)
    assert read(table, names) == expected | {row[:width]: row for row in later}
    merge(table, names, rows)
    assert read(table, names) == expected
    metadata_is_true(table)


@pytest.mark.parametrize("name", BUCKETS)
def test_spark_updates_rows_of_buckets_that_were_merged(
    name: str, hudi: HudiSession, tmp_path: Path
) -> None:
    table = Judged.of(hudi, named(name), tmp_path)
    expected = read(table, PLAIN)
    row = ("a1", 60, "p1", 100.5)
    del expected[("a3",)]
    merge(table, (*PLAIN, "op"), [(*row, "U"), ("a3", 60, "p1", 0.0, "D")])
    assert read(table, PLAIN) == expected | {("a1",): row}
    metadata_is_true(table)
    later = [("a1", 61, "p1", 7.5), ("a3", 61, "p1", 8.5), ("b1", 61, "p2", 9.5)]
    table.spark.write(told(PLAIN, later), table.declared, table.path)
    assert read(table, PLAIN) == expected | {one[:1]: one for one in later}
