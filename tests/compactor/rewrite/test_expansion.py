"""How many rows are decoded at once where little bytes stand for many."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compactor.rewrite.expansion import batch_rows

MIB = 1 << 20
ROWS = 100_000


def rows_at_once(column: pa.Array, count: int) -> int:
    """Return the rows of a batch of a file with this column so many times."""
    names = [str(number) for number in range(count)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table([column] * count, names), sink, store_schema=False)
    data = sink.getvalue()
    group = pq.read_metadata(pa.BufferReader(data)).row_group(0)
    return batch_rows(group, names, lambda start, length: data[start : start + length].to_pybytes())


def repeated(length: int, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["x" * length])


@pytest.mark.parametrize(("count", "length"), [(1, 10_000), (10, 10_000), (50, 10_000)])
def test_long_texts_in_every_row_are_seen(count: int, length: int) -> None:
    column = pa.StructArray.from_arrays([repeated(length, ROWS)], ["text"])
    assert rows_at_once(column, count) * count * length < 16 * MIB


def test_long_texts_in_every_list_are_seen() -> None:
    rows, each, length = 1000, 100, 9_000
    offsets = pa.array(np.arange(0, rows * each + 1, each, dtype=np.int32))
    column = pa.ListArray.from_arrays(offsets, repeated(length, rows * each))
    assert rows_at_once(column, 1) * each * length < 16 * MIB


def test_short_texts_do_not_make_batches_small() -> None:
    assert rows_at_once(repeated(9, ROWS), 10) > 10_000
