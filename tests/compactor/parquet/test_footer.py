"""What is read of a footer, against what PyArrow reads of it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from catalog.errors import CorruptTableError
from catalog.location import Location
from compactor.parquet import parse_footer
from compactor.parquet.thrift import field_bytes, list_bytes, signed_bytes
from tests.compactor.parquet.corpus import WRITERS, opened, rows

CODECS = {"UNCOMPRESSED": 0, "SNAPPY": 1, "GZIP": 2, "BROTLI": 4, "LZ4": 7, "ZSTD": 6}
ENCODINGS = {
    "PLAIN": 0, "PLAIN_DICTIONARY": 2, "RLE": 3, "BIT_PACKED": 4, "DELTA_BINARY_PACKED": 5,
    "DELTA_LENGTH_BYTE_ARRAY": 6, "DELTA_BYTE_ARRAY": 7, "RLE_DICTIONARY": 8,
    "BYTE_STREAM_SPLIT": 9,
}  # fmt: skip
TYPES = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY")


@pytest.mark.parametrize("writer", WRITERS)
def test_agrees_with_pyarrow(writer: str, tmp_path: Path) -> None:
    path = tmp_path / "it.parquet"
    WRITERS[writer](path, rows(3))
    ours, theirs = opened(path), pq.read_metadata(path)
    assert ours.obstacle is None
    assert ours.created_by == theirs.created_by
    assert ours.row_count == theirs.num_rows
    assert ours.row_group_count == theirs.num_row_groups
    assert ours.column_count == theirs.num_columns
    assert ours.key_values() == (theirs.metadata or {})
    for index in range(theirs.num_row_groups):
        group = theirs.row_group(index)
        chunks = [group.column(column) for column in range(group.num_columns)]
        assert ours.row_group(index).row_count == group.num_rows
        assert ours.row_group(index).compressed_bytes == sum(
            chunk.total_compressed_size for chunk in chunks
        )
        assert ours.row_group(index).uncompressed_bytes == group.total_byte_size
        for column, chunk in enumerate(chunks):
            found = ours.chunk(index, column)
            assert found.offset == min(
                chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset
            )
            assert found.compressed_bytes == chunk.total_compressed_size
            assert found.uncompressed_bytes == chunk.total_uncompressed_size
            assert found.value_count == chunk.num_values
            assert found.codec == CODECS[chunk.compression]
            assert set(found.encodings) == {ENCODINGS[one] for one in chunk.encodings}
            assert found.has_bloom_filter == (chunk.bloom_filter_offset is not None)
            assert bool(found.statistics) == (chunk.statistics is not None)
            assert (*TYPES, "FIXED_LEN_BYTE_ARRAY")[found.physical_type] == chunk.physical_type


def test_chunks_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    """What is remembered of one file must not be taken for what another one says."""
    found = []
    for codec in ("snappy", "zstd", "snappy", "none"):
        path = tmp_path / f"{len(found)}.parquet"
        pq.write_table(rows(0).select(["id", "name"]), path, compression=codec, store_schema=False)
        footer = opened(path)
        found.append([footer.chunk(0, column).codec for column in range(2)])
    assert found == [[1, 1], [6, 6], [1, 1], [0, 0]]


def element(name: bytes, children: int) -> bytes:
    data = b"" if children else field_bytes(1, 5, 0) + signed_bytes(1)
    data += field_bytes(4, 8, 0 if children else 1) + bytes([len(name)]) + name
    return data + (field_bytes(5, 5, 4) + signed_bytes(children) if children else b"") + b"\0"


def schema_only(*children: int) -> bytes:
    elements = b"".join(element(b"x", one) for one in children)
    data = field_bytes(2, 9, 0) + list_bytes(len(children), 12) + elements
    return data + field_bytes(3, 6, 2) + b"\0" + field_bytes(4, 9, 3) + list_bytes(0, 12) + b"\0"


@pytest.mark.parametrize("children", [(2, 0), (1, 0, 0), (1, 2, 0), (0, 0), (1, -1), (1, 2**30)])
def test_schemas_that_are_no_trees(children: tuple[int, ...]) -> None:
    data = schema_only(*children)
    with pytest.raises(CorruptTableError, match=r"no tree|negative number of children"):
        parse_footer(Location.parse("/it"), data, size_bytes=1000)


def test_columns_of_a_schema() -> None:
    data = schema_only(3, 0, 2, 1, 0, 0, 0)
    schema = parse_footer(Location.parse("/it"), data, size_bytes=1000).schema
    assert [one.leaves for one in schema.columns] == [range(1), range(1, 3), range(3, 4)]
    assert schema.leaves == 4
