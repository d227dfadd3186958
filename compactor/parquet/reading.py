"""Footers and page indexes out of storage: one read of the end of a file, two if it is long."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from operator import add

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.location import Location
from catalog.storage import ByteRange, Storage
from compactor.parquet import scan as s
from compactor.parquet.footer import MAGIC, Footer, parse_footer
from compactor.parquet.page_index import Stretches
from compactor.parquet.splice import SpliceSource
from compactor.parquet.thrift import corrupt, decoding, fields, read_signed

# The first read: footer and page indexes of a small file, and about what a request costs in bytes.
TAIL_BYTES = 64 << 10
# 10,000 row groups of 60 columns take 150 MiB; what is longer is not read.
FOOTER_BYTES_MAX = 256 << 20
INDEX_BYTES_MAX = 256 << 20
# Page indexes closer than this are fetched at once.
_GAP_BYTES = 64 << 10
# What surrounds them is fetched as well while it is at most this many times their size.
_SPARSE_REGION = 2
_INDEX_COLUMNS = (
    (s.COLUMN_INDEX, s.COLUMN_INDEX_LENGTH),
    (s.OFFSET_INDEX, s.OFFSET_INDEX_LENGTH),
)
_ENCRYPTED_MAGIC = b"PARE"
_TRAILER_BYTES = 8
# Header of a Bloom filter: four short fields.
_BLOOM_HEADER_BYTES = 64
_BLOOM_BYTES_FIELD = 1
# Enough for the four numbers that a page header begins with; the last is the checksum.
_PAGE_HEADER_BYTES = 32
_CHECKSUM_FIELD = 4


def read_footer(storage: Storage, location: Location, size_bytes: int) -> Footer:
    """Read the footer of a Parquet file.

    Raises:
        CorruptTableError: it is no Parquet file of this size.
        UnsupportedTableError: the footer is encrypted, or longer than `FOOTER_BYTES_MAX`.
    """
    length = min(size_bytes, TAIL_BYTES)
    tail, version = storage.read_version(location, ByteRange(size_bytes - length, length))
    footer_bytes = _footer_bytes(location, tail, size_bytes)
    wanted = footer_bytes + _TRAILER_BYTES
    if wanted > length:
        tail, later = storage.read_version(location, ByteRange(size_bytes - wanted, wanted))
        if later.etag != version.etag:
            raise CorruptTableError(f"{location} was replaced while its footer was read")
    footer = parse_footer(location, tail[-wanted:-_TRAILER_BYTES], size_bytes=size_bytes)
    footer = replace(footer, etag=version.etag)
    return _with_filter_lengths(storage, _with_tail(footer, tail))


def _footer_bytes(location: Location, tail: bytes, size_bytes: int) -> int:
    magic = tail[-len(MAGIC) :]
    if magic == _ENCRYPTED_MAGIC:
        raise UnsupportedTableError(f"the footer of {location} is encrypted")
    length = int.from_bytes(tail[-_TRAILER_BYTES : -len(MAGIC)], "little")
    if magic != MAGIC or length + _TRAILER_BYTES + len(MAGIC) > size_bytes:
        raise CorruptTableError(f"{location} is no Parquet file of {size_bytes} bytes")
    if length > FOOTER_BYTES_MAX:
        raise UnsupportedTableError(f"the footer of {location} has {length} bytes")
    return length


def _with_tail(footer: Footer, tail: bytes) -> Footer:
    """Keep of the first read what holds page indexes: it need not be read again."""
    offset = footer.size_bytes - len(tail)
    region = _index_region(footer.chunks)
    begin = max(region.offset, offset)
    kept = tail[begin - offset : region.offset + region.length - offset]
    return replace(footer, tail=kept, tail_offset=begin) if kept else footer


def _with_filter_lengths(storage: Storage, footer: Footer) -> Footer:
    """Learn the lengths of Bloom filters from their headers where the footer does not say them."""
    chunks = footer.chunks
    unknown = [
        at
        for at in range(0, len(chunks), s.CHUNK_WIDTH)
        if chunks[at + s.BLOOM] and not chunks[at + s.BLOOM_LENGTH]
    ]
    if not unknown or footer.obstacle is not None:
        return footer
    ranges = [
        ByteRange(offset, min(_BLOOM_HEADER_BYTES, footer.offset - offset))
        for offset in (chunks[at + s.BLOOM] for at in unknown)
    ]
    headers = storage.read_ranges(footer.location, ranges)
    known = chunks[:]
    with decoding(str(footer.location)):
        for at, header in zip(unknown, headers, strict=True):
            length = _filter_length(header)
            if chunks[at + s.BLOOM] + length > footer.offset:
                corrupt("a Bloom filter lies outside of the data")
            known[at + s.BLOOM_LENGTH] = length
    return replace(footer, chunks=known)


def _filter_length(header: bytes) -> int:
    """Return the length of a Bloom filter, its header included."""
    bits = end = 0
    for one in fields(header, 0):
        if one.number == _BLOOM_BYTES_FIELD:
            bits = read_signed(header, one.start)[0]
        end = one.end
    if bits <= 0:
        corrupt("a Bloom filter has no length")
    return end + 1 + bits


def read_page_indexes(storage: Storage, sources: Sequence[SpliceSource]) -> list[Stretches]:
    """Read the page indexes of the wanted row groups, those of one file together.

    Returns:
        For each source the parts of its file that hold them.

    Raises:
        CorruptTableError: the file is shorter than it was, or page indexes overlap.
        UnsupportedTableError: they are longer than `INDEX_BYTES_MAX`.
    """
    rows_of: dict[int, dict[range, None]] = {}
    for source in sources:
        wanted = rows_of.setdefault(id(source.footer), {})
        wanted.update(dict.fromkeys(map(source.chunk_rows, source.row_groups)))
    footers = {id(source.footer): source.footer for source in sources}
    found = {key: _read_stretches(storage, footers[key], rows) for key, rows in rows_of.items()}
    return [found[id(source.footer)] for source in sources]


def _read_stretches(storage: Storage, footer: Footer, chunk_rows: Iterable[range]) -> Stretches:
    wanted = array("q")
    for rows in chunk_rows:
        wanted += footer.chunks[rows.start : rows.stop]
    region = _index_region(wanted)
    if not region.length:
        return Stretches()
    index_bytes = sum(wanted[s.COLUMN_INDEX_LENGTH :: s.CHUNK_WIDTH])
    index_bytes += sum(wanted[s.OFFSET_INDEX_LENGTH :: s.CHUNK_WIDTH])
    if index_bytes > region.length:
        raise CorruptTableError(f"{footer.location}: page indexes overlap")
    if index_bytes > INDEX_BYTES_MAX:
        raise UnsupportedTableError(
            f"the page indexes of {footer.location} have {index_bytes} bytes"
        )
    if region.offset >= footer.tail_offset and footer.tail:
        return Stretches((footer.tail_offset,), (footer.tail,))
    ranges = [region]
    if region.length > index_bytes * _SPARSE_REGION:
        ranges = joined_ranges(_index_ranges(wanted), gap_bytes=_GAP_BYTES)
    parts = storage.read_ranges(footer.location, ranges)
    return Stretches(tuple(one.offset for one in ranges), tuple(parts))


def has_page_checksums(storage: Storage, footer: Footer, row_group: int) -> bool:
    """Tell whether the first page of a row group carries a checksum, as its writer's others do."""
    rows = footer.chunk_rows(row_group)
    if not rows:
        return False
    offset = footer.chunks[rows[0] + s.START]
    length = min(_PAGE_HEADER_BYTES, footer.offset - offset)
    header = storage.read_range(footer.location, offset, length)
    with suppress(CorruptTableError, IndexError):
        return any(one.number == _CHECKSUM_FIELD for one in fields(header, 0))
    return False


