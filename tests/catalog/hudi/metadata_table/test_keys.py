"""Keys of the metadata table, and the file groups that they belong to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.hudi.metadata_table.keys import (
    column_partition_prefix,
    column_prefix,
    column_stats_key,
    file_group_number,
    file_group_numbers,
    partition_id,
    partition_path,
    xxhash64,
)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"", 0xEF46DB3751D8E999),
        (b"a", 0xD24EC4F1A98C6E5B),
        (b"abc", 0x44BC2CF5AD770999),
        (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_published_hashes(data: bytes, wanted: int) -> None:
    assert xxhash64(data, 0) == wanted


def test_a_key_that_spark_has_written() -> None:
    name = "198d01cf-e610-42ba-9cca-478a64bc4112-0_2-270-335_20261123050037587.parquet"
    key = column_stats_key("part", "p3", name)
    assert key == "+WGrmgkN3io=3XY/qk6V+28=NHIl3Ao8fAMYB9/RGCPTeQ=="
    assert key.startswith(column_partition_prefix("part", "p3"))
    assert key.startswith(column_prefix("part"))


def _java_hash(text: str) -> int:
    value = 0
    data = text.encode("utf-16-be", "surrogatepass")
    for at in range(0, len(data), 2):
        value = (31 * value + int.from_bytes(data[at : at + 2], "big")) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _java_number(text: str, count: int) -> int:
    value = _java_hash(text)
    absolute = value if value == -(1 << 31) else abs(value)
    remainder = abs(absolute) % count * (-1 if absolute < 0 else 1)
    return abs(remainder)


@settings(max_examples=40)
@given(st.lists(st.text(max_size=30)), st.integers(1, 50))
def test_file_groups_are_those_of_java(keys: list[str], count: int) -> None:
    wanted = [_java_number(key, count) for key in keys]
    assert [file_group_number(key, count) for key in keys] == wanted
    assert file_group_numbers(keys, count).tolist() == wanted


def test_the_lowest_hash_of_java() -> None:
    assert _java_hash("polygenelubricants") == -(1 << 31)
    assert file_group_number("polygenelubricants", 7) == _java_number("polygenelubricants", 7)


def test_partitions() -> None:
    assert partition_id("") == "."
    assert partition_path(".") == ""
    assert partition_path(partition_id("a/b")) == "a/b"
