"""Rows are deleted by their keys as a dictionary of all deletions would have it, however cut."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import key_join
from catalog.key_join import delete_schema, matches, row_schema

NUMBERS = st.none() | st.integers(-5, 5) | st.sampled_from([-(2**63), 2**63 - 1])
TEXTS = st.none() | st.binary(max_size=3) | st.sampled_from([b"x" * 300, b"\0", b"\0\0"])


def batches(rows: list[tuple], schema: pa.Schema, size: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(rows), size):
        columns = zip(*rows[start : start + size], strict=True)
        arrays = [pa.array(one, field.type) for one, field in zip(columns, schema, strict=True)]
        yield pa.record_batch(arrays, schema=schema)


@pytest.mark.parametrize(("kind", "keys"), [(pa.int64(), NUMBERS), (pa.binary(), TEXTS)])
@settings(deadline=None)
@given(data=st.data())
def test_the_join_is_that_of_a_dictionary(
    data: st.DataObject, kind: pa.DataType, keys: st.SearchStrategy[object]
) -> None:
    deletes = data.draw(st.lists(st.tuples(keys, st.integers(1, 9)), max_size=60))
    rows = [
        (key, number % 3, number)
        for number, key in enumerate(data.draw(st.lists(keys, max_size=60)))
    ]
    held_bytes, size = data.draw(st.sampled_from([0, 100, 10**6])), data.draw(st.integers(1, 20))
    expected: dict[object, int] = {}
    for key, number in deletes:
        expected[key] = max(number, expected.get(key, 0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_join, "_HELD_BYTES_MAX", held_bytes)
        patch.setattr(key_join, "_HASHED_BYTES", held_bytes)
        found = [
            (*row.values(), number)
            for batch, numbers in matches(
                batches(deletes, delete_schema(kind), size),
                batches(rows, row_schema(kind), size),
            )
            for row, number in zip(batch.to_pylist(), numbers.tolist(), strict=True)
        ]

    wanted = [(*row, expected[row[0]]) for row in rows if row[0] in expected]
    assert sorted(found, key=lambda one: one[2]) == wanted


def test_rows_are_not_read_when_nothing_is_deleted() -> None:
    def unread() -> Iterator[pa.RecordBatch]:
        raise AssertionError("nobody needs them")
        yield

    assert list(matches(iter([]), unread())) == []


_LARGE = """
import re, sys, threading, time
import numpy as np, pyarrow as pa
from catalog.key_join import matches

def anonymous():
    with open("/proc/self/status") as status:
        return int(re.search(r"RssAnon:\\s+(\\d+)", status.read())[1]) >> 10

def keys(numbers):
    return pa.array([b"customer-%024d" % one for one in numbers], pa.binary())

def deletes():
    for start in range(0, 1_000_000, 50_000):
        ages = pa.array(np.full(50_000, 7))
        some = keys(range(start, start + 50_000))
        yield pa.record_batch([some, ages], names=["key", "sequence_number"])

def rows():
    for start in range(0, 2_000_000, 50_000):
        columns = [
            keys(range(2 * start, 2 * start + 100_000, 2)),
            pa.array(np.zeros(50_000, np.int32)),
            pa.array(np.arange(start, start + 50_000)),
        ]
        yield pa.record_batch(columns, names=["key", "file", "position"])

peak = 0
def watch():
    global peak
    while True:
        peak = max(peak, anonymous())
        time.sleep(0.005)

threading.Thread(target=watch, daemon=True).start()
print(sum(len(numbers) for _, numbers in matches(deletes(), rows())), peak)
"""


@pytest.mark.slow  # a million keys
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for its memory")
def test_a_million_keys_against_two_million_rows_fit_into_a_small_task() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LARGE],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    found, peak_mib = map(int, done.stdout.split())

    assert found == 500_000
    assert peak_mib < 160
