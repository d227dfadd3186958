"""Read the surviving rows of file slices as batches of the table's schema, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from catalog.errors import CorruptTableError
from catalog.model import KEEP_ALL, FileSlice, Inventory, Selection
from catalog.table import TableFiles
from compactor.rewrite.input import ParquetInput, open_parquet, row_groups
from compactor.rewrite.projection import FileColumns, Projection, plan_projection


@dataclass(frozen=True, slots=True)
class SliceReader:
    """What reading the slices of one group takes.

    Attributes:
        table: the workers' side of the snapshot.
        selections: the rows each data file loses, by path.
    """

    table: TableFiles
    selections: Mapping[str, Selection]

    @classmethod
    def of(cls, table: TableFiles, files: Inventory) -> SliceReader:
        """Read the delete files of `files`.

        Raises:
            CorruptTableError: a delete file cannot be read.
        """
        return cls(table, table.selections(files))

    def selection(self, file: FileSlice) -> Selection:
        """Return the rows that the file loses.

        Raises:
            CorruptTableError: a delete names a row that the file does not have.
        """
        found = self.selections.get(file.path, KEEP_ALL)
        dropped = found.dropped
        if len(dropped) and not 0 <= dropped[0] <= dropped[-1] < file.row_count:
            raise CorruptTableError(
                f"{file.path} has {file.row_count} rows, but its deletes name"
                f" the rows {dropped[0]} to {dropped[-1]}"
            )
        return found

    def kept_rows(self, file: FileSlice) -> int:
        """Return how many rows of the file survive."""
        return file.row_count - len(self.selection(file).dropped)

    def batches(self, file: FileSlice) -> Iterator[pa.RecordBatch]:
        """Yield the surviving rows of a slice in their order.

        Raises:
            ObjectNotFoundError: the file does not exist.
            CorruptTableError: it is not what its metadata says, or cannot be decoded.
            UnsupportedTableError: a column cannot be read as the table's type.
        """
        location = self.table.locate(file.path)
        with open_parquet(
            self.table.storage, location, name=file.path, size_bytes=file.size_bytes
        ) as source:
            if source.metadata.num_rows != file.row_count:
                raise CorruptTableError(
                    f"{file.path}: the metadata says {file.row_count} rows,"
                    f" the footer of the file {source.metadata.num_rows}"
                )
            columns = FileColumns(file.path, source.file.schema_arrow, source.int96_columns)
            projection = plan_projection(columns, self.table.schema, self.table.constants(file))
            yield from _survivors(source, projection, self.selection(file))


def _survivors(
    source: ParquetInput, projection: Projection, selection: Selection
) -> Iterator[pa.RecordBatch]:
    start = 0
    for index, group in enumerate(row_groups(source.metadata)):
        end = start + group.num_rows
        first, last = np.searchsorted(selection.dropped, [start, end])
        if last - first == group.num_rows:
            start = end
            continue
        for batch in source.batches(index, projection.columns):
            kept = selection.kept(start, batch.num_rows)
            start += batch.num_rows
            # The filter comes first: a dropped row may hold what the table no longer allows.
            yield projection.apply(batch if kept is None else batch.filter(pa.array(kept)))
