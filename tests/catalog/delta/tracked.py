"""A Delta table with features that deltalake refuses to write; its writer is played by hand."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.delta.contents import lines
from catalog.delta.schema import ROW_ID, ROW_VERSION
from catalog.delta.stats import StatsColumn, file_stats
from catalog.schema import field_id
from tests.catalog.conformance import Row
from tests.catalog.delta.lakes import WITH_VECTORS, DeltaLake, create_table, rows_of
from tests.catalog.groups import pick, read_group

FEATURES = (
    "deletionVectors",
    "rowTracking",
    "domainMetadata",
    "inCommitTimestamp",
    "appendOnly",
    "invariants",
)
CONFIGURATION = {
    **WITH_VECTORS,
    "delta.enableRowTracking": "true",
    "delta.enableInCommitTimestamps": "true",
    "delta.rowTracking.materializedRowIdColumnName": "_row-id-x",
    "delta.rowTracking.materializedRowCommitVersionColumnName": "_row-version-x",
}
# A clock ahead of ours: times in the log must still grow.
FAR_FUTURE_MS = 4_000_000_000_000
_MARK = "delta.rowTracking"


class TrackedLake(DeltaLake):
    """A table with row tracking, in-commit timestamps and a domain of its user."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, creates=False)
        create_table(
            self.directory,
            configuration=CONFIGURATION,
            features=FEATURES,
            domains={"application": '{"kept": true}'},
        )
        self._time_ms = 1

    def append(self, ids: Sequence[int], part: str = "a") -> str:
        return self.append_file(rows_of(ids, part).drop(["part"]), part)

    def append_file(self, rows: pa.Table, part: str, *removed: str) -> str:
        """Commit a file of rows in the place of others."""
        path = self.directory / f"part={part}" / f"{uuid.uuid4()}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(rows, path)
        stats = [StatsColumn(("id",), "long")]
        first = self._next_row_id()
        mark = json.dumps({"rowIdHighWaterMark": first + rows.num_rows - 1})
        add = {
            "path": str(path.relative_to(self.directory)),
            "partitionValues": {"part": part},
            "size": path.stat().st_size,
            "modificationTime": 1,
            "dataChange": True,
            "stats": file_stats(pq.read_metadata(path), stats),
            "baseRowId": first,
            "defaultRowCommitVersion": self.table.load()[1].version + 1,
        }
        self.commit(
            [
                *({"remove": self.remove_of(one)} for one in removed),
                {"add": add},
                {"domainMetadata": {"domain": _MARK, "configuration": mark, "removed": False}},
            ]
        )
        return str(path)

    def commit(self, actions: Sequence[Mapping[str, Any]]) -> int:
        state = self.table.load()[1]
        version, stamp = state.version + 1, max(self._time_ms, state.timestamp_ms + 1)
        info = {"inCommitTimestamp": stamp, "timestamp": 1, "operation": "WRITE"}
        path = self.directory / "_delta_log" / f"{version:020}.json"
        with path.open("xb") as file:
            file.write(lines([{"commitInfo": info}, *actions]))
        return version

    def advance_clock(self) -> None:
        """Have the other writer's clock run far ahead."""
        self._time_ms = FAR_FUTURE_MS

    def lineage(self, snapshot_id: str | None = None) -> dict[int, tuple[int, int]]:
        rows = self._read(snapshot_id)
        return {row["id"]: (row["_row-id-x"], row["_row-version-x"]) for row in rows.to_pylist()}

    def rows(self, snapshot_id: str | None = None) -> list[Row]:
        ours = sorted(
            (row["id"], row["part"], row["text"]) for row in self._read(snapshot_id).to_pylist()
        )
        assert super().rows(snapshot_id) == ours
        return ours

    def update(self, path: str, positions: Sequence[int], text: str) -> str:
        snapshot = self.table.snapshot()
        files, inventory = self.table.files(snapshot), self.table.inventory(snapshot)
        group = pick(inventory, path)
        rows = read_group(files, group)[0].to_pylist()
        for position in positions:
            rows[position] |= {"text": text, "_row-version-x": None}
        part = rows[0]["part"]
        return self.append_file(pa.Table.from_pylist(rows, files.schema.written), part, path)

    def _next_row_id(self) -> int:
        mark = self.table.load()[1].row_id_high_water_mark
        return 0 if mark is None else mark + 1

    def _read(self, snapshot_id: str | None) -> pa.Table:
        snapshot = self.table.snapshot(snapshot_id)
        files = self.table.files(snapshot)
        assert {ROW_ID, ROW_VERSION} <= {field_id(field) for field in files.schema.arrow}
        return read_group(files, self.table.inventory(snapshot))[0]
