"""A real table side on local files, the smallest there can be: what rewriting needs of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.layout import FileLayout
from catalog.location import Location
from catalog.model import DATA_FILES, DELETE_FILES, FileSlice, Filling, Inventory, Selection
from catalog.partitioning import keys_of_rows
from catalog.schema import TableSchema
from catalog.storage import Storage
from compactor.rewrite.task import Proof, RewriteTask

MIB = 1 << 20
LAYOUT = FileLayout(
    target_file_size_bytes=512 * MIB,
    row_group_size_bytes=128 * MIB,
    row_group_rows_max=1 << 20,
    page_size_bytes=MIB,
    dictionary_page_size_bytes=2 * MIB,
    codec="zstd",
    codec_level=3,
    footer_metadata=(("owner", "tests"),),
)


@dataclass(frozen=True)
class LocalTable:
    """`TableFiles` on a directory; deletes and fillings are given, not read."""

    directory: str
    schema: TableSchema
    layout: FileLayout = LAYOUT
    storage: Storage = field(default_factory=Storage)
    dropped: tuple[tuple[str, tuple[int, ...]], ...] = ()
    fixed: tuple[tuple[int, Filling], ...] = ()

    def locate(self, path: str) -> Location:
        return Location.parse(path)

    def selections(self, files: Inventory) -> Mapping[str, Selection]:
        wanted = set(files.files["path"].to_pylist())
        return {
            path: Selection.of(np.array(rows, np.int64))
            for path, rows in self.dropped
            if path in wanted
        }

    def fillings(self, file: FileSlice) -> Mapping[int, Filling]:
        return dict(self.fixed)

    def partition_keys(self, rows: pa.Table) -> pa.Array:
        return keys_of_rows([], lambda _: "p", rows=rows.num_rows)

    def new_location(self, partition_key: str, file_name: str) -> Location:
        return Location.parse(f"{self.directory}/out/{file_name}")

    def dropping(self, path: str, rows: Sequence[int]) -> LocalTable:
        return replace(self, dropped=(*self.dropped, (path, tuple(rows))))


def with_ids(schema: pa.Schema) -> pa.Schema:
    """Number all fields of a schema in the order of a walk, starting from 1."""
    numbers = iter(range(1, 1 << 20))
    return pa.schema([_numbered(one, numbers) for one in schema])


def _numbered(one: pa.Field, numbers: Any) -> pa.Field:
    metadata = {"PARQUET:field_id": str(next(numbers))}
    kind = one.type
    if pa.types.is_struct(kind):
        kind = pa.struct([_numbered(child, numbers) for child in kind.fields])
    elif pa.types.is_map(kind):
        kind = pa.map_(_numbered(kind.key_field, numbers), _numbered(kind.item_field, numbers))
    elif pa.types.is_list(kind):
        kind = pa.list_(_numbered(kind.value_field, numbers))
    return pa.field(one.name, kind, one.nullable, metadata)


def write_file(path: Path, rows: pa.Table, **options: Any) -> str:
    """Write a data file as a table's writer would; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, **{"write_page_checksum": True, "store_schema": False, **options})
    return str(path)


def inventory(paths: Sequence[str]) -> Inventory:
    """Describe data files as metadata that tells the truth would."""
    sizes = [Path(path).stat().st_size for path in paths]
    counts = [pq.read_metadata(path).num_rows for path in paths]
    return described(list(zip(paths, sizes, counts, strict=True)))


def described(files: Sequence[tuple[str, int, int]]) -> Inventory:
    """Make the inventory of (path, size in bytes, row count)."""
    rows = [
        {
            "path": path,
            "size_bytes": size,
            "row_count": count,
            "partition_key": "p",
            "partition": "",
            "sequence_number": 1,
            "written_at_ms": None,
            "deletes": [],
        }
        for path, size, count in files
    ]
    return Inventory(pa.Table.from_pylist(rows, DATA_FILES), DELETE_FILES.empty_table())


def make_task(
    table: LocalTable,
    paths: Sequence[str],
    *,
    target_bytes: int = 512 * MIB,
    proof: Proof = Proof.FULL,
    files: Inventory | None = None,
) -> RewriteTask:
    return RewriteTask(
        table=table,
        partition_key="p",
        files=files or inventory(paths),
        attempt_id="job-1-a",
        target_file_size_bytes=target_bytes,
        proof=proof,
    )


def output_files(table: LocalTable) -> list[Path]:
    return sorted(Path(table.directory, "out").glob("*"))
