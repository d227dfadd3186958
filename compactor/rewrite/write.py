"""Write rows as Parquet files of the table's layout, rolled at the target size.

Every call that writes a table begins a row group. So batches are collected up to the size of one
and written by a single call; rows keep their order.

An encoder cannot change its ways within a file. Where rows ask for another encoding, a piece ends
there, and the pieces of a file are put under one footer at its end: files that ended early would
come out small, and be planned again, and end at the same rows again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import pyarrow as pa

from catalog.commits import OutputFile
from catalog.errors import CatalogError
from catalog.location import Location
from catalog.model import FileSlice
from catalog.storage import OutputFile as StorageOutput
from catalog.storage import Storage
from catalog.table import OutputMarker, TableFiles
from compactor.parquet import SpliceSource, plan_splice, read_footer, write_splice
from compactor.rewrite.encoding import Encoding
from compactor.rewrite.repetition import decoded_bytes
from compactor.rewrite.rolling import Progress, is_file_full, row_group_bytes

MIB = 1 << 20
# Bounds the memory of a worker: a row group is held decoded while it is collected and encoded.
ROW_GROUP_BYTES_MAX = 128 * MIB


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the outputs of one attempt go.

    Attributes:
        table: the workers' side of the snapshot.
        partition_key: the partition they belong to.
        attempt_id: beginning of their names.
    """

    table: TableFiles
    partition_key: str
    attempt_id: str

    @property
    def storage(self) -> Storage:
        """Where the files are."""
        return self.table.storage

    def location(self, index: int) -> Location:
        """Return the place of the output with this index, counted from 0."""
        name = f"{self.attempt_id}-{index:05d}.parquet"
        return self.table.new_location(self.partition_key, name)

    def begun(self, index: int) -> Location:
        """Return the place of an output that is written from now on."""
        location = self.location(index)
        if isinstance(self.table, OutputMarker):
            self.table.mark_output(location)
        return location


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A complete output and what its footer has to say.

    Attributes:
        location: where it is.
        size_bytes: its length.
        row_groups: number of rows of each.
        composed_bytes: bytes of it that the store copied by itself.
        why_streamed: why bytes that were copied passed through this process; empty when they did
            not, and between local files.
        partition_key: of its partition, where that is not the one of its group.
    """

    location: Location
    size_bytes: int
    row_groups: tuple[int, ...]
    composed_bytes: int = 0
    why_streamed: str = ""
    partition_key: str = ""

    @property
    def row_count(self) -> int:
        """Number of rows."""
        return sum(self.row_groups)

    def described(self) -> OutputFile:
        """Return it as the commit wants it."""
        return OutputFile(str(self.location), self.size_bytes, self.row_count, self.partition_key)


@dataclass(slots=True)
class _Collected:
    """The rows of the next row group.

    Attributes:
        batches: the rows.
        rows: how many they are.
        decoded_bytes: their size in memory.
        stored_bytes: their size in the inputs.
        sources: the data files that store some of them.
        new: those that no data file stores.
    """

    batches: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    decoded_bytes: int = 0
    stored_bytes: float = 0.0
    sources: dict[str, FileSlice] = field(default_factory=dict)
    new: list[pa.RecordBatch] = field(default_factory=list)

    def come_from(self, source: FileSlice | None, batch: pa.RecordBatch) -> None:
        """Take note of where rows come from; None for no data file."""
        if source is None:
            self.new.append(batch)
        else:
            self.sources[source.path] = source

    def add(self, batch: pa.RecordBatch, decoded_bytes: int, stored_bytes: float) -> None:
        """Append rows."""
        self.batches.append(batch)
        self.rows += batch.num_rows
        self.decoded_bytes += decoded_bytes
        self.stored_bytes += stored_bytes


class OpenFile(Protocol):
    """An output being written."""

    def write(self, batches: list[pa.RecordBatch]) -> int:
        """Append one row group and return the bytes it took."""

    def complete(self) -> WrittenFile:
        """Write the footer and make the file durable."""

    def abort(self) -> None:
        """Leave nothing of the file."""


class RollingWriter:
    """Writes the outputs of one attempt; as a context manager it removes them all on failure."""

    def __init__(
        self,
        destination: Destination,
        encoding: Encoding,
        *,
        target_bytes: int,
        stored_bytes: float,
        copied_bytes: int = 0,
    ) -> None:
        """Prepare to write.

        Args:
            destination: where the files go.
            encoding: how rows are written.
            target_bytes: size of a file.
            stored_bytes: size, in the inputs, of all rows that will be added.
            copied_bytes: size of all row groups that will be copied.
        """
        self.files: list[WrittenFile] = []
        self.encoding = encoding
        self._destination = destination
        self._target_bytes = target_bytes
        self._progress = Progress(unread_bytes=stored_bytes, uncopied_bytes=copied_bytes)
        self._collected = _Collected()
        self._limit_bytes = 0.0
        self._is_suited = False
        self._open: OpenFile | None = None
        self._pieces: list[WrittenFile] = []
        self._names_given = 0

    def parquet_schema(self) -> str:
        """Return the Parquet schema that every output is to show."""
        return self.encoding.parquet_schema()

    def add(
        self, batch: pa.RecordBatch, *, stored_bytes: float, source: FileSlice | None = None
    ) -> None:
        """Append rows that took `stored_bytes` in the inputs, of the data file that stores them.

        Raises:
            StorageFullError, AccessDeniedError, StorageError: a file cannot be written.
        """
        row_decoded = decoded_bytes(batch) / max(1, batch.num_rows)
        row_stored = stored_bytes / max(1, batch.num_rows)
        while batch.num_rows:
            if not self._collected.rows:
                self._limit_bytes = self._next_limit(row_decoded / max(row_stored, 1e-9))
            part = batch.slice(0, min(batch.num_rows, self._room(row_decoded)))
            batch = batch.slice(part.num_rows)
            rows = part.num_rows
            self._collected.add(part, round(rows * row_decoded), rows * row_stored)
            self._collected.come_from(source, part)
            if self._room(row_decoded) == 0:
                self._write_row_group()

    def finish(self) -> None:
        """Write what is collected and complete the last file."""
        self._flush()
        self._end_file()

    def _flush(self) -> None:
        if self._collected.rows:
            self._write_row_group()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove every output when there was a failure, whose error is the one to be told."""
        if kind is None:
            return
        with suppress(CatalogError):
            if self._open is not None:
                self._open.abort()
        with suppress(CatalogError):
            written = (*self.files, *self._pieces)
            self._destination.storage.delete([file.location for file in written])

    def _next_limit(self, decoded_per_stored: float) -> float:
        return row_group_bytes(
            self._progress,
            self._target_bytes,
            limit_bytes=min(self.encoding.layout.row_group_size_bytes, ROW_GROUP_BYTES_MAX),
            decoded_per_stored=decoded_per_stored,
        )

    def _room(self, row_bytes: float) -> int:
        """Return how many more rows the row group takes; it takes at least one."""
        collected = self._collected
        rows = int((self._limit_bytes - collected.decoded_bytes) / max(row_bytes, 1e-9))
        rows = min(rows, self.encoding.layout.row_group_rows_max - collected.rows)
        return max(rows, 0 if collected.rows else 1)

    def _write_row_group(self) -> None:
        rows, self._collected = self._collected, _Collected()
        self._adapt_encoding(rows.batches)
        if self._open is None:
            self._open = self._begin_file(rows.batches)
        self._note(rows.sources.values(), rows.new)
        written_bytes = self._open.write(rows.batches)
        self._progress = self._progress.after(
            stored_bytes=rows.stored_bytes,
            decoded_bytes=rows.decoded_bytes,
            written_bytes=written_bytes,
        )
        if is_file_full(self._progress, self._target_bytes):
            self._end_file()

    def _note(self, sources: Iterable[FileSlice], rows: Iterable[pa.RecordBatch]) -> None:
        """Take note of where rows of the open file come from, if its footer tells of them."""

    def _adapt_encoding(self, batches: list[pa.RecordBatch]) -> None:
        """Withhold what would mislead readers, from here on: a file stays as it was begun."""
        # The first rows may come after row groups that were copied.
        encoding = self.encoding if self._is_suited else self.encoding.suiting(batches)
        self._is_suited = True
        encoding = encoding.sparing(batches)
        if encoding != self.encoding:
            self._change_encoding(encoding)

    def _change_encoding(self, encoding: Encoding) -> None:
        """Begin another piece: the file goes on."""
        self._end_piece()
        self.encoding = encoding

    def _begin_file(self, rows: list[pa.RecordBatch]) -> OpenFile:
        """Begin an output whose first row group to be encoded has these rows."""
        sink = self._destination.storage.open_output(self._next_location())
        row_count = sum(batch.num_rows for batch in rows)
        return EncodedFile(sink, self.encoding.fitting(rows), row_count)

    def _next_location(self) -> Location:
        self._names_given += 1
        return self._destination.begun(self._names_given - 1)

    def _end_piece(self) -> None:
        if self._open is not None:
            self._pieces.append(self._open.complete())
            self._open = None

    def _end_file(self) -> None:
        self._end_piece()
        if len(self._pieces) > 1:
            storage, location = self._destination.storage, self._next_location()
            self._pieces = [_joined(storage, self._pieces, location)]
        if self._pieces:
            self.files.append(self._pieces.pop())
            self._progress = self._progress.with_new_file()


