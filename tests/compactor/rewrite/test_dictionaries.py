"""Which columns are written without a dictionary."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compactor.rewrite.dictionaries import unrepeating_paths

ROWS = 100_000
MIB = 1 << 20
CHANCE = np.random.default_rng(1)


@pytest.mark.parametrize(
    ("values", "has_dictionary"),
    [
        (CHANCE.integers(0, 10_000, ROWS), True),
        (CHANCE.integers(0, 50_000, ROWS), False),
        (CHANCE.integers(0, ROWS * 9, ROWS), False),
        (np.arange(ROWS), False),
        # In order, four rows of each: new values come until the end.
        (np.arange(ROWS) // 4, True),
        (np.repeat(np.arange(4_000), 25), True),
        (np.zeros(ROWS, np.int64), True),
    ],
)
def test_values_are_counted_in_a_sample(values: np.ndarray, has_dictionary: bool) -> None:
    whole = pa.RecordBatch.from_arrays([pa.array(values)], names=["a"])
    batches = [whole.slice(start, 30_000) for start in range(0, ROWS, 30_000)]
    found = unrepeating_paths(batches, MIB, is_compressed=False)
    assert found == (frozenset() if has_dictionary else {"a"})


@pytest.mark.parametrize(
    ("values", "has_dictionary"),
    [
        (np.arange(ROWS) // 4, False),
        (CHANCE.permutation(ROWS // 4).repeat(4), False),
        (np.repeat(np.arange(4_000), 25), True),
        (CHANCE.integers(0, 10_000, ROWS), True),
        (np.zeros(ROWS, np.int64), True),
    ],
)
def test_a_codec_sees_to_few_neighbours_alike(values: np.ndarray, has_dictionary: bool) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(values)], names=["a"])
    found = unrepeating_paths([batch], MIB, is_compressed=True)
    assert found == (frozenset() if has_dictionary else {"a"})
    sizes = {}
    for way in (True, False):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(batch), sink, compression="zstd", use_dictionary=way)
        sizes[way] = sink.tell()
    assert sizes[has_dictionary] <= sizes[not has_dictionary] * 1.3


def test_more_values_than_a_dictionary_takes_get_none() -> None:
    in_order, mixed = np.arange(ROWS) // 4, CHANCE.integers(0, 25_000, ROWS)
    columns = [pa.array(in_order), pa.array(mixed), pa.array(mixed % 5_000)]
    batch = pa.RecordBatch.from_arrays(columns, names=["in_order", "mixed", "few"])
    assert unrepeating_paths([batch], 25_000 * 8 // 2, is_compressed=False) == {"in_order", "mixed"}


def test_few_rows_are_all_looked_at() -> None:
    rows = pa.RecordBatch.from_pydict({"a": list(range(9)), "b": [1] * 9, "c": ["x"] * 9})
    assert unrepeating_paths([rows], MIB, is_compressed=True) == {"a"}


def test_no_rows_ask_for_nothing() -> None:
    """As where columns of a row group are copied in another order, and none is encoded."""
    assert unrepeating_paths([], MIB, is_compressed=True) == frozenset()
