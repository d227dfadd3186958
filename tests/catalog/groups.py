"""Rewrites for tests of commits: groups of file slices written anew, plainly, with pyarrow."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.commits import Commit, OutputFile, Rewrite
from catalog.model import KEEP_ALL, Filling, Inventory, Snapshot
from catalog.schema import FIELD_ID_KEY, TableSchema
from catalog.table import Table, TableFiles


def partitions(inventory: Inventory) -> dict[str, Inventory]:
    """Split an inventory by partition."""
    keys = inventory.files["partition_key"].to_pylist()
    return {
        key: inventory.take(np.flatnonzero(np.array(keys) == key)) for key in dict.fromkeys(keys)
    }


def pick(inventory: Inventory, *paths: str) -> Inventory:
    """Return the slices of some files, in the order given."""
    rows = {path: row for row, path in enumerate(inventory.files["path"].to_pylist())}
    return inventory.take(np.array([rows[path] for path in paths], dtype=np.int64))


def read_group(files: TableFiles, group: Inventory) -> tuple[pa.Table, int]:
    """Read the surviving rows of slices; return them and how many were dropped."""
    selections = files.selections(group)
    parts, dropped = [files.schema.arrow.empty_table()], 0
    for one in group.slices():
        rows = pq.ParquetFile(files.locate(one.path).path).read()
        rows = filled(files.schema, rows, files.fillings(one))
        selection = selections.get(one.path, KEEP_ALL)
        mask = selection.kept(0, rows.num_rows)
        dropped += len(selection.dropped)
        if mask is not None:
            rows = rows.filter(pa.array(mask))
        parts.append(rows)
    return pa.concat_tables(parts), dropped


def filled(schema: TableSchema, rows: pa.Table, fillings: Mapping[int, Filling]) -> pa.Table:
    """Return all rows of a file as readers of the table see them, columns found by name."""
    columns = []
    for field in schema.arrow:
        number = int(field.metadata[FIELD_ID_KEY])
        is_stored = field.name in rows.column_names and number not in schema.unstored
        values = rows[field.name].to_pylist() if is_stored else [None] * rows.num_rows
        filling = fillings.get(number)
        if filling is not None and (filling.fills_nulls or not is_stored):
            start, step = filling.start.as_py(), filling.step
            derived = [start + step * at if step else start for at in range(rows.num_rows)]
            values = [derived[at] if one is None else one for at, one in enumerate(values)]
        columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=schema.arrow)


def write_output(files: TableFiles, partition_key: str, rows: pa.Table) -> OutputFile:
    """Write rows as a new data file of a partition."""
    location = files.new_location(partition_key, f"{uuid.uuid4()}.parquet")
    path = Path(location.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = [field for field in files.schema.written if field.name in rows.column_names]
    columns = [rows[field.name] for field in stored]
    given = [field.with_type(rows.schema.field(field.name).type) for field in stored]
    pq.write_table(pa.table(columns, pa.schema(given)), path)
    return OutputFile(str(location), path.stat().st_size, rows.num_rows)


def rewrite(table: Table, snapshot: Snapshot, group: Inventory, group_id: str = "g") -> Rewrite:
    """Write the surviving rows of slices into one new file, none when no row survives."""
    files = table.files(snapshot)
    rows, dropped = read_group(files, group)
    key = group.files["partition_key"][0].as_py()
    added = (write_output(files, key, rows),) if rows.num_rows else ()
    return Rewrite(group_id, group, added, dropped)


def make_commit(snapshot: Snapshot, *rewrites: Rewrite, commit_id: str | None = None) -> Commit:
    """Return a commit under a new id."""
    return Commit(commit_id or str(uuid.uuid4()), snapshot, rewrites, (("compactor.job-id", "j"),))


def plan_all(table: Table) -> Commit:
    """Return a commit that rewrites every partition into one file each."""
    snapshot = table.snapshot()
    groups = partitions(table.inventory(snapshot)).items()
    return make_commit(
        snapshot, *(rewrite(table, snapshot, group, f"g{key}") for key, group in groups)
    )


def paths(inventory: Inventory) -> set[str]:
    """Return the paths of the data files."""
    return set(inventory.files["path"].to_pylist())


def outputs(rewrites: Iterable[Rewrite]) -> set[str]:
    """Return the paths of the outputs."""
    return {output.path for one in rewrites for output in one.added}
