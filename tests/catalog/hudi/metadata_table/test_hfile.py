"""HFiles: what is written is read back, files of Spark are read, torn ones are not."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.metadata_table.hfile import (
    BLOCK_HEAD,
    LEAF_INDEX_MAGIC,
    ROOT_INDEX_MAGIC,
    TRAILER_BYTES,
    Codec,
    TrailerField,
    checksum_bytes,
    decode_hadoop_length,
    decode_message,
    decode_varint,
    encode_hadoop_length,
    encode_message,
    encode_varint,
)
from catalog.hudi.metadata_table.hfile_reader import HFile, open_hfile
from catalog.hudi.metadata_table.hfile_writer import encode_hfile
from tests.judges.make_hudi_fixtures import unpack

SCHEMA = '{"type":"record","name":"r","fields":[]}'
KEYS = st.binary(max_size=40)
WHOLE = encode_hfile([(b"key", b"value" * 9), (b"other", b"")], SCHEMA)
ENTRIES = st.dictionaries(KEYS, st.binary(max_size=200), max_size=40)


def opened(data: bytes) -> HFile:
    return open_hfile(pa.BufferReader(data))


@settings(max_examples=40)
@given(ENTRIES)
def test_what_is_written_is_read(entries: dict[bytes, bytes]) -> None:
    found = opened(encode_hfile(sorted(entries.items()), SCHEMA))
    assert list(found.entries()) == sorted(entries.items())
    assert found.entry_count == len(entries)
    assert found.schema == SCHEMA


@settings(max_examples=15)
@given(st.sets(KEYS, min_size=1, max_size=12), st.integers(0, 40_000), st.sets(KEYS, max_size=5))
def test_prefixes_are_found_over_many_blocks(
    keys: set[bytes], length: int, prefixes: set[bytes]
) -> None:
    entries = [(key, key * 3 + bytes(length)) for key in sorted(keys)]
    found = opened(encode_hfile(entries, SCHEMA))
    wanted = sorted(prefixes)
    assert list(found.entries_with_prefixes(wanted)) == [
        (key, value) for key, value in entries if any(key.startswith(one) for one in wanted)
    ]
    assert list(found.entries()) == entries


@settings(max_examples=40)
@given(st.integers(0, (1 << 63) - 1))
def test_numbers_of_both_kinds(number: int) -> None:
    varint, length = encode_varint(number), encode_hadoop_length(number)
    assert decode_varint(varint, 0) == (number, len(varint))
    assert decode_hadoop_length(length, 0) == (number, len(length))


@settings(max_examples=40)
@given(st.dictionaries(st.integers(1, 500), st.integers(0, 1 << 60) | st.binary(max_size=300)))
def test_messages(fields: dict[int, int | bytes]) -> None:
    assert dict(decode_message(encode_message(fields))) == fields


def test_keys_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="does not rise"):
        encode_hfile([(b"b", b""), (b"a", b"")], SCHEMA)
    with pytest.raises(ValueError, match="40000 bytes"):
        encode_hfile([(b"k" * 40_000, b"")], SCHEMA)


def test_checksums_are_shorter_than_the_last_entry_of_a_block() -> None:
    """Else Hudi's reader, which takes their length off the content, does not see that entry."""
    entries = [(f"{number:06d}".encode(), bytes(range(256)) * 4) for number in range(300)]
    data = encode_hfile([*entries, (b"9", b"")], SCHEMA)
    for block in opened(data).index:
        head = BLOCK_HEAD.unpack_from(data, block.offset)
        assert checksum_bytes(head[6]) < 21


