"""An open Parquet file: its footer, and its rows in batches of bounded size, checksums verified.

Every way in which the bytes can be wrong ends in a `CorruptTableError` that names the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.location import Location
from catalog.storage import ByteRange, Storage
from compactor.parquet import HEADER_BYTES_MAX, find_dictionary
from compactor.parquet.thrift import decoding as thrift_decoding
from compactor.rewrite.decimals import integer_file, side_by_side
from compactor.rewrite.expansion import BATCH_ROWS_MAX, batch_rows, column_chunks, first_page
from compactor.rewrite.footer import check_footer
from compactor.rewrite.nested import without_views
from compactor.rewrite.stretch import StretchFile

MIB = 1 << 20
# Files up to this size are fetched in one request and parsed from memory.
_WHOLE_FILE_BYTES_MAX = 8 * MIB
# Row groups up to this size are fetched in one request. Files with a larger one are streamed, each
# column through a buffer of its own, which together hold about as much.
_ROW_GROUP_BYTES_MAX = 32 * MIB
_BUFFER_BYTES_MIN = 64 << 10
_BUFFER_BYTES_MAX = MIB
_INT96 = "INT96"
# What Arrow says when the stack of a thread is beyond the memory that the process may have.
_NO_THREAD = "Failed to launch worker thread"
# What the reader says of files and columns that it has no key for.
_ENCRYPTED = re.compile("encrypted metadata|[Cc]annot decrypt")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is read of a file: top-level columns of a row group, and in batches of how many rows."""

    row_group: int
    columns: tuple[str, ...]
    batch_rows: int


