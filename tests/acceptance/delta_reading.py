"""Rows of Delta tables in one spelling, whoever has read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from catalog.delta.protocol import tracks_rows
from catalog.delta.table import DeltaTable
from catalog.open import open_table
from compactor.rewrite.read import SliceReader

Rows = list[tuple[Any, ...]]


def our_rows(path: str) -> tuple[list[str], Rows]:
    """Read a table as we do: its column names, those of row tracking last, and its rows."""
    table = open_table(path)
    assert isinstance(table, DeltaTable)
    snapshot = table.snapshot()
    files, inventory = table.files(snapshot), table.inventory(snapshot)
    reader = SliceReader.of(files, inventory, files.schema)
    batches = [batch for one in inventory.slices() for batch in reader.batches(one)]
    state = table.load()[1]
    names = [field["name"] for field in json.loads(state.metadata.schema_text)["fields"]]
    if tracks_rows(state.protocol, state.metadata):
        names += ["row_id", "row_commit_version"]
    return names, spelled(pa.Table.from_batches(batches).rename_columns(names), names)


def spelled(table: pa.Table, names: Sequence[str]) -> Rows:
    """Return rows ordered by id: structs without names, for mapped columns have others."""
    rows = [tuple(_spelled(row[name]) for name in names) for row in table.select(names).to_pylist()]
    identity = list(names).index("id")
    return sorted(rows, key=lambda row: row[identity])


def _spelled(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(_spelled(one) for one in value.values())
    if isinstance(value, list | tuple):
        return [_spelled(one) for one in value]
    return value