@settings(max_examples=40)
@given(st.data())
def test_a_changed_byte_is_no_other_error(data: st.DataObject) -> None:
    whole = WHOLE
    at = data.draw(st.integers(0, len(whole) - 1))
    torn = bytearray(whole)
    torn[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for one in (bytes(torn), whole[:cut], whole[cut:]):
        try:
            list(opened(one).entries())
        except (CorruptTableError, UnsupportedTableError):
            continue


def _block(magic: bytes, content: bytes, *, checksum: int = 0) -> bytes:
    size_bytes = BLOCK_HEAD.size + len(content)
    length = checksum_bytes(size_bytes)
    head = BLOCK_HEAD.pack(
        magic, len(content) + length, len(content), -1, checksum, 16384, size_bytes
    )
    sums = struct.pack(">I", zlib.crc32(head + content)) if checksum else bytes(length)
    return head + content + sums


def _leveled(checksum: int) -> bytes:
    """Return a file with two levels of index and checksums, as HBase writes large ones."""
    target = io.BytesIO()
    blocks = []
    for key in (b"a", b"b"):
        row = struct.pack(">h", 1) + key
        entry = struct.pack(">ii", 13, 1) + row + b"\0" + bytes(8) + b"\x04" + key.upper() + b"\0"
        block = _block(b"DATABLK*", entry, checksum=checksum)
        blocks.append((row + b"\0" + bytes(8) + b"\x04", target.tell(), len(block)))
        target.write(block)
    entries = [struct.pack(">qi", offset, size) + key for key, offset, size in blocks]
    offsets = [0, len(entries[0]), len(entries[0]) + len(entries[1])]
    leaf_at = target.tell()
    leaf = _block(
        LEAF_INDEX_MAGIC, struct.pack(">i3i", 2, *offsets) + b"".join(entries), checksum=checksum
    )
    target.write(leaf)
    load_at = target.tell()
    key = blocks[0][0]
    root = struct.pack(">qi", leaf_at, len(leaf)) + encode_hadoop_length(len(key)) + key
    target.write(_block(ROOT_INDEX_MAGIC, root, checksum=checksum))
    target.write(_block(ROOT_INDEX_MAGIC, b"", checksum=checksum))
    info_at = target.tell()
    pair = encode_message({1: encode_message({1: b"schema", 2: SCHEMA.encode()})})
    target.write(_block(b"FILEINF2", b"PBUF" + encode_varint(len(pair)) + pair, checksum=checksum))
    trailer = encode_message(
        {
            TrailerField.FILE_INFO_OFFSET: info_at,
            TrailerField.LOAD_ON_OPEN_OFFSET: load_at,
            TrailerField.DATA_INDEX_COUNT: 1,
            TrailerField.ENTRY_COUNT: 2,
            TrailerField.INDEX_LEVELS: 2,
            TrailerField.CODEC: Codec.NONE,
        }
    )
    front = b'TRABLK"$' + encode_varint(len(trailer)) + trailer
    target.write(front.ljust(TRAILER_BYTES - 4, b"\0") + b"\x03\x00\x00\x03")
    return target.getvalue()


@pytest.mark.parametrize("checksum", [0, 1])
def test_indexes_of_two_levels_and_checksums(checksum: int) -> None:
    found = opened(_leveled(checksum))
    assert list(found.entries()) == [(b"a", b"A"), (b"b", b"B")]
    assert list(found.entries_with_prefixes([b"b"])) == [(b"b", b"B")]


def test_a_checksum_that_does_not_hold() -> None:
    data = bytearray(_leveled(1))
    at = data.index(b"A\0")
    data[at] = ord("X")
    with pytest.raises(CorruptTableError, match="checksum"):
        list(opened(bytes(data)).entries())


def test_a_block_that_unpacks_to_more_than_it_says_is_refused() -> None:
    data = bytearray(encode_hfile([(b"a", bytes(1 << 20))], SCHEMA))
    at = data.index(b"DATABLK*")
    head = list(BLOCK_HEAD.unpack_from(data, at))
    head[2] = 100
    BLOCK_HEAD.pack_into(data, at, *head)
    with pytest.raises(CorruptTableError, match="has 101 bytes, not 100"):
        list(opened(bytes(data)).entries())


def test_offsets_outside_of_the_file_are_refused() -> None:
    data = encode_hfile([(b"a", b"b")], SCHEMA)
    for cut in range(1, len(data) - TRAILER_BYTES, 37):
        with pytest.raises((CorruptTableError, UnsupportedTableError)):
            list(opened(data[cut:]).entries())


def test_other_compressions_are_named() -> None:
    data = bytearray(encode_hfile([(b"a", b"b")], SCHEMA))
    at = data.rindex(bytes((TrailerField.CODEC << 3, Codec.GZIP)))
    data[at + 1] = Codec.SNAPPY
    with pytest.raises(UnsupportedTableError, match="snappy"):
        opened(bytes(data))


def test_base_files_of_spark(tmp_path: Path) -> None:
    path = unpack("v9_mor_archived", tmp_path)
    files = sorted((path / ".hoodie" / "metadata" / "files").glob("*.hfile"))
    assert len(files) > 1
    for file in files:
        found = opened(file.read_bytes())
        assert b"__all_partitions__" in dict(found.entries())
        assert found.codec is Codec.GZIP
