"""A table that follows another one by merges holds what the other one holds, run after run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable as PeerTable
from deltalake import write_deltalake
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

from catalog.delta.table import DeltaTable
from catalog.iceberg.table import IcebergTable
from catalog.location import Location
from catalog.table import Table
from compactor.jobs.events import Event, GroupFinished, JobPlanned
from compactor.jobs.merge import merge_into
from compactor.jobs.merge_changes import MergeRequest
from compactor.jobs.merge_planning import Writing
from compactor.jobs.options import JobOptions
from compactor.jobs.report import JobReport
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.state import JobState
from compactor.jobs.store import open_store
from compactor.merge.choice import WriteMode
from compactor.merge.rules import MergeRules
from compactor.merge.source_arrow import ArrowSource
from compactor.merge.source_table import TableSource
from compactor.planner.policy import Policy
from compactor.proof import Proof
from compactor.rewrite.read import SliceReader
from runtime.connect import connect
from tests.iceberg_tables import make_table, sql_catalog

FED = {"delta.enableChangeDataFeed": "true"}
SCHEMA = pa.schema([("id", pa.int64()), ("part", pa.string()), ("text", pa.string())])
ICEBERG = Schema(
    NestedField(1, "id", LongType()),
    NestedField(2, "part", StringType()),
    NestedField(3, "text", StringType()),
)


def rows_of(ids: range, text: str) -> pa.Table:
    parts = ["a" if one % 2 else "b" for one in ids]
    return pa.table({"id": [*ids], "part": parts, "text": [f"{text} {one}" for one in ids]})


def iceberg(directory: Path) -> Table:
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "part"))
    make_table(directory, ICEBERG, spec=spec)
    return IcebergTable("lake.ns.t", sql_catalog(directory), ("ns", "t"))


def delta(directory: Path) -> Table:
    path = str(directory / "target")
    PeerTable.create(path, SCHEMA, partition_by=["part"])
    return DeltaTable("target", Location.parse(path), {})


def stored(table: Table) -> list[dict[str, Any]]:
    snapshot = table.snapshot()
    files, inventory = table.files(snapshot), table.inventory(snapshot)
    reader = SliceReader.of(files, inventory, files.schema)
    found = [
        row
        for file in inventory.slices()
        for batch in reader.batches(file)
        for row in batch.to_pylist()
    ]
    return sorted(found, key=lambda row: row["id"])


@pytest.mark.parametrize("make", [pytest.param(iceberg, marks=pytest.mark.slow), delta])
def test_a_table_follows_the_change_feed_of_another(
    make: Callable[[Path], Table], tmp_path: Path
) -> None:
    path = str(tmp_path / "source")
    write_deltalake(path, rows_of(range(50), "old"), partition_by=["part"], configuration=FED)
    table, peer = make(tmp_path), PeerTable(path)
    source = TableSource(DeltaTable("source", Location.parse(path), {}))

    def follow() -> JobReport:
        url = f"sqlite:///{tmp_path}/jobs.db"
        with connect("inline") as runtime, open_store(url) as store:
            return merge_into(
                table,
                MergeRequest(MergeRules(("id", "part")), source, evolves=True),
                writing=Writing(Policy(), Proof.FULL, WriteMode.AUTO),
                environment=JobEnvironment(runtime, store, lambda _: None),
                options=JobOptions(proof=Proof.FULL),
            )

    assert follow().status is JobState.SUCCEEDED
    assert stored(table) == stored(source.table)  # type: ignore[arg-type]
    peer.update(predicate="id % 10 = 3", updates={"text": "'new'"})
    peer.update(predicate="id = 7", updates={"part": "'c'"})
    peer.delete("id > 45")
    more = rows_of(range(100, 103), "more").append_column("extra", pa.array([1.5, None, 2.5]))
    write_deltalake(path, more, mode="append", schema_mode="merge")
    assert follow().status is JobState.SUCCEEDED
    assert stored(table) == stored(source.table)  # type: ignore[arg-type]
    before = table.snapshot()
    follow()
    assert table.snapshot() == before


def test_few_keys_open_few_files_once_there_are_filters(tmp_path: Path) -> None:
    table = delta(tmp_path)
    path = str(tmp_path / "target")
    for first in range(4):
        rows = rows_of(range(first, 2000, 4), "old")
        write_deltalake(path, rows, mode="append")
    stages: list[dict[str, int]] = []
    for run in range(3):
        changes = rows_of(range(100 + run, 101 + run), f"run {run}")
        with (
            connect("inline") as runtime,
            open_store(f"sqlite:///{tmp_path}/jobs.db") as store,
        ):
            merge_into(
                table,
                MergeRequest(MergeRules(("id",)), ArrowSource(f"run {run}", changes, "once")),
                writing=Writing(Policy(), Proof.COUNTS, keeps_filters=True),
                environment=JobEnvironment(runtime, store, stages_into(stages)),
                options=JobOptions(),
            )
    # At first no file has a filter, then all have one, those that were written since as well.
    assert [one.get("key filters") for one in stages] == [None, 1, 1]
    assert [one["text"] for one in stored(table)[100:104]] == [
        "run 0 100",
        "run 1 101",
        "run 2 102",
        "old 103",
    ]


def stages_into(found: list[dict[str, int]]) -> Callable[[Event], None]:
    def watch(event: Event) -> None:
        if isinstance(event, JobPlanned) and event.plan.change is not None:
            found.append({one.name: one.files for one in event.plan.change.stages})

    return watch


@pytest.mark.parametrize(
    ("part", "plans"), [("c", 1), pytest.param("a", 2, marks=pytest.mark.slow)]
)
def test_rows_that_others_add_to_other_partitions_are_no_conflict(
    part: str, plans: int, tmp_path: Path
) -> None:
    table, peer = iceberg(tmp_path), sql_catalog(tmp_path).load_table("ns.t")
    peer.append(rows_of(range(20), "old"))
    changes = rows_of(range(1, 30, 2), "new")
    planned: list[Event] = []

    def meanwhile(event: Event) -> None:
        if isinstance(event, JobPlanned):
            planned.append(event)
        if isinstance(event, GroupFinished) and len(planned) == 1:
            peer.refresh().append(pa.table({"id": [99], "part": [part], "text": ["theirs"]}))

    with connect("inline") as runtime, open_store(f"sqlite:///{tmp_path}/jobs.db") as store:
        report = merge_into(
            table,
            MergeRequest(MergeRules(("id", "part")), ArrowSource("api", changes, "once")),
            writing=Writing(Policy(), Proof.COUNTS),
            environment=JobEnvironment(runtime, store, meanwhile),
            options=JobOptions(),
        )
    assert report.status is JobState.SUCCEEDED
    assert len(planned) == plans
    ids = [row["id"] for row in stored(table)]
    assert len(ids) == len(set(ids))
    assert set(ids) == {*range(20), *range(1, 30, 2), 99}