def _index_region(chunks: array[int]) -> ByteRange:
    """Return the one range that holds all page indexes; its length is 0 when there are none."""
    begins, ends = [], []
    for offset, length in _INDEX_COLUMNS:
        offsets = chunks[offset :: s.CHUNK_WIDTH]
        begins += [min(filter(None, offsets), default=0)]
        ends += [max(map(add, offsets, chunks[length :: s.CHUNK_WIDTH]), default=0)]
    begin = min(filter(None, begins), default=0)
    return ByteRange(begin, max(ends) - begin)


def _index_ranges(chunks: array[int]) -> Iterator[ByteRange]:
    """Yield where each of the page indexes is."""
    for offset, length in _INDEX_COLUMNS:
        pairs = zip(chunks[offset :: s.CHUNK_WIDTH], chunks[length :: s.CHUNK_WIDTH], strict=True)
        yield from (ByteRange(*pair) for pair in pairs if pair[0])


def joined_ranges(ranges: Iterable[ByteRange], *, gap_bytes: int) -> list[ByteRange]:
    """Return ranges that cover the given ones, in order, gaps up to a size filled."""
    joined: list[ByteRange] = []
    for one in sorted(ranges):
        last = joined[-1] if joined else None
        if last is not None and one.offset <= last.offset + last.length + gap_bytes:
            length = max(last.length, one.offset + one.length - last.offset)
            joined[-1] = ByteRange(last.offset, length)
        else:
            joined.append(one)
    return joined
