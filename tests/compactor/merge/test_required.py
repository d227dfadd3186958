"""Nulls never come into columns that a table declares as required, on either format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from compactor.errors import ChangesRefusedError
from compactor.jobs.store import open_store
from compactor.merge.choice import WriteMode
from compactor.merge.rules import MergeRules
from runtime.connect import connect
from tests.acceptance.merges import Lake, merge

INNER = [pa.field("x", pa.int64(), nullable=False), pa.field("y", pa.string())]
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("v", pa.string(), nullable=False),
        pa.field("place", pa.struct(INNER)),
        pa.field("tags", pa.list_(pa.field("element", pa.string(), nullable=False))),
    ]
)
# As changes come: whatever is in them, they may hold nulls.
GIVEN = pa.schema(
    [
        ("id", pa.int64()),
        ("v", pa.string()),
        ("place", pa.struct([("x", pa.int64()), ("y", pa.string())])),
        ("tags", pa.list_(pa.string())),
        ("op", pa.string()),
    ]
)
STORED = {"id": 1, "v": "old", "place": {"x": 1, "y": None}, "tags": ["a"]}
NEW: dict[str, Any] = {"id": 2, "v": "new", "place": None, "tags": [], "op": "U"}
WRONG: list[dict[str, Any]] = [
    {"id": None},
    {"v": None},
    {"place": {"x": None, "y": "y"}},
    {"tags": [None]},
]


def merged(lake: Lake, directory: Path) -> int:
    rules = MergeRules(("id",), op_column="op")
    with connect("inline") as runtime, open_store(f"sqlite:///{directory}/jobs.db") as store:
        return merge(lake, rules, runtime=runtime, store=store, mode=WriteMode.AUTO).rows_added


@pytest.mark.parametrize("kind", ["iceberg", "delta"])
def test_nulls_do_not_come_into_required_columns(kind: str, tmp_path: Path) -> None:
    lake = Lake(kind, tmp_path)
    lake.make(SCHEMA, [pa.Table.from_pylist([STORED], SCHEMA)])
    for wrong in WRONG:
        lake.arrive("1", pa.Table.from_pylist([NEW, {**NEW, **wrong}], GIVEN))
        with pytest.raises(ChangesRefusedError, match="required"):
            merged(lake, tmp_path)
        assert lake.rows() == [STORED]
    lake.arrive("1", pa.Table.from_pylist([NEW, {"id": 3, "op": "U"}], GIVEN).drop_columns(["v"]))
    with pytest.raises(ChangesRefusedError, match="'v' is required"):
        merged(lake, tmp_path)
    lake.arrive("1", pa.Table.from_pylist([NEW, {**NEW, "id": 1, "place": STORED["place"]}], GIVEN))
    assert merged(lake, tmp_path) == 2
    partial = pa.table({"id": [1], "op": ["U"], "tags": [["b"]]})
    lake.arrive("2", partial)
    assert merged(lake, tmp_path) == 1
    rows = {row["id"]: row for row in lake.rows()}
    assert rows[1] == {"id": 1, "v": "new", "place": STORED["place"], "tags": ["b"]}
    assert rows[2] == {name: value for name, value in NEW.items() if name != "op"}
