"""Merges into Hudi tables in this process, each proved in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _pytest.mark import ParameterSet

from catalog.hudi.table import HudiTable
from catalog.location import Location
from catalog.storage import Storage
from compactor.jobs.merge import merge_into
from compactor.jobs.merge_changes import MergeRequest
from compactor.jobs.merge_planning import Writing
from compactor.jobs.options import JobOptions
from compactor.jobs.report import JobReport
from compactor.merge.rules import MergeRules
from compactor.merge.source_files import FileSource
from compactor.planner.policy import Policy
from compactor.proof import Proof
from compactor.rewrite.read import SliceReader
from tests.catalog.hudi.compacting import environment
from tests.catalog.hudi.lake import HudiLake

Change = tuple[int, str, str, str]
BY_ID = MergeRules(("id",), op_column="op")
OPTIONS = JobOptions(proof=Proof.FULL, merge_attempts_max=3)
KINDS = [(6, False), (6, True), (8, True), (9, False), (9, True)]


class Merges:
    """A directory with a table, changes of it, and the jobs that were run on it."""

    def __init__(self, directory: Path, version: int, *, merges_on_read: bool) -> None:
        self.lake = HudiLake(directory / "table", version, merges_on_read=merges_on_read)
        self.directory = directory

    @property
    def request(self) -> MergeRequest:
        return MergeRequest(BY_ID, source_of(self.directory))

    def bring(self, *changes: Change) -> None:
        names = ("id", "part", "text", "op")
        bring_to(self.directory, *(dict(zip(names, one, strict=True)) for one in changes))

    def merge(self, *changes: Change, request: MergeRequest | None = None) -> JobReport:
        if changes:
            self.bring(*changes)
        return merge_in(self.directory, self.lake.table, request or self.request)


def source_of(directory: Path) -> FileSource:
    return FileSource(Storage(), Location.parse(str(directory / "changes")))


def merge_in(directory: Path, table: HudiTable, request: MergeRequest) -> JobReport:
    with environment(directory) as made:
        return merge_into(
            table,
            request,
            writing=Writing(Policy(), Proof.FULL),
            environment=made,
            options=OPTIONS,
        )


def each_kind(*quick: tuple[int, bool]) -> list[ParameterSet]:
    return [
        pytest.param(
            one,
            id=f"v{one[0]}-{'mor' if one[1] else 'cow'}",
            marks=() if one in quick else pytest.mark.slow,
        )
        for one in KINDS
    ]


def stored(table: HudiTable) -> list[dict[str, Any]]:
    """Return all rows with their meta columns, and the name of the file that each is in."""
    snapshot = table.snapshot()
    inventory, files = table.inventory(snapshot), table.files(snapshot)
    reader = SliceReader.of(files, inventory, files.schema)
    return [
        {**row, "in": one.path.rpartition("/")[2], "at": one.partition_key}
        for one in inventory.slices()
        for batch in reader.batches(one)
        for row in batch.to_pylist()
    ]


def bring_to(directory: Path, *rows: dict[str, Any]) -> None:
    """Put changes where they are looked for."""
    folder = directory / "changes"
    folder.mkdir(exist_ok=True)
    number = len(list(folder.iterdir()))
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{number:04d}.parquet")