def _joined(storage: Storage, pieces: Sequence[WrittenFile], location: Location) -> WrittenFile:
    """Put pieces of one schema under one footer, and remove them."""
    footers = [read_footer(storage, one.location, one.size_bytes) for one in pieces]
    sources = [SpliceSource(footer, range(footer.row_group_count)) for footer in footers]
    done = write_splice(storage, plan_splice(sources), location)
    with storage.removed_on_failure([location]):
        storage.delete([one.location for one in pieces])
    return WrittenFile(location, done.size_bytes, done.row_counts)


class EncodedFile:
    """An output of which every row group is encoded here."""

    def __init__(self, sink: StorageOutput, encoding: Encoding, row_group_rows: int) -> None:
        self._sink = sink
        self._encoding = encoding
        self._row_groups: list[int] = []
        try:
            self._writer = encoding.open_writer(sink, row_group_rows=row_group_rows)
        except BaseException:  # interruptions too: nothing would end the output
            sink.abort()
            raise

    def describe(self, metadata: Mapping[str, str]) -> None:
        """Say more in the key-value metadata of the footer."""
        self._writer.add_key_value_metadata(dict(metadata))

    def write(self, batches: list[pa.RecordBatch]) -> int:
        """Append one row group and return the bytes it took."""
        before = self._sink.size_bytes
        rows = self._encoding.table(batches)
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self._row_groups.append(rows.num_rows)
        return self._sink.size_bytes - before

    def complete(self) -> WrittenFile:
        """Write the footer and make the file durable."""
        self._writer.close()
        self._sink.close()
        return WrittenFile(self._sink.location, self._sink.size_bytes, tuple(self._row_groups))

    def abort(self) -> None:
        """Leave nothing of the file."""
        # The sink goes first: what the writer still has to say is then refused.
        self._sink.abort()
        with suppress(OSError, ValueError, pa.ArrowException):
            self._writer.close()
