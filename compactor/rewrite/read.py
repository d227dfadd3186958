"""Read the surviving rows of file slices as batches of the table's schema, in bounded memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.errors import CorruptTableError
from catalog.model import KEEP_ALL, FileSlice, Inventory, Selection
from catalog.schema import TableSchema, field_id
from catalog.table import TableFiles
from compactor.rewrite.input import ParquetInput, open_parquet
from compactor.rewrite.input import row_groups as every_row_group
from compactor.rewrite.integers import as_integers, with_integers
from compactor.rewrite.nested import null_array
from compactor.rewrite.own_name import unnamed
from compactor.rewrite.projection import FileColumns, Projection, plan_projection
from compactor.rewrite.repetition import repeating_columns, with_values_in_use


@dataclass(frozen=True, slots=True)
class SliceReader:
    """What reading the slices of one group takes.

    Attributes:
        table: the workers' side of the snapshot.
        selections: the rows each data file loses, by path.
        schema: the columns that are read.
        reads_ahead: whether small files are fetched as a whole.
        integers: decimals that come as the integers that files store.
    """

    table: TableFiles
    selections: Mapping[str, Selection]
    schema: TableSchema
    reads_ahead: bool = True
    integers: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, table: TableFiles, files: Inventory, schema: TableSchema | None = None
    ) -> SliceReader:
        """Read the delete files of `files`.

        Args:
            table: the workers' side of the snapshot.
            files: the slices that will be read.
            schema: the columns to be read; those that data files store when it is None.

        Raises:
            CorruptTableError: a delete file cannot be read.
        """
        columns = schema or unnamed(table.schema.stored, table.layout)
        return cls(table, table.selections(files), columns)

    def only(self, columns: Collection[int]) -> SliceReader:
        """Return the reader of some of the columns, by their numbers."""
        fields = [self.schema.arrow.field(column) for column in columns]
        schema = replace(self.schema, arrow=pa.schema(fields))
        return replace(self, schema=schema, reads_ahead=False)

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
        """Return how many rows that the file stores survive."""
        return file.row_count - len(self.selection(file).dropped)

    def tail_rows(self, file: FileSlice) -> int:
        """Return how many rows come behind those that the file stores."""
        return self.selection(file).tail.row_count

    def batches(self, file: FileSlice) -> Iterator[pa.RecordBatch]:
        """Yield the surviving rows of a slice in their order; raises what `opened` does."""
        if is_stored(file):
            with self.opened(file) as slice_:
                yield from slice_.batches()
        yield from self.tail(file)

    def tail(self, file: FileSlice) -> Iterator[pa.RecordBatch]:
        """Yield the rows that come behind those that the file stores."""
        columns = self.schema.arrow
        is_told = [field_id(one) not in self.schema.unstored for one in columns]
        names = [one.name for one, told in zip(columns, is_told, strict=True) if told]
        target = with_integers(columns, self.integers)
        for batch in self.selection(file).tail.batches(names):
            arrays = [
                batch.column(one.name) if told else null_array(one.type, batch.num_rows)
                for one, told in zip(columns, is_told, strict=True)
            ]
            yield as_integers(pa.RecordBatch.from_arrays(arrays, schema=columns), target)

    @contextmanager
    def opened(self, file: FileSlice) -> Iterator[OpenSlice]:
        """Open a slice.

        Raises:
            ObjectNotFoundError: the file does not exist.
            CorruptTableError: it is not what its metadata says, or cannot be decoded.
            UnsupportedTableError: a column cannot be read as the table's type.
        """
        with open_parquet(
            self.table.storage,
            self.table.locate(file.path),
            name=file.path,
            size_bytes=file.size_bytes,
            reads_ahead=self.reads_ahead,
        ) as source:
            if source.metadata.num_rows != file.row_count:
                raise CorruptTableError(
                    f"{file.path}: the metadata says {file.row_count} rows,"
                    f" the footer of the file {source.metadata.num_rows}"
                )
            columns = FileColumns(file.path, source.file.schema_arrow, source.int96_columns)
            projection = plan_projection(columns, self.schema, self.table.fillings(file))
            counts = [group.num_rows for group in every_row_group(source.metadata)]
            starts = np.cumsum([0, *counts], dtype=np.int64)
            alike = projection.alike(self.integers)
            projection = projection.with_integers(self.integers)
            yield OpenSlice(source, projection, self.selection(file), starts, alike)


def is_stored(file: FileSlice) -> bool:
    """Tell whether there is a data file: a slice may be all tail."""
    return file.size_bytes > 0 or file.row_count > 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rows of a batch stand in their file.

    Attributes:
        start: position of the first row that was read.
        count: rows that were read.
        kept: which of them survive; None for all.
    """

    start: int
    count: int
    kept: npt.NDArray[np.bool_] | None

    def positions(self) -> npt.NDArray[np.int64]:
        """Return the position of each survivor."""
        positions = np.arange(self.start, self.start + self.count)
        return positions if self.kept is None else positions[self.kept]


@dataclass(frozen=True, slots=True)
class OpenSlice:
    """A slice whose stored rows can be read.

    Attributes:
        source: the data file.
        projection: from its columns to the table's.
        selection: the rows that it loses.
        starts: where in the file each row group begins, and the last one ends.
        decimals: columns that may be read as the integers that are stored.
    """

    source: ParquetInput
    projection: Projection
    selection: Selection
    starts: npt.NDArray[np.int64]
    decimals: frozenset[str] = frozenset()

    def batches(self, row_groups: Iterable[int] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the surviving rows of some row groups, or of all, in their order."""
        for _, batch in self.placed(row_groups):
            yield batch

    def placed(
        self, row_groups: Iterable[int] | None = None
    ) -> Iterator[tuple[Place, pa.RecordBatch]]:
        """Yield the same with the place of the rows in the file."""
        count = self.source.metadata.num_row_groups
        for index in range(count) if row_groups is None else row_groups:
            start, end = self.starts[index : index + 2]
            first, last = np.searchsorted(self.selection.dropped, [start, end])
            if last - first < end - start:
                yield from self._survivors(index, int(start))

    def _survivors(self, row_group: int, start: int) -> Iterator[tuple[Place, pa.RecordBatch]]:
        group = self.source.metadata.row_group(row_group)
        dictionaries = repeating_columns(group, self.projection.texts)
        projection = self.projection.keeping(dictionaries)
        batches = self.source.batches(
            row_group, projection.columns, dictionaries=dictionaries, decimals=self.decimals
        )

        def surviving(batch: pa.RecordBatch) -> tuple[Place, pa.RecordBatch]:
            nonlocal start
            kept = self.selection.kept(start, batch.num_rows)
            # The filter comes first: a dropped row may hold what the table no longer allows.
            survivors = batch if kept is None else _filtered(batch, kept, dictionaries)
            place = Place(start, batch.num_rows, kept)
            start += batch.num_rows
            positions = pa.array(place.positions()) if self.projection.needs_positions else None
            return place, projection.apply(survivors, positions)

        # Mapped, not looped over: nobody holds on to a batch whose survivors are on their way.
        return map(surviving, batches)


def _filtered(
    batch: pa.RecordBatch, kept: npt.NDArray[np.bool_], dictionaries: frozenset[str]
) -> pa.RecordBatch:
    return with_values_in_use(batch.filter(pa.array(kept)), dictionaries)
