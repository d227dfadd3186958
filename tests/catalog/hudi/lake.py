"""A small Hudi table with its other writer, for the suite that all formats share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from catalog.hudi.simple_writer import NewTable, SimpleWriter
from catalog.hudi.table import HudiTable
from catalog.hudi.timeline import timeline_folder
from catalog.location import Location
from catalog.model import FileSlice
from compactor.rewrite.read import SliceReader
from tests.catalog.conformance import Row, text_of

COLUMNS = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("part", pa.string()),
        pa.field("text", pa.string()),
    ]
)


class HudiLake:
    """Implements `tests.catalog.conformance.Lake`; deletes are delete blocks in logs."""

    has_deletes = True
    has_sequence_numbers = False
    first_snapshot_id = ""

    def __init__(self, directory: Path, version: int, *, merges_on_read: bool = True) -> None:
        made = NewTable(
            "lake",
            COLUMNS,
            key="id",
            partition="part",
            version=version,
            merges_on_read=merges_on_read,
        )
        self.root = Location.parse(str(directory))
        self.writer = SimpleWriter.create(self.root, made)

    @property
    def table(self) -> HudiTable:
        return HudiTable(self.root.path, self.root, {})

    def append(self, ids: Sequence[int], part: str = "a") -> str:
        (path,) = self.writer.insert(rows_of(ids, part))
        return path

    def update(self, path: str, ids: Sequence[int], text: str) -> None:
        """Put rows with another text into a log of the slice of a base file."""
        file = self.slice_of(path)
        rows = pa.table([list(ids), [file.partition_key] * len(ids), [text] * len(ids)], COLUMNS)
        self.writer.update(file, rows)

    def delete(self, positions: Mapping[str, Sequence[int]]) -> None:
        for path, some in positions.items():
            file = self.slice_of(path)
            stored = pa.Table.from_batches(self._stored(file))["id"].to_pylist()
            self.writer.delete(file, [str(stored[at]) for at in some])

    def remove(self, path: str) -> None:
        self.writer.replace([self.slice_of(path)])

    def expire(self) -> None:
        """Leave nothing on the timeline but the newest write."""
        table = self.table
        source = table.source()
        newest = table.snapshot().snapshot_id
        folder = timeline_folder(self.root, source.config)
        for one in source.timeline.instants:
            if (one.completion_time or one.time) != newest:
                for file in Path(folder.path).glob(f"{one.time}*"):
                    file.unlink()

    def rows(self, snapshot_id: str | None = None) -> list[Row]:
        table = self.table
        snapshot = table.snapshot(snapshot_id)
        inventory, files = table.inventory(snapshot), table.files(snapshot)
        reader = SliceReader.of(files, inventory)
        read = [batch for one in inventory.slices() for batch in reader.batches(one)]
        found = [row for batch in read for row in batch.select(COLUMNS.names).to_pylist()]
        return sorted((row["id"], row["part"], row["text"]) for row in found)

    def slice_of(self, path: str) -> FileSlice:
        table = self.table
        slices = table.inventory(table.snapshot()).slices()
        return next(one for one in slices if one.path == path)

    def _stored(self, file: FileSlice) -> list[pa.RecordBatch]:
        table = self.table
        reader = SliceReader(
            table.files(table.snapshot()), {}, table.files(table.snapshot()).schema
        )
        return list(reader.batches(file))


def rows_of(ids: Sequence[int], part: str) -> pa.Table:
    """Return the rows that the shared suite appends."""
    return pa.table([list(ids), [part] * len(ids), [text_of(one) for one in ids]], COLUMNS)
