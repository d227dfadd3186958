"""The Hudi table of crash tests whose logs are folded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from catalog.errors import AccessDeniedError
from catalog.hudi.instants import InstantWriter
from catalog.hudi.reading import read_details
from catalog.hudi.simple_writer import NewTable, SimpleWriter
from catalog.hudi.table import HudiTable
from catalog.hudi.timeline import WRITES
from catalog.location import Location
from compactor.jobs.failpoints import Failpoint
from compactor.rewrite.read import SliceReader
from tests.compactor.jobs.crashes import (
    COMMIT_ANSWERED,
    COMMIT_STAGED,
    dying_after,
    dying_before,
    refusing,
)
from tests.compactor.jobs.lake import DELETED, FILES_PER_PARTITION, PARTITIONS, rows_of

# Work stands on the timeline, as requested or as inflight, and nothing of it is written.
WORK_REQUESTED, WORK_BEGUN = "work-requested", "work-begun"
_SCHEMA = pa.schema(
    [pa.field("n", pa.int64(), nullable=False), ("day", pa.string()), ("text", pa.string())]
)
_SEEN = pa.schema([("n", pa.int64()), ("day", pa.int64()), ("text", pa.string())])


class Lake:
    """The table `t`: a file in each partition, with rows that were updated, added and deleted."""

    version = 9

    def __init__(self, directory: Path) -> None:
        self.path = directory / "t"

    def make(self) -> None:
        writer = self.writer()
        first = self.parts(0)
        writer.insert(*first)
        table = self.open()
        for file in table.inventory(table.snapshot()).slices():
            rows = next(one for one in first if one["day"][0].as_py() == file.partition_key)
            late = self.parts(1)[int(file.partition_key)]
            writer.update(file, pa.concat_tables([rows.slice(5, 5), late]))
            writer.delete(file, [str(rows["n"][at]) for at in DELETED])

    def writer(self) -> SimpleWriter:
        made = NewTable("t", _SCHEMA, key="n", partition="day", version=self.version)
        return SimpleWriter.create(Location.parse(str(self.path)), made)

    def parts(self, number: int) -> list[pa.Table]:
        """Return the rows of an append, partition by partition."""
        rows = rows_of(number, _SEEN).cast(_SCHEMA)
        days = rows["day"].to_pylist()
        return [
            rows.take([at for at, one in enumerate(days) if one == str(day)])
            for day in range(PARTITIONS)
        ]

    def open(self) -> HudiTable:
        return HudiTable(str(self.path), Location.parse(str(self.path)), {})

    def contents(self) -> list[dict[str, Any]]:
        table = self.open()
        snapshot = table.snapshot()
        inventory, files = table.inventory(snapshot), table.files(snapshot)
        reader = SliceReader.of(files, inventory)
        read = [batch for one in inventory.slices() for batch in reader.batches(one)]
        rows = [row for batch in read for row in batch.select(_SCHEMA.names).to_pylist()]
        return sorted(rows, key=lambda row: int(row["n"]))

    def orphans(self) -> list[str]:
        source = self.open().source()
        known = {".hoodie_partition_metadata"}
        for instant in source.timeline.completed(*WRITES):
            for stat in read_details(source, instant).write_stats:
                known |= {stat.name, *stat.log_files}
        data = [one for one in self.path.rglob("*") if one.is_file()]
        meta = self.path / ".hoodie"
        pending = [one.file_name for one in source.timeline.pending()]
        signs = [str(one) for one in (meta / ".heartbeat").rglob("*") if one.is_file()]
        return (
            pending
            + signs
            + sorted(str(one) for one in data if meta not in one.parents and one.name not in known)
        )

    def arm(self) -> None:
        complete = refusing(
            InstantWriter.complete,
            Failpoint.BATCH_ABSENT,
            AccessDeniedError("no commits today"),
        )
        complete = dying_after(dying_before(complete, COMMIT_STAGED), COMMIT_ANSWERED)
        request = dying_after(InstantWriter.request, WORK_REQUESTED)
        begin = dying_after(InstantWriter.begin, WORK_BEGUN)
        for name, function in (("complete", complete), ("request", request), ("begin", begin)):
            setattr(InstantWriter, name, function)


class FilesLake(Lake):
    """The table `t` of small files, in the older layout of the timeline."""

    version = 6

    def make(self) -> None:
        writer = self.writer()
        for number in range(FILES_PER_PARTITION):
            writer.insert(*self.parts(number))
