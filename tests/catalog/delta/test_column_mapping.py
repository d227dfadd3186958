"""Commits to tables whose columns have other names in files and log than for readers."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.delta.contents import lines
from tests.catalog.delta.lakes import WITH_VECTORS, DeltaLake, commits
from tests.catalog.groups import plan_all

_COLUMNS = (
    ("id", "long", "col-1", 1),
    ("part", "string", "col-2", 2),
    ("text", "string", "col-3", 3),
)


class MappedLake(DeltaLake):
    """A table in one of the modes of column mapping, written by hand; read by deltalake."""

    def __init__(self, directory: Path, mode: str) -> None:
        super().__init__(directory, creates=False)
        self.mode = mode
        fields = [
            {
                "name": name,
                "type": kind,
                "nullable": True,
                "metadata": {
                    "delta.columnMapping.id": number,
                    "delta.columnMapping.physicalName": physical,
                },
            }
            for name, kind, physical, number in _COLUMNS
        ]
        configuration = {
            **WITH_VECTORS,
            "delta.columnMapping.mode": mode,
            "delta.columnMapping.maxColumnId": "3",
            "delta.dataSkippingStatsColumns": "ID,text",
        }
        metadata = {
            "id": str(uuid.uuid4()),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": fields}),
            "partitionColumns": ["part"],
            "configuration": configuration,
        }
        protocol = {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": ["columnMapping", "deletionVectors"],
            "writerFeatures": ["columnMapping", "deletionVectors"],
        }
        log = self.directory / "_delta_log"
        log.mkdir(parents=True)
        actions = [{"commitInfo": {}}, {"protocol": protocol}, {"metaData": metadata}]
        (log / f"{0:020}.json").write_bytes(lines(actions))

    def write(self, first: int) -> str:
        path = self.directory / "ab" / f"{uuid.uuid4()}.parquet"
        path.parent.mkdir(exist_ok=True)
        schema = pa.schema(
            [
                pa.field(name, kind, metadata={"PARQUET:field_id": number})
                for name, kind, number in (("col-1", pa.int64(), "1"), ("col-3", pa.string(), "3"))
            ]
        )
        numbers = list(range(first, first + 10))
        columns = [pa.array(numbers), pa.array([f"text {one}" for one in numbers])]
        pq.write_table(pa.table(columns, schema=schema), path)
        add = {
            "path": f"ab/{path.name}",
            "partitionValues": {"col-2": "x"},
            "size": path.stat().st_size,
            "modificationTime": 1,
            "dataChange": True,
            "stats": '{"numRecords":10}',
        }
        self.commit([{"add": add}])
        return str(path)


@pytest.mark.parametrize("mode", ["name", "id"])
def test_physical_names_are_what_the_log_holds(tmp_path: Path, mode: str) -> None:
    lake = MappedLake(tmp_path, mode)
    paths = [lake.write(first) for first in (0, 10, 20)]
    lake.delete({paths[0]: [0, 3]})
    before = lake.rows()
    assert len(before) == 28
    assert lake.table.commit(plan_all(lake.table)).conflicts == ()
    adds: list[dict[str, Any]] = [one["add"] for one in commits(lake.directory)[-1] if "add" in one]
    stats = json.loads(adds[0]["stats"])
    assert adds[0]["partitionValues"] == {"col-2": "x"}
    assert stats["minValues"] == {"col-1": 1, "col-3": "text 1"}
    assert stats["nullCount"] == {"col-1": 0, "col-3": 0}
    written = pq.read_schema(next(iter(lake.paths())))
    assert written.names == ["col-1", "col-3"]
    assert [field.metadata[b"PARQUET:field_id"] for field in written] == [b"1", b"3"]
    assert lake.rows() == before
