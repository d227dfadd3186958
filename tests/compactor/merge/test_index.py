"""Rows are found by their keys as a dictionary finds them, whatever share of them is alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from compactor.merge.index import KeyIndex, grouped, last_alike, last_of_each
from compactor.merge.keys import Keys, keys_of

ROWS = 40_000
Make = Callable[[int, int], pa.Array]


def numbers(distinct: int, seed: int) -> pa.Array:
    return pa.array(np.random.default_rng(seed).integers(0, distinct, ROWS))


def texts(distinct: int, seed: int) -> pa.Array:
    return numbers(distinct, seed).cast(pa.string())


def keys(values: pa.Array) -> Keys:
    return keys_of(pa.table({"k": values}), ["k"])


@pytest.mark.parametrize("make", [numbers, texts])
@pytest.mark.parametrize("distinct", [1, 100, ROWS, 1 << 40])
def test_rows_of_one_key_are_put_together(make: Make, distinct: int) -> None:
    values = make(distinct, 1)
    last = {value: row for row, value in enumerate(values.to_pylist())}
    found = keys(values)
    assert last_of_each(found).tolist() == sorted(last.values())
    assert last_alike(found).tolist() == [last[value] for value in values.to_pylist()]
    groups = grouped(found)
    in_turn = values.take(pa.array(groups.rows)).to_pylist()
    ends = groups.ends
    assert sorted(groups.rows.tolist()) == list(range(ROWS))
    assert [in_turn[end] for end in ends] == [in_turn[start] for start in groups.starts]
    assert len(ends) == len(last)
    assert groups.rows[ends].tolist() == [last[in_turn[end]] for end in ends]


@pytest.mark.parametrize("make", [numbers, texts])
@pytest.mark.parametrize("distinct", [1, 1000, 2 * ROWS])
def test_an_index_finds_what_a_dictionary_finds(make: Make, distinct: int) -> None:
    once = make(distinct, 2).unique()
    known = {value: row for row, value in enumerate(once.to_pylist())}
    asked = make(2 * distinct, 3)
    found = KeyIndex(keys(once)).find(keys(asked)).tolist()
    assert found == [known.get(value, -1) for value in asked.to_pylist()]


def test_there_may_be_no_keys() -> None:
    none = keys(pa.array([], pa.int64()))
    some = keys(pa.array([1, 2]))
    assert KeyIndex(none).find(some).tolist() == [-1, -1]
    assert KeyIndex(some).find(none).tolist() == []
    assert last_of_each(none).tolist() == []
    assert len(grouped(none).rows) == 0
