"""Merges into real tables of both formats, read back by readers that are not ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable as PeerTable
from deltalake import write_deltalake

from catalog.delta.table import DeltaTable
from catalog.iceberg.table import IcebergTable
from catalog.location import Location
from catalog.storage import Storage
from catalog.table import Table
from compactor.jobs.merge import merge_into
from compactor.jobs.merge_changes import MergeRequest
from compactor.jobs.merge_planning import Writing
from compactor.jobs.options import JobOptions
from compactor.jobs.report import JobReport
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.store import JobStore
from compactor.merge.choice import WriteMode
from compactor.merge.rules import MergeRules
from compactor.merge.source_files import FileSource
from compactor.planner.policy import Policy
from compactor.proof import Proof
from runtime import Runtime
from tests.iceberg_tables import make_table, sql_catalog

# Types that not every format has.
NOT_IN_DELTA = (pa.time64("us"), pa.binary(3), pa.binary(16))


def fits(kind: str, schema: pa.Schema) -> bool:
    return kind != "delta" or not any(field.type in NOT_IN_DELTA for field in schema)


@dataclass(frozen=True)
class Lake:
    """A table of a format in a directory, and files of changes beside it."""

    kind: str
    directory: Path

    def make(self, schema: pa.Schema, parts: Sequence[pa.Table]) -> None:
        if self.kind == "iceberg":
            peer = make_table(self.directory, schema, properties={"format-version": "2"})
            arrow = peer.schema().as_arrow()
            for part in parts:
                peer.append(part.cast(arrow))
            return
        plain = pa.schema([field.remove_metadata() for field in schema])
        for part in (schema.empty_table(), *parts):
            write_deltalake(
                str(self.path),
                part.cast(plain),
                mode="append",
                configuration={"delta.enableDeletionVectors": "true"},
            )

    @property
    def path(self) -> Path:
        return self.directory / "table"

    def open(self) -> Table:
        if self.kind == "iceberg":
            return IcebergTable("lake.ns.t", sql_catalog(self.directory), ("ns", "t"))
        return DeltaTable(str(self.path), Location.parse(str(self.path)), {})

    def rows(self) -> list[dict[str, Any]]:
        """Read every row through a reader that is not ours."""
        if self.kind == "iceberg":
            found = sql_catalog(self.directory).load_table("ns.t").scan().to_arrow()
        else:
            found = pa.table(PeerTable(str(self.path)).scan())
        rows: list[dict[str, Any]] = found.to_pylist()
        return rows

    def arrive(self, name: str, rows: pa.Table) -> None:
        place = self.directory / "changes" / f"{name}.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, place)

    @property
    def source(self) -> FileSource:
        return FileSource(Storage(), Location.parse(str(self.directory / "changes")))


def merge(
    lake: Lake, rules: MergeRules, *, runtime: Runtime, store: JobStore, mode: WriteMode
) -> JobReport:
    return merge_into(
        lake.open(),
        MergeRequest(rules, lake.source),
        writing=Writing(Policy(), Proof.FULL, mode),
        environment=JobEnvironment(runtime, store),
        options=JobOptions(proof=Proof.FULL),
    )
