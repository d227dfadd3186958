"""Bloom filters of other writers rule out what is not there, and never what is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import CorruptTableError
from compactor.parquet.bloom import BloomFilter, hash_fixed, hash_spans


def spans(values: list[bytes]) -> Any:
    offsets = np.cumsum([0, *map(len, values)]).astype(np.int64)
    return hash_spans(np.frombuffer(b"".join(values), np.uint8), offsets)


def test_the_published_hashes_of_some_texts() -> None:
    known = {
        b"": 0xEF46DB3751D8E999,
        b"a": 0xD24EC4F1A98C6E5B,
        b"abc": 0x44BC2CF5AD770999,
        b"Nobody inspects the spammish repetition": 0xFBCEA83C8A378BF1,
    }
    assert spans([*known]).tolist() == [*known.values()]


def filter_of(path: Path, column: int = 0) -> BloomFilter:
    chunk = pq.read_metadata(path).row_group(0).column(column)
    start = chunk.bloom_filter_offset
    data = path.read_bytes()[start : start + chunk.bloom_filter_length]
    return BloomFilter(data, name=str(path))


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.binary(max_size=80), min_size=1, max_size=50))
def test_no_value_that_is_there_is_ruled_out(
    values: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("bloom") / "a.parquet"
    options = {"b": {"ndv": 100, "fpp": 0.01}}
    pq.write_table(pa.table({"b": values}), path, bloom_filter_options=options)
    assert filter_of(path).may_hold(spans(values)).all()


@pytest.mark.parametrize("kind", ["<i8", "<i4"])
def test_most_values_that_are_not_there_are_ruled_out(kind: str, tmp_path: Path) -> None:
    there = np.arange(0, 20_000, 2).astype(kind)
    options = {"n": {"ndv": 10_000, "fpp": 0.01}}
    pq.write_table(pa.table({"n": there}), tmp_path / "a", bloom_filter_options=options)
    found = filter_of(tmp_path / "a")
    width = there.itemsize
    assert found.may_hold(hash_fixed(there.view(np.uint8).reshape(-1, width))).all()
    missing = (there + 1).view(np.uint8).reshape(-1, width)
    assert found.may_hold(hash_fixed(missing)).mean() < 0.03


def test_a_filter_of_another_kind_rules_nothing_out(tmp_path: Path) -> None:
    options = {"n": {"ndv": 10, "fpp": 0.01}}
    pq.write_table(pa.table({"n": [1]}), tmp_path / "a", bloom_filter_options=options)
    chunk = pq.read_metadata(tmp_path / "a").row_group(0).column(0)
    start, length = chunk.bloom_filter_offset, chunk.bloom_filter_length
    data = (tmp_path / "a").read_bytes()[start : start + length]
    hashes = spans([b"not there at all"])
    for damaged in (data[:-1], data[:2], b"\x00"):
        try:
            assert BloomFilter(damaged, name="x").may_hold(hashes).all()
        except CorruptTableError as error:
            assert "x" in str(error)  # noqa: PT017
