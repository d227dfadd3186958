"""The same file of changes through Spark's `MERGE INTO` and through `compact merge`: same rows."""

from __future__ import annotations

import datetime
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.acceptance.merges import Lake
from tests.acceptance.program import compact
from tests.compactor.merge.model import as_bag, canonical
from tests.judges.spark_session import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(600)]

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("price", pa.decimal128(20, 3)),
        ("score", pa.float64()),
        ("at", pa.timestamp("us", "UTC")),
        ("tags", pa.list_(pa.string())),
        ("place", pa.struct([("x", pa.int64()), ("y", pa.string())])),
    ]
)
NAN, NOON = float("nan"), datetime.datetime(2026, 3, 29, 12, tzinfo=datetime.UTC)
# Few values, so that keys meet; Spark, too, takes NaN for NaN and -0.0 for 0.0.
NAMES = ["", "a", "A", "a ", "x" * 70, None]
SCORES = [0.0, -0.0, NAN, 1.5, float("-inf"), None]
PRICES = [Decimal("0.000"), Decimal("1.500"), Decimal("-12345678901234567.125"), None]
MOMENTS = [NOON, NOON + datetime.timedelta(microseconds=1), None]
CASES = [
    (("id",), "copy-on-write"),
    (("id", "name"), "merge-on-read"),
    (("name", "score"), "copy-on-write"),
    (("price", "at", "id"), "merge-on-read"),
]


def drawn(count: int, key: tuple[str, ...], drawing: random.Random) -> list[dict[str, Any]]:
    """Return rows of different keys."""
    rows: dict[Any, dict[str, Any]] = {}
    for number in range(count):
        row = {
            "id": drawing.choice([None, *range(40)]),
            "name": drawing.choice(NAMES),
            "price": drawing.choice(PRICES),
            "score": drawing.choice(SCORES),
            "at": drawing.choice(MOMENTS),
            "tags": drawing.choice([None, [], [None, str(number)]]),
            "place": drawing.choice([None, {"x": number, "y": None}]),
        }
        rows[tuple(canonical(row[name]) for name in key)] = row
    return list(rows.values())


@pytest.mark.parametrize(("key", "mode"), CASES, ids=["-".join(key) for key, _ in CASES])
@pytest.mark.parametrize("kind", ["iceberg", "delta"])
def test_spark_merges_the_same_file_into_the_same_rows(
    kind: str, key: tuple[str, ...], mode: str, tmp_path: Path, spark: SparkSession
) -> None:
    drawing = random.Random(7)
    lake = Lake(kind, tmp_path)
    base = pa.Table.from_pylist(drawn(120, key, drawing), SCHEMA)
    rows = drawn(60, key, drawing)
    changes = pa.Table.from_pylist(rows, SCHEMA)
    ops = [drawing.choice(["I", "U", "D"]) for _ in rows]
    lake.make(SCHEMA, [base.slice(0, 30), base.slice(30)])
    lake.arrive("001", changes.append_column("op", pa.array(ops)))
    pq.write_table(base, tmp_path / "base.parquet")

    name = "_".join([*key, *mode.split("-")])
    peer = f"lake.ns.{name}" if kind == "iceberg" else f"delta.`{tmp_path / 'peer'}`"
    spark.run(
        f"CREATE TABLE {peer} USING {kind} AS SELECT * FROM parquet.`{tmp_path}/base.parquet`"
    )
    spark.run(
        f"MERGE INTO {peer} t USING parquet.`{tmp_path}/changes` s"
        f" ON {' AND '.join(f't.{column} <=> s.{column}' for column in key)}"
        " WHEN MATCHED AND s.op = 'D' THEN DELETE"
        f" WHEN MATCHED THEN UPDATE SET {', '.join(f't.{one} = s.{one}' for one in SCHEMA.names)}"
        f" WHEN NOT MATCHED AND s.op <> 'D' THEN INSERT ({', '.join(SCHEMA.names)})"
        f" VALUES ({', '.join(f's.{one}' for one in SCHEMA.names)})"
    )
    wanted = as_bag(spark.rows(f"SELECT * FROM {peer}").to_pylist())

    target = "lake.ns.t" if kind == "iceberg" else str(lake.path)
    arguments = ["merge", target, "--changes", str(tmp_path / "changes"), "--op-column", "op"]
    arguments += [text for column in key for text in ("--key", column)]
    document = compact(tmp_path, *arguments, "--write-mode", mode, "--yes", "--verify", "full")
    assert document["verified"]
    assert as_bag(lake.rows()) == wanted
    assert wanted != as_bag(base.to_pylist())
