"""Which columns are written without a dictionary."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
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
    assert unrepeating_paths(batches, MIB) == (frozenset() if has_dictionary else {"a"})


def test_more_values_than_a_dictionary_takes_get_none() -> None:
    in_order, mixed = np.arange(ROWS) // 4, CHANCE.integers(0, 25_000, ROWS)
    columns = [pa.array(in_order), pa.array(mixed), pa.array(mixed % 5_000)]
    batch = pa.RecordBatch.from_arrays(columns, names=["in_order", "mixed", "few"])
    assert unrepeating_paths([batch], 25_000 * 8 // 2) == {"in_order", "mixed"}


def test_few_rows_are_all_looked_at() -> None:
    rows = pa.RecordBatch.from_pydict({"a": list(range(9)), "b": [1] * 9, "c": ["x"] * 9})
    assert unrepeating_paths([rows], MIB) == {"a"}


def test_no_rows_ask_for_nothing() -> None:
    """As where columns of a row group are copied in another order, and none is encoded."""
    assert unrepeating_paths([], MIB) == frozenset()
