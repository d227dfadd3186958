"""A footer as a value: the bytes as they are, and what planning and splicing need of them."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from catalog.location import Location
from compactor.parquet import scan as s
from compactor.parquet.schema import Schema, read_schema
from compactor.parquet.thrift import (
    BINARY,
    I32,
    I64,
    LIST,
    STRUCT,
    Field,
    corrupt,
    decoding,
    fields,
    read_binary,
    read_field_number,
    read_list,
    read_signed,
    skip,
    skip_struct,
)

# Fields of FileMetaData.
VERSION, SCHEMA, ROWS, ROW_GROUPS, KEY_VALUES, CREATED_BY, COLUMN_ORDERS = range(1, 8)
_ENCRYPTION = (8, 9)
MAGIC = b"PAR1"
_KINDS = {
    VERSION: I32,
    SCHEMA: LIST,
    ROWS: I64,
    ROW_GROUPS: LIST,
    KEY_VALUES: LIST,
    CREATED_BY: BINARY,
    COLUMN_ORDERS: LIST,
}
_STATISTICS_NULLS = 3
# What of a column chunk goes into another file with it, its part of the footer aside.
_COPIED = (s.COMPRESSED, s.COLUMN_INDEX_LENGTH, s.OFFSET_INDEX_LENGTH, s.BLOOM_LENGTH)


@dataclass(frozen=True, slots=True)
class RowGroup:
    """One row group as a plan sees it.

    Attributes:
        row_count: number of rows.
        compressed_bytes: what its column chunks take in the file.
        uncompressed_bytes: what they take before compression, still encoded.
    """

    row_count: int
    compressed_bytes: int
    uncompressed_bytes: int


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """One column of one row group.

    Attributes:
        offset: position of its first page in the file, in bytes.
        compressed_bytes: its length in the file, page headers included.
        uncompressed_bytes: its length before compression.
        value_count: values, nulls included.
        physical_type: number of the type in the format.
        codec: number of the compression codec in the format.
        encodings: numbers of the encodings of its pages.
        has_bloom_filter: whether there is a Bloom filter.
        statistics: the serialised statistics; empty when there are none.
    """

    offset: int
    compressed_bytes: int
    uncompressed_bytes: int
    value_count: int
    physical_type: int
    codec: int
    encodings: tuple[int, ...]
    has_bloom_filter: bool
    statistics: bytes

    @property
    def null_count(self) -> int | None:
        """Number of nulls; None when the statistics do not say."""
        if not self.statistics:
            return None
        found = (one for one in fields(self.statistics, 0) if one.number == _STATISTICS_NULLS)
        one = next(found, None)
        return None if one is None else read_signed(self.statistics, one.start)[0]


@dataclass(frozen=True, slots=True)
class Footer:
    """The footer of one file; made by `parse_footer`.

    Every range that it names has been found to lie within the file, but not that ranges do not
    overlap, nor anything about the bytes in them.

    Attributes:
        location: the file.
        size_bytes: its length.
        offset: where the footer begins.
        data: the serialised FileMetaData.
        fields: its fields.
        schema: what must agree with other files.
        row_count: number of rows.
        chunks: see `scan.Scan`.
        row_groups: see `scan.Scan`.
        obstacle: why the bytes cannot stand in another file; None when they can.
        tail_offset: where `tail` begins.
        tail: bytes before the footer that were read with it, page index included, if any.
        etag: of the version of the file that it was read from; empty when it is not known.
    """

    location: Location
    size_bytes: int
    offset: int
    data: bytes = field(repr=False)
    fields: tuple[Field, ...] = field(repr=False)
    schema: Schema = field(repr=False)
    row_count: int
    chunks: array[int] = field(repr=False)
    row_groups: array[int] = field(repr=False)
    obstacle: str | None
    tail_offset: int = 0
    tail: bytes = field(default=b"", repr=False)
    etag: str = ""

    @property
    def row_group_count(self) -> int:
        """Number of row groups."""
        return len(self.row_groups) // s.GROUP_WIDTH

    @property
    def column_count(self) -> int:
        """Number of leaf columns."""
        return self.schema.leaves

    def row_group(self, index: int) -> RowGroup:
        """Return one row group."""
        chunks = self.chunk_rows(index)
        rows = self.group_row(index)[s.GROUP_ROWS]
        compressed = sum(self.chunks[at + s.COMPRESSED] for at in chunks)
        return RowGroup(rows, compressed, sum(self.chunks[at + s.UNCOMPRESSED] for at in chunks))

    def chunk(self, row_group: int, column: int) -> ColumnChunk:
        """Return one column chunk."""
        at = self.chunk_rows(row_group)[column]
        row = self.chunks[at : at + s.CHUNK_WIDTH]
        return ColumnChunk(
            offset=row[s.START],
            compressed_bytes=row[s.COMPRESSED],
            uncompressed_bytes=row[s.UNCOMPRESSED],
            value_count=row[s.VALUES],
            physical_type=row[s.PHYSICAL_TYPE],
            codec=row[s.CODEC],
            encodings=tuple(bit for bit in range(64) if row[s.ENCODINGS] >> bit & 1),
            has_bloom_filter=row[s.BLOOM] > 0,
            statistics=self.data[row[s.STATISTICS] : row[s.STATISTICS_END]],
        )

    def chunk_rows(self, row_group: int) -> range:
        """Return where in `chunks` the rows of a row group's columns begin."""
        if not 0 <= row_group < self.row_group_count:
            raise ValueError(f"{self.location} has no row group {row_group}")
        width = self.column_count * s.CHUNK_WIDTH
        return range(row_group * width, (row_group + 1) * width, s.CHUNK_WIDTH)

    def group_row(self, row_group: int) -> array[int]:
        """Return the row of a row group in `row_groups`."""
        if not 0 <= row_group < self.row_group_count:
            raise ValueError(f"{self.location} has no row group {row_group}")
        return self.row_groups[row_group * s.GROUP_WIDTH : (row_group + 1) * s.GROUP_WIDTH]

    def states_order(self, row_group: int) -> bool:
        """Tell whether a row group states by which columns it is sorted."""
        return bool(self.group_row(row_group)[s.GROUP_SORTED])

    def chunk_bytes(self, row_group: int) -> list[int]:
        """Return the length of each column chunk of a row group."""
        rows = self.chunk_rows(row_group)
        return self.chunks[rows.start + s.COMPRESSED : rows.stop : s.CHUNK_WIDTH].tolist()

    def chunk_codecs(self, row_group: int) -> list[int]:
        """Return the number of the codec of each column chunk of a row group."""
        rows = self.chunk_rows(row_group)
        return self.chunks[rows.start + s.CODEC : rows.stop : s.CHUNK_WIDTH].tolist()

    def chunks_file_bytes(self, row_group: int, columns: Collection[int]) -> int:
        """Return what some column chunks take of the file in all, and as copies in another."""
        rows = self.chunk_rows(row_group)
        found = 0
        for column in columns:
            row = self.chunks[rows[column] : rows[column] + s.CHUNK_WIDTH]
            found += sum(row[one] for one in _COPIED) + row[s.END] - row[s.BEGIN]
        return found

    def row_group_footer_bytes(self, row_group: int) -> int:
        """Return how much of the footer describes a row group."""
        chunks = self.chunk_rows(row_group)
        end = self.group_row(row_group)[s.GROUP_END]
        return end - self.chunks[chunks.start + s.BEGIN] if chunks else 0

    def row_group_file_bytes(self, row_group: int) -> int:
        """Return what a row group takes of its file in all, and as a copy in another."""
        chunks = self.chunk_rows(row_group)
        found = sum(self.chunks[at + column] for at in chunks for column in _COPIED)
        return found + self.row_group_footer_bytes(row_group)

    def as_file(self) -> bytes:
        """Return the footer as a file that holds nothing else."""
        return b"".join((MAGIC, self.data, len(self.data).to_bytes(4, "little"), MAGIC))

    @property
    def held_bytes(self) -> int:
        """About what it takes in memory."""
        numbers = len(self.chunks) * self.chunks.itemsize
        return numbers + len(self.data) + len(self.tail) + len(self.row_groups) * 8

    def value(self, number: int) -> bytes | None:
        """Return the serialised value of a field of the file; None when it is absent."""
        for one in self.fields:
            if one.number == number:
                return self.data[one.start : one.end]
        return None

    @property
    def created_by(self) -> str | None:
        """What the writer calls itself; None when it does not."""
        value = self.value(CREATED_BY)
        if value is None:
            return None
        with decoding(str(self.location)):
            return read_binary(value, 0)[0].decode("utf-8", "replace")

    def key_values(self) -> dict[bytes, bytes | None]:
        """Return the key-value metadata of the file; a value may be missing."""
        value = self.value(KEY_VALUES)
        if value is None:
            return {}
        with decoding(str(self.location)):
            return dict(_key_values(value))


