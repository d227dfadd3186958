"""The in-memory table keeps the rules of every table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from catalog.memory import MemoryTable
from tests.catalog.conformance import Row, TableConformance, expected
from tests.catalog.groups import read_group

SCHEMA = pa.schema(
    [
        pa.field(name, kind, metadata={b"PARQUET:field_id": str(number).encode()})
        for number, (name, kind) in enumerate(
            [("id", pa.int64()), ("part", pa.string()), ("text", pa.string())], 1
        )
    ]
)


class MemoryLake:
    has_deletes = True

    def __init__(self, directory: Path) -> None:
        self.table = MemoryTable(directory, SCHEMA)

    def append(self, ids: Sequence[int], part: str = "a") -> str:
        columns = zip(*expected(ids, part), strict=True)
        return self.table.append(
            pa.table([*map(list, columns)], names=SCHEMA.names), f"part={part}"
        )

    def delete(self, positions: Mapping[str, Sequence[int]]) -> None:
        for path, some in positions.items():
            self.table.delete_rows(path, some)

    def remove(self, path: str) -> None:
        self.table.remove(path)

    def expire(self) -> None:
        self.table.expire()

    def rows(self, snapshot_id: str | None = None) -> list[Row]:
        snapshot = self.table.snapshot(snapshot_id)
        rows, _ = read_group(self.table.files(snapshot), self.table.inventory(snapshot))
        return sorted(tuple(row.values()) for row in rows.to_pylist())


class TestMemoryTable(TableConformance):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> MemoryLake:
        return MemoryLake(tmp_path)