@dataclass(frozen=True, slots=True)
class ParquetInput:
    """A Parquet file being read; make it with `open_parquet`.

    Attributes:
        name: the file, for messages.
        stretch: its bytes.
        metadata: its footer.
        file: its reader.
    """

    name: str
    stretch: StretchFile
    metadata: pq.FileMetaData
    file: pq.ParquetFile

    @property
    def int96_columns(self) -> frozenset[str]:
        """Dotted names of the columns in the old 96-bit timestamp type."""
        columns = [self.metadata.schema.column(i) for i in range(self.metadata.num_columns)]
        return frozenset(one.path for one in columns if one.physical_type == _INT96)

    def batches(
        self,
        row_group: int,
        columns: Sequence[str],
        *,
        dictionaries: frozenset[str] = frozenset(),
        decimals: frozenset[str] = frozenset(),
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a row group with the given top-level columns.

        Args:
            row_group: its number.
            columns: names of columns.
            dictionaries: those of them that are left as dictionaries.
            decimals: those of them that may come as the integers that are stored.

        Raises:
            CorruptTableError: a page cannot be decoded or fails its checksum, or rows are missing.
        """
        if not columns:
            return _bare_batches(self.metadata.row_group(row_group).num_rows)
        with decoding(self.name), thrift_decoding(self.name):
            self._hold(row_group, columns)
            rows = batch_rows(self.metadata.row_group(row_group), columns, self._read)
            found = integer_file(self.stretch, self.metadata, row_group, decimals)
            wanted = _Wanted(row_group, tuple(columns), rows)
            if found is None:
                return self._with_dictionaries(wanted, dictionaries)
            names, file = found
            sides = [self._checked(wanted, file.iter_batches(rows, use_threads=False))]
        if others := tuple(name for name in columns if name not in names):
            others_wanted = replace(wanted, columns=others)
            sides.append(self._with_dictionaries(others_wanted, dictionaries))
        return side_by_side(sides)

    def _with_dictionaries(
        self, wanted: _Wanted, dictionaries: frozenset[str]
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches, the dictionaries of which are made anew where Arrow misreads the file's.

        It takes up a value once that a dictionary names twice, and leaves the numbers as they are.
        """
        batches = self._decoded(wanted, self._dictionaries(sorted(dictionaries)))
        first = next(batches, None)
        if first is None:
            return
        misread = self._misread(wanted.row_group, first)
        if not misread:
            found = [first]
            del first
            yield found.pop()
            yield from batches
            return
        reader = self._dictionaries(sorted(dictionaries - misread))
        for batch in self._decoded(wanted, reader):
            yield self._encoded_anew(batch, misread, first.schema)

    def _encoded_anew(
        self, batch: pa.RecordBatch, names: frozenset[str], schema: pa.Schema
    ) -> pa.RecordBatch:
        for name in names:
            at = schema.get_field_index(name)
            column = batch.column(at)
            if types.is_dictionary(column.type):
                raise UnsupportedTableError(
                    f"{self.name}: the dictionary of {name!r} names a value twice, and the file"
                    " wants it to be read as a dictionary"
                )
            batch = batch.set_column(at, schema.field(at), column.dictionary_encode())
        return batch

    def _misread(self, row_group: int, batch: pa.RecordBatch) -> frozenset[str]:
        """Return the columns whose dictionary lacks entries that the file's has."""
        found = {
            field.name: len(column.dictionary)
            for field, column in zip(batch.schema, batch.columns, strict=True)
            if types.is_dictionary(field.type)
        }
        return frozenset(
            chunk.path_in_schema
            for chunk in column_chunks(self.metadata.row_group(row_group), sorted(found))
            if found[chunk.path_in_schema] < self._entries(chunk)
        )

    def _entries(self, chunk: pq.ColumnChunkMetaData) -> int:
        """Return how many entries the dictionary of a column chunk has; 0 when it has none."""
        if not chunk.has_dictionary_page:
            return 0
        with thrift_decoding(self.name):
            offset = first_page(chunk)
            page = find_dictionary(self._read(offset, HEADER_BYTES_MAX), offset)
            return 0 if page is None else page.entries

    def _read(self, offset: int, length: int) -> bytes:
        self.stretch.seek(offset)
        return self.stretch.read(length)

    def _decoded(self, wanted: _Wanted, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
        with decoding(self.name):
            batches = file.iter_batches(
                batch_size=wanted.batch_rows,
                row_groups=[wanted.row_group],
                columns=list(wanted.columns),
                use_threads=False,
            )
        return self._checked(wanted, batches)

    def _checked(
        self, wanted: _Wanted, batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches, and hold that they have all rows of the row group."""
        rows = self.metadata.row_group(wanted.row_group).num_rows
        found: list[pa.RecordBatch] = []
        while True:
            with decoding(self.name):
                found.extend(islice(batches, 1))
            if not found:
                break
            rows -= found[0].num_rows
            # Whoever takes a batch may let go of it before the next one is decoded.
            yield without_views(found.pop())
        if rows:
            raise CorruptTableError(f"{self.name}: row group {wanted.row_group} lacks {rows} rows")

    def _hold(self, row_group: int, columns: Sequence[str]) -> None:
        """Fetch the columns of a row group together, unless the file is streamed."""
        stretch = _stretch(column_chunks(self.metadata.row_group(row_group), columns))
        if stretch.length <= _ROW_GROUP_BYTES_MAX:
            self.stretch.hold(stretch)

    def _dictionaries(self, columns: Sequence[str]) -> pq.ParquetFile:
        """Return a reader of the file that leaves the given leaf columns as dictionaries."""
        if not columns:
            return self.file
        return _reader(self.stretch, self.metadata, dictionaries=columns)


@contextmanager
def open_parquet(
    storage: Storage,
    location: Location,
    *,
    name: str,
    size_bytes: int,
    reads_ahead: bool = True,
) -> Iterator[ParquetInput]:
    """Open a Parquet file and read its footer.

    Args:
        storage: where it is.
        location: the file.
        name: the file as the metadata calls it, for messages.
        size_bytes: its size according to the metadata.
        reads_ahead: whether a small file is fetched as a whole: not when little of it is wanted.

    Raises:
        ObjectNotFoundError: it does not exist.
        CorruptTableError: its size is another, or it is no Parquet file.
    """
    with storage.open_input(location, size_bytes=size_bytes) as source:
        if source.size() != size_bytes:
            raise CorruptTableError(
                f"{name}: the metadata says {size_bytes} bytes, the file has {source.size()}"
            )
        stretch = StretchFile(source)
        if reads_ahead and size_bytes <= _WHOLE_FILE_BYTES_MAX:
            stretch.hold(ByteRange(0, size_bytes))
        with decoding(name):
            metadata = pq.read_metadata(pa.PythonFile(stretch, mode="r"))
            check_footer(metadata, size_bytes)
            reader = _reader(stretch, metadata, dictionaries=())
        yield ParquetInput(name, stretch, metadata, reader)


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn every complaint of the Parquet reader into a `CorruptTableError` about the file.

    Errors of the storage pass through the reader unchanged; so does a failed allocation, also that
    of a thread's stack. That a file or a column is encrypted becomes an `UnsupportedTableError`.
    """
    try:
        yield
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        if _NO_THREAD in reason:
            raise MemoryError(f"reading {name}: {reason}") from error
        if _ENCRYPTED.search(reason):
            raise UnsupportedTableError(
                f"{name} is encrypted: {reason}", hint="Such tables are left untouched."
            ) from error
        raise CorruptTableError(f"{name} cannot be read as Parquet: {reason}") from error


def _reader(
    stretch: StretchFile, metadata: pq.FileMetaData, *, dictionaries: Sequence[str]
) -> pq.ParquetFile:
    return pq.ParquetFile(
        pa.PythonFile(stretch, mode="r"),
        metadata=metadata,
        read_dictionary=list(dictionaries),
        buffer_size=_buffer_bytes(metadata),
        pre_buffer=False,
        # Old 96-bit timestamps reach further than nanoseconds in 64 bits do; the formats' readers
        # see them in microseconds.
        coerce_int96_timestamp_unit="us",
        page_checksum_verification=True,
    )


def _buffer_bytes(metadata: pq.FileMetaData) -> int:
    """Return the buffer of one column in bytes; 0 reads whole column chunks."""
    largest = max(map(_stored_bytes, row_groups(metadata)), default=0)
    if largest <= _ROW_GROUP_BYTES_MAX:
        return 0
    share = _ROW_GROUP_BYTES_MAX // int(metadata.num_columns)
    return max(_BUFFER_BYTES_MIN, min(share, _BUFFER_BYTES_MAX))


def row_groups(metadata: pq.FileMetaData) -> Iterator[pq.RowGroupMetaData]:
    """Yield the row groups of a footer."""
    return map(metadata.row_group, range(metadata.num_row_groups))


def _stored_bytes(row_group: pq.RowGroupMetaData) -> int:
    columns = map(row_group.column, range(row_group.num_columns))
    return sum(int(column.total_compressed_size) for column in columns)


def _stretch(columns: Sequence[pq.ColumnChunkMetaData]) -> ByteRange:
    """Return the bytes from the first to the last of some column chunks."""
    chunks = list(map(_chunk, columns))
    start = min((chunk.offset for chunk in chunks), default=0)
    return ByteRange(start, max((sum(chunk) for chunk in chunks), default=0) - start)


def _chunk(column: pq.ColumnChunkMetaData) -> ByteRange:
    return ByteRange(first_page(column), int(column.total_compressed_size))


def _bare_batches(rows: int) -> Iterator[pa.RecordBatch]:
    """Yield batches that hold nothing but a number of rows: the file has none of the columns."""
    for start in range(0, rows, BATCH_ROWS_MAX):
        count = min(rows - start, BATCH_ROWS_MAX)
        yield pa.RecordBatch.from_arrays([pa.nulls(count)], names=[""])
