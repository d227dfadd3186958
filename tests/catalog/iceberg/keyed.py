"""Tables with equality deletes, as streaming writers leave them, and what is to be seen of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from catalog.open import open_table
from catalog.table import Table as OurTable
from tests.catalog.iceberg.lakes import BY_PART, SCHEMA, rows_of
from tests.iceberg_tables import catalog_properties, commit_deletes, make_table, write_key_deletes


def ours(directory: Path) -> OurTable:
    return open_table("lake.ns.t", catalog_properties(directory))


def dropped(table: OurTable) -> dict[str, list[int]]:
    """Return the positions that are deleted, by path."""
    snapshot = table.snapshot()
    found = table.files(snapshot).selections(table.inventory(snapshot))
    return {path: one.dropped.tolist() for path, one in found.items()}


def kept_rows(table: OurTable) -> list[Any]:
    """Return the rows that are left by our own reading, sorted."""
    snapshot = table.snapshot()
    gone, found = dropped(table), []
    for one in table.inventory(snapshot).slices():
        location = table.files(snapshot).locate(one.path)
        stored = pq.ParquetFile(location.path).read().to_pylist()
        found += [row for at, row in enumerate(stored) if at not in gone.get(one.path, ())]
    return sorted(map(repr, found))


def streamed(directory: Path, *, parts: str = "ab") -> Table:
    """Make a partitioned table as upserts leave it: new rows, and deletes of the old ones."""
    table = make_table(directory, SCHEMA, spec=BY_PART)
    for number in range(3):
        for part in parts:
            table.append(rows_of(range(number * 10, number * 10 + 10), part))
        keys = pa.table({"id": [number * 10 + 3, 0]})
        delete_keys(table, keys, parts)
    return table


def delete_keys(table: Table, keys: pa.Table, parts: str) -> None:
    """Delete rows of some partitions by keys, in one snapshot."""
    likes = {one.partition[0]: one for one in live_files(table)}
    commit_deletes(table, *(write_key_deletes(table, keys, like=likes[part]) for part in parts))


def live_files(table: Table) -> list[Any]:
    """Return the data files, also of a table that the library does not plan."""
    snapshot = table.refresh().current_snapshot()
    assert snapshot is not None
    return [
        entry.data_file
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
        if entry.data_file.content == 0
    ]
