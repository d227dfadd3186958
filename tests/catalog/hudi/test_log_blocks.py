"""Blocks of log files: written and found again, also behind what torn writes left."""

import struct

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.log_blocks import (
    MAGIC,
    BlockKind,
    HeaderKey,
    LogBlock,
    encode_block,
    read_blocks,
)

KINDS = [kind for kind in BlockKind if kind is not BlockKind.CORRUPT]
headers = st.dictionaries(st.sampled_from(HeaderKey), st.text(max_size=20), max_size=4)
contents = st.binary(max_size=60) | st.just(MAGIC) | st.just(b"x" + MAGIC + struct.pack(">q", 40))
blocks = st.tuples(st.sampled_from(KINDS), headers, contents)

Found = list[tuple[BlockKind, dict[HeaderKey, str], bytes]]


def read(data: bytes) -> Found:
    file = pa.BufferReader(data)
    return [
        (one.kind, dict(one.header), one.read_content(file).to_pybytes())
        for one in list(read_blocks(file))
    ]


def whole(found: Found) -> Found:
    return [one for one in found if one[0] is not BlockKind.CORRUPT]


@settings(max_examples=40, deadline=None)
@given(st.lists(blocks, max_size=5))
def test_blocks_are_read_as_they_were_written(written):
    assert read(b"".join(encode_block(*one) for one in written)) == written


@settings(max_examples=40, deadline=None)
@given(st.lists(blocks, min_size=1, max_size=4), st.data())
def test_a_torn_tail_costs_only_the_block_that_it_tore(written, data):
    encoded = [encode_block(*one) for one in written]
    kept = data.draw(st.integers(1, len(encoded[-1]) - 1))
    found = read(b"".join(encoded[:-1]) + encoded[-1][:kept])
    # Contents may look like the beginning of blocks, and are no blocks.
    assert whole(found)[: len(written) - 1] == written[:-1]
    assert len(whole(found)) == len(written) - 1


@settings(max_examples=40, deadline=None)
@given(st.lists(blocks, min_size=1, max_size=3), blocks, st.lists(blocks, min_size=1, max_size=3))
def test_no_block_is_lost_behind_a_torn_one(before, torn, after):
    half = encode_block(*torn)
    half = half[: len(half) // 2]
    assume(MAGIC not in half[len(MAGIC) :])
    parts = [*(encode_block(*one) for one in before), half]
    parts += [encode_block(*one) for one in after]
    found = read(b"".join(parts))
    assert whole(found) == [*before, *after]
    assert [one[0] for one in found].count(BlockKind.CORRUPT) == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(blocks, min_size=1, max_size=3), st.data())
def test_a_flipped_bit_moves_no_block(written, data):
    named = [
        (kind, {**header, HeaderKey.BLOCK_IDENTIFIER: f"block-{number}"}, content)
        for number, (kind, header, content) in enumerate(written)
    ]
    encoded = [encode_block(*one) for one in named]
    damaged = bytearray(b"".join(encoded))
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    ends = [sum(map(len, encoded[: number + 1])) for number in range(len(encoded))]
    hit = next(number for number, end in enumerate(ends) if at < end)
    try:
        found = whole(read(bytes(damaged)))
    except (CorruptTableError, UnsupportedTableError):
        return
    # Nothing says that a content is what was written. All other blocks are as they were, but the
    # one before may be taken for torn: the damage hides the magic behind it.
    others = [one for number, one in enumerate(named) if number not in (hit, hit - 1)]
    assert [one for one in found if one in others] == others
    assert len(found) <= len(named)


def test_contents_are_not_read_before_they_are_asked_for(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(encode_block(BlockKind.AVRO_DATA, {HeaderKey.SCHEMA: "s" * 40_000}, b"x" * 99))
    with pa.OSFile(str(path)) as file:
        (block,) = read_blocks(file)
        assert (len(block.header[HeaderKey.SCHEMA]), block.content_bytes) == (40_000, 99)
        assert block.read_content(file).to_pybytes() == b"x" * 99


def test_what_a_header_says_is_told():
    header = {
        HeaderKey.INSTANT_TIME: "3",
        HeaderKey.TARGET_INSTANT_TIME: "1",
        HeaderKey.COMPACTED_BLOCK_TIMES: "1,2",
        HeaderKey.IS_PARTIAL: "TRUE",
    }
    block = LogBlock(BlockKind.AVRO_DATA, header, 0, 0, 0)
    assert (block.instant_time, block.target_instant_time) == ("3", "1")
    assert (block.compacted_instants, block.is_partial) == (("1", "2"), True)


def test_a_file_that_begins_with_something_else_is_damaged():
    with pytest.raises(CorruptTableError, match="byte 0"):
        read(b"PAR1 and more")


def test_what_is_shorter_than_a_magic_is_nothing():
    assert read(b"#HUD") == []


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [(14, 2, "version 2"), (18, 7, "kind 7"), (26, 99, "entry 99")],
)
def test_what_is_not_known_is_refused(at, value, reason):
    data = bytearray(encode_block(BlockKind.DELETE, {HeaderKey.INSTANT_TIME: "1"}, b""))
    data[at : at + 4] = struct.pack(">i", value)
    with pytest.raises(UnsupportedTableError, match=reason):
        read(bytes(data))
