"""The fingerprint depends on every cell of every row and on nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from compactor.rewrite.fingerprint import digest_batch
from compactor.rewrite.task import EMPTY_DIGEST, RowDigest
from tests.compactor.rewrite.generated import nullable, schemas, tables

MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def digest(rows: pa.Table) -> RowDigest:
    total = EMPTY_DIGEST
    for batch in rows.to_batches():
        total += digest_batch(batch)
    return total


def of(values: list[Any], kind: pa.DataType) -> RowDigest:
    return digest(pa.table({"c": pa.array(values, kind)}))


@MANY
@given(data=st.data(), rows=tables(min_size=1, max_size=20))
def test_order_and_batches_do_not_matter(data: st.DataObject, rows: pa.Table) -> None:
    order = data.draw(st.permutations(range(rows.num_rows)))
    cut = data.draw(st.integers(0, rows.num_rows))
    shuffled = rows.take(pa.array(order, pa.int64()))
    parts = digest(shuffled.slice(0, cut)) + digest(shuffled.slice(cut))
    assert parts == digest(rows) == digest(rows.combine_chunks())


@MANY
@given(rows=tables(min_size=1, max_size=20))
def test_lost_and_doubled_rows_show(rows: pa.Table) -> None:
    assert digest(rows.slice(1)) != digest(rows)
    assert digest(pa.concat_tables([rows, rows.slice(0, 1)])) != digest(rows)
    lost_and_doubled = pa.concat_tables([rows.slice(1), rows.slice(1, 1)])
    if rows.num_rows > 1 and not rows.slice(0, 1).equals(rows.slice(1, 1)):
        assert digest(lost_and_doubled).hash_sum != digest(rows).hash_sum


@MANY
@given(data=st.data(), schema=schemas())
def test_any_other_cell_shows(data: st.DataObject, schema: pa.Schema) -> None:
    row = st.fixed_dictionaries({one.name: nullable(one) for one in schema})
    rows = data.draw(st.lists(row, min_size=1, max_size=5))
    column = data.draw(st.sampled_from(list(schema)))
    position = data.draw(st.integers(0, len(rows) - 1))
    changed = copy.deepcopy(rows)
    changed[position][column.name] = data.draw(nullable(column))
    before, after = (pa.Table.from_pylist(some, schema) for some in (rows, changed))
    assume(not before.equals(after))
    assert digest(before).hash_sum != digest(after).hash_sum


PAIR = pa.struct([("a", pa.int32()), ("b", pa.int32())])
LISTS = pa.list_(pa.list_(pa.int32()))
MAP = pa.map_(pa.string(), pa.int32())
DISTINCT: list[tuple[pa.DataType, list[Any]]] = [
    (pa.int64(), [None, 0, 1, -1, 1 << 32, 1 << 62]),
    (pa.string(), [None, "", "\0", "\0\0", "0", "a", "b", "ab", "ba", "a" * 8, "a" * 9]),
    (pa.string(), ["x" * n for n in (255, 256, 257, 512, 1000)]),
    (pa.string(), ["x" * 300 + end for end in ("a", "b", "ab", "ba")]),
    (pa.binary(3), [None, b"\0\0\0", b"abc", b"acb"]),
    (pa.binary(20), [None, b"\0" * 20, b"a" * 20, b"a" * 19 + b"b"]),
    (pa.bool_(), [None, False, True]),
    (pa.float64(), [None, 0.0, -0.0, float("nan"), float("inf"), 1.0, 2.0]),
    (pa.decimal128(38, 0), [None, 0, 1, -1, 1 << 64, (1 << 64) + 1]),
    (PAIR, [None, {"a": None, "b": None}, {"a": 0, "b": 0}, {"a": 1, "b": 2}, {"a": 2, "b": 1}]),
    (LISTS, [None, [], [None], [[]], [[], []], [[1], [2]], [[1, 2]], [[], [1, 2]], [[1, 2], []]]),
    (LISTS, [[[1, 2]], [[2, 1]], [[1, 1, 2]], [[None]], [[0]], [[0, 0]], [[None, None]]]),
    (MAP, [None, [], [("a", 1)], [("a", None)], [("b", 1)], [("a", 1), ("b", 2)]]),
]


@pytest.mark.parametrize(("kind", "values"), DISTINCT)
def test_values_that_differ_have_different_hashes(kind: pa.DataType, values: list[Any]) -> None:
    assert len({of([value], kind) for value in values}) == len(values)


def test_columns_and_cells_cannot_be_exchanged() -> None:
    rows = pa.table({"a": [1, 2], "b": [3, 4]})
    assert digest(rows) != digest(rows.select(["b", "a"]))
    assert digest(rows) != digest(pa.table({"a": [1, 2], "b": [4, 3]}))
    doubles = pa.table({"a": [1.0, 2.0], "b": [4.0, 8.0]})
    assert digest(doubles) != digest(pa.table({"a": [2.0, 1.0], "b": [4.0, 8.0]}))


@pytest.mark.parametrize(
    "spelled",
    [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.binary()],
)
def test_the_spelling_of_a_type_does_not_count(spelled: pa.DataType) -> None:
    values = pa.array(["a", None, "", "long enough to be out of line", "a"])
    assert digest(pa.table({"c": values.cast(spelled)})) == digest(pa.table({"c": values}))


def test_widened_integers_and_large_lists_count_the_same() -> None:
    values = [-1, None, 7]
    assert of(values, pa.int32()) == of(values, pa.int64())
    lists = [[1, 2], None, [], [3]]
    assert of(lists, pa.list_(pa.int32())) == of(lists, pa.large_list(pa.int64()))
    assert of([[1, 2], None], pa.list_(pa.int32(), 2)) == of([[1, 2], None], pa.list_(pa.int32()))


def test_what_lies_under_a_null_does_not_count() -> None:
    mask = pa.array([False, True])
    hidden = pa.StructArray.from_arrays([pa.array([1, 2])], names=["a"], mask=mask)
    plain = pa.StructArray.from_arrays([pa.array([1, 3])], names=["a"], mask=mask)
    assert digest(pa.table({"c": hidden})) == digest(pa.table({"c": plain}))


def test_many_rows_have_no_collision() -> None:
    values = pa.array(range(200_000))
    whole = digest(pa.table({"c": values}))
    assert whole.row_count == 200_000
    assert len({of([value], pa.int64()).hash_sum for value in range(2_000)}) == 2_000


def test_the_sum_is_known() -> None:
    """Digests are compared between program versions: a change of the sum must be meant."""
    rows = pa.table({"a": pa.array([1, None]), "b": ["x", ""], "c": [[1.5], []]})
    assert digest(rows) == RowDigest(2, KNOWN_SUM)


KNOWN_SUM = 24865902497459813402338593039563576644
