"""The in-memory table keeps the rules of every table, whatever features it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.memory import ROW_ID, ROW_VERSION, Features, MemoryTable
from tests.catalog.changing import ChangedLineage, Changing
from tests.catalog.conformance import Row, RowLineage, TableConformance, expected
from tests.catalog.groups import pick, read_group

SCHEMA = pa.schema(
    [
        pa.field(name, kind, metadata={b"PARQUET:field_id": str(number).encode()})
        for number, (name, kind) in enumerate(
            [("id", pa.int64()), ("part", pa.string()), ("text", pa.string())], 1
        )
    ]
)
PLAIN = Features()


class MemoryLake:
    has_deletes = has_sequence_numbers = True
    first_snapshot_id = ""

    def __init__(self, directory: Path, features: Features = PLAIN) -> None:
        self.table = MemoryTable(directory, SCHEMA, features=features)

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
        return sorted(
            (row["id"], row["part"], row["text"]) for row in self._read(snapshot_id).to_pylist()
        )

    def lineage(self, snapshot_id: str | None = None) -> dict[int, tuple[int, int]]:
        return {
            row["id"]: (row[ROW_ID.name], row[ROW_VERSION.name])
            for row in self._read(snapshot_id).to_pylist()
        }

    def update(self, path: str, positions: Sequence[int], text: str) -> str:
        snapshot = self.table.snapshot()
        files, inventory = self.table.files(snapshot), self.table.inventory(snapshot)
        group = pick(inventory, path)
        rows = read_group(files, group)[0].to_pylist()
        for position in positions:
            rows[position] |= {"text": text, ROW_VERSION.name: None}
        self.table.remove(path)
        partition = group.files["partition_key"][0].as_py()
        return self.table.append(pa.Table.from_pylist(rows, files.schema.arrow), partition)

    def _read(self, snapshot_id: str | None) -> pa.Table:
        snapshot = self.table.snapshot(snapshot_id)
        return read_group(self.table.files(snapshot), self.table.inventory(snapshot))[0]


class TestMemoryTable(TableConformance):
    @pytest.fixture(
        params=[
            PLAIN,
            Features(has_field_ids=False),
            Features(partition_columns=frozenset({"part"}), has_field_ids=False),
            Features(has_row_lineage=True),
        ],
        ids=["plain", "without field ids", "partition columns", "row lineage"],
    )
    def lake(self, tmp_path: Path, request: pytest.FixtureRequest) -> MemoryLake:
        return MemoryLake(tmp_path, request.param)


class TestMemoryChanges(Changing):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> MemoryLake:
        features = Features(has_row_lineage=True, partition_columns=frozenset({"part"}))
        return MemoryLake(tmp_path, features)


class TestRowLineage(RowLineage, ChangedLineage):
    @pytest.fixture
    def lineage_lake(self, tmp_path: Path) -> MemoryLake:
        return MemoryLake(tmp_path, Features(has_row_lineage=True))


def test_partition_columns_are_in_no_file(tmp_path: Path) -> None:
    lake = MemoryLake(tmp_path, Features(partition_columns=frozenset({"part"})))
    path = lake.append(range(3), "b")
    assert pq.read_schema(path).names == ["id", "text"]
    assert lake.rows() == expected(range(3), "b")


def test_files_without_field_ids_have_none(tmp_path: Path) -> None:
    path = MemoryLake(tmp_path, Features(has_field_ids=False)).append(range(3))
    assert all(field.metadata is None for field in pq.read_schema(path))
