"""A clustered Delta table with column mapping; its writer is played by hand."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.delta.table import DeltaTable
from catalog.location import Location
from tests.acceptance.delta_reading import Rows, our_rows
from tests.catalog.delta.lakes import commits
from tests.catalog.delta.logs import HandWritten, column, features, metadata

ROWS = 2_000
MAPPED = {"delta.columnMapping.mode": "name"}
# Physical names, as the table says which columns it is clustered by.
CLUSTERED_BY = [["col-1"], ["col-2", "col-3"]]


def mapped(name: str, number: int, kind: Any = "long") -> dict[str, Any]:
    found = column(name, kind)
    ids = {"physicalName": f"col-{number}", "id": number}
    return {
        **found,
        "metadata": {f"delta.columnMapping.{key}": value for key, value in ids.items()},
    }


COLUMNS = (
    mapped("id", 1),
    mapped("my place", 2, {"type": "struct", "fields": [mapped("zip", 3)]}),
    mapped("text", 4, "string"),
)


def tagged(value: int) -> dict[bytes, bytes]:
    return {b"PARQUET:field_id": str(value).encode()}


STORED = pa.schema(
    [
        pa.field("col-1", pa.int64(), metadata=tagged(1)),
        pa.field(
            "col-2", pa.struct([pa.field("col-3", pa.int64(), metadata=tagged(3))])
        ).with_metadata(tagged(2)),
        pa.field("col-4", pa.string(), metadata=tagged(4)),
    ]
)


def domain(columns: Sequence[Any]) -> dict[str, Any]:
    text = json.dumps({"clusteringColumns": columns, "domainName": "delta.clustering"})
    return {
        "domainMetadata": {"domain": "delta.clustering", "configuration": text, "removed": False}
    }


class LiquidLake:
    """A clustered table with column mapping, which Spark alone would write."""

    def __init__(self, directory: Path, *, configuration: Mapping[str, str] = MAPPED) -> None:
        self.directory = directory / "lake"
        self._log = HandWritten(self.directory)
        self._version = 0
        protocol = features(
            "clustering", "domainMetadata", readers=["columnMapping", "deletionVectors"]
        )
        self.commit(protocol, metadata(*COLUMNS, configuration=configuration), domain(CLUSTERED_BY))

    @property
    def table(self) -> DeltaTable:
        return DeltaTable("lake", Location.parse(str(self.directory)), {})

    def commit(self, *actions: Mapping[str, Any]) -> None:
        self._log.commit(self.table.load()[1].version + 1 if self._version else 0, *actions)
        self._version += 1

    def append(self, seed: int, **fields: Any) -> str:
        chance = np.random.default_rng(seed)
        places = [{"col-3": int(one)} for one in chance.integers(0, 1000, ROWS)]
        texts = [f"text {one}" for one in chance.integers(0, 1 << 40, ROWS)]
        ids = chance.permutation(ROWS) + seed * ROWS
        path = self.directory / f"{uuid.uuid4()}.parquet"
        pq.write_table(pa.table([pa.array(ids), places, texts], schema=STORED), path)
        add = {
            "path": path.name,
            "partitionValues": {},
            "size": path.stat().st_size,
            "modificationTime": 1,
            "dataChange": True,
            "stats": json.dumps({"numRecords": ROWS}),
            **fields,
        }
        self.commit({"add": add})
        return str(path)

    def last(self, kind: str) -> list[dict[str, Any]]:
        return [one[kind] for one in commits(self.directory)[-1] if kind in one]

    def rows(self) -> tuple[list[str], Rows]:
        return our_rows(str(self.directory))

    def paths(self) -> set[str]:
        return set(self.table.inventory(self.table.snapshot()).files["path"].to_pylist())


CUBE = {
    "tags": {"ZCUBE_ID": "a-cube", "ZCUBE_ZORDER_BY": '["id"]', "OTHER": "x"},
    "clusteringProvider": "liquid",
}
