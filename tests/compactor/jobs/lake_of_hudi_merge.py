"""The Hudi table of crash tests that changes are merged into: small files, one with a log."""

from __future__ import annotations

import pyarrow as pa

from catalog.hudi.simple_writer import NewTable, SimpleWriter
from catalog.location import Location
from tests.compactor.jobs.lake import FILES_PER_PARTITION, PARTITIONS, rows_of
from tests.compactor.jobs.lake_of_hudi import Lake as FoldedLake

_SCHEMA = pa.schema(
    [pa.field("n", pa.int64(), nullable=False), ("day", pa.int64()), ("text", pa.string())]
)


class Lake(FoldedLake):
    """The table `t`."""

    def make(self) -> None:
        writer = self.writer()
        paths = [writer.insert(*self.parts(number)) for number in range(FILES_PER_PARTITION)]
        table = self.open()
        slices = table.inventory(table.snapshot()).slices()
        file = next(one for one in slices if one.path == paths[0][0])
        rows = self.parts(0)[0].slice(3, 9)
        writer.update(file, rows.set_column(2, _SCHEMA.field(2), [["logged"] * 9]))

    def writer(self) -> SimpleWriter:
        made = NewTable("t", _SCHEMA, key="n", partition="day", version=self.version)
        return SimpleWriter.create(Location.parse(str(self.path)), made)

    def parts(self, number: int) -> list[pa.Table]:
        """Return the rows of an append, partition by partition."""
        rows = rows_of(number, _SCHEMA)
        days = rows["day"].to_pylist()
        return [
            rows.take([at for at, one in enumerate(days) if one == day])
            for day in range(PARTITIONS)
        ]