def parse_footer(location: Location, data: bytes, *, size_bytes: int) -> Footer:
    """Read a serialised FileMetaData that ends 8 bytes before the end of its file.

    Raises:
        CorruptTableError: it is no such structure, or names bytes outside of its file.
    """
    offset = size_bytes - 8 - len(data)
    with decoding(str(location)):
        found, scanned, schema = _read_file_metadata(data, offset)
        rows = sum(scanned.row_groups[s.GROUP_ROWS :: s.GROUP_WIDTH])
        stated = next(read_signed(data, one.start)[0] for one in found if one.number == ROWS)
        if stated != rows:
            corrupt(f"the file claims {stated} rows, its row groups have {rows}")
    return Footer(
        location=location,
        size_bytes=size_bytes,
        offset=offset,
        data=data,
        fields=tuple(found),
        schema=schema,
        row_count=rows,
        chunks=scanned.chunks,
        row_groups=scanned.row_groups,
        obstacle=scanned.obstacle,
    )


def _read_file_metadata(data: bytes, offset: int) -> tuple[list[Field], s.Scan, Schema]:
    found: list[Field] = []
    schema: Schema | None = None
    scanned: s.Scan | None = None
    at = number = 0
    obstacle = None
    while header := data[at]:
        kind = header & 15
        number, at = read_field_number(data, at, number)
        if kind != _KINDS.get(number, kind):
            corrupt(f"the field {number} of the footer has the wrong type {kind}")
        start = at
        if number == ROW_GROUPS:
            if schema is None:
                corrupt("the footer has no schema")
            scanned = s.Scan(data, offset, schema.leaves, schema.openings)
            at = scanned.read_row_groups(at)
        else:
            at = skip(data, at, kind)
        if number == SCHEMA:
            schema = read_schema(data[start:at])
        obstacle = obstacle or _file_obstacle(number)
        found.append(Field(number, kind, start, at))
    if schema is None or scanned is None or ROWS not in {one.number for one in found}:
        corrupt("the footer lacks its schema, its row groups or its number of rows")
    if at + 1 != len(data):
        obstacle = "the footer is followed by bytes of unknown meaning"
    scanned.obstacle = obstacle or scanned.obstacle
    return found, scanned, schema


def _file_obstacle(number: int) -> str | None:
    if number in _ENCRYPTION:
        return "columns are encrypted or the footer is signed"
    return "the footer has extensions" if number == s.EXTENSION else None


def _key_values(data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    count, kind, at = read_list(data, 0)
    if count and kind != STRUCT:
        corrupt("the key-value metadata is no list of structures")
    for _ in range(count):
        pair = {
            one.number: read_binary(data, one.start)[0]
            for one in fields(data, at)
            if one.kind == BINARY
        }
        if 1 not in pair:
            corrupt("an entry of the key-value metadata has no key")
        yield pair[1], pair.get(2)
        at = skip_struct(data, at)
