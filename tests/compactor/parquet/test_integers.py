"""Decimals that are read as integers, and dictionaries that are read by themselves."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compactor.parquet import DecimalChunk, as_integer_file, find_dictionary

CODECS = ("NONE", "SNAPPY", "GZIP", "BROTLI", "LZ4", "ZSTD")
WRITTEN = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(CODECS),
        "data_page_version": st.sampled_from(("1.0", "2.0")),
        "store_decimal_as_integer": st.booleans(),
        "write_page_checksum": st.booleans(),
        "use_dictionary": st.sampled_from((True, True, False)),
        "data_page_size": st.sampled_from((64, 1 << 20)),
        "dictionary_pagesize_limit": st.sampled_from((64, 1 << 20)),
    }
)


def written(values: pa.Array, *, nullable: bool = True, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    schema = pa.schema([pa.field("d", values.type, nullable=nullable)])
    pq.write_table(pa.table([values], schema), sink, write_batch_size=16, **options)
    return sink.getvalue().to_pybytes()


def chunk_of(data: bytes) -> DecimalChunk:
    metadata = pq.read_metadata(pa.BufferReader(data))
    chunk, column = metadata.row_group(0).column(0), metadata.schema.column(0)
    offset = chunk.data_page_offset
    if chunk.has_dictionary_page:
        offset = chunk.dictionary_page_offset
    return DecimalChunk(
        name="d",
        is_nullable=column.max_definition_level > 0,
        stored=chunk.physical_type,
        value_bytes=column.length,
        codec=chunk.compression,
        values=chunk.num_values,
        data=data[offset : offset + chunk.total_compressed_size],
    )


def as_read(file: bytes) -> list[int | None]:
    table = pq.ParquetFile(pa.BufferReader(file), page_checksum_verification=True).read()
    found: list[int | None] = table.column("d").to_pylist()
    return found


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 18), WRITTEN)
def test_integers_are_the_decimals_without_their_point(
    data: st.DataObject, precision: int, options: dict[str, object]
) -> None:
    scale = data.draw(st.integers(0, precision))
    limit = 10**precision - 1
    pool = data.draw(st.lists(st.integers(-limit, limit), min_size=1, max_size=8))
    numbers = data.draw(st.lists(st.sampled_from([*pool, None]), min_size=1, max_size=120))
    decimals = [None if one is None else Decimal(one).scaleb(-scale) for one in numbers]
    values = pa.array(decimals, pa.decimal128(precision, scale))
    chunk = chunk_of(written(values, nullable=True, **options))
    names, file = as_integer_file([chunk], len(numbers))
    if names:
        assert as_read(file) == numbers
    # Byte arrays that are not all in the dictionary are left to the reader of decimals.
    is_mixed = options["dictionary_pagesize_limit"] == 64 or not options["use_dictionary"]
    assert names or (is_mixed and not options["store_decimal_as_integer"])


@pytest.mark.parametrize("as_integers", [True, False])
def test_a_damaged_chunk_is_read_elsewhere_or_found_out(as_integers: bool) -> None:
    values = pa.array([Decimal(n % 7) for n in range(500)], pa.decimal128(12, 2))
    data = written(values, store_decimal_as_integer=as_integers, write_page_checksum=True)
    chunk = chunk_of(data)
    expected = [700 * n // 7 % 700 for n in range(500)]
    assert as_read(as_integer_file([chunk], 500)[1]) == expected
    for at in range(0, len(chunk.data), 7):
        damaged = bytearray(chunk.data)
        damaged[at] ^= 0x55
        broken = DecimalChunk(
            "d", True, chunk.stored, chunk.value_bytes, chunk.codec, 500, bytes(damaged)
        )
        names, file = as_integer_file([broken], 500)
        if not names:
            continue
        try:
            assert as_read(file) == expected  # What was hit is told by nobody, and means nothing.
        except (OSError, ValueError, OverflowError):
            continue


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.text(max_size=9), min_size=1, max_size=60),
    st.sampled_from(CODECS),
    st.booleans(),
)
def test_the_values_of_a_dictionary_are_read_by_themselves(
    texts: list[str], codec: str, has_checksums: bool
) -> None:
    data = written(pa.array(texts), compression=codec, write_page_checksum=has_checksums)
    chunk = chunk_of(data)
    page = find_dictionary(chunk.data, 0)
    assert page is not None
    assert page.entries == len(set(texts))
    longest = max(len(one.encode()) for one in texts)
    assert page.longest_bytes_max >= longest
    body = chunk.data[page.offset : page.offset + page.compressed_bytes]
    values = pq.read_table(pa.BufferReader(page.as_file(body, chunk.codec))).column(0)
    assert pc.max(pc.binary_length(values)).as_py() == longest


def test_a_chunk_without_dictionary_has_none() -> None:
    data = written(pa.array(["a" * 1000] * 3), use_dictionary=False, compression="NONE")
    assert find_dictionary(chunk_of(data).data[:256], 0) is None
