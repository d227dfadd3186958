"""Permutations, ranges and curves, each against its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import UnsupportedTableError
from catalog.layout import SortField
from compactor.clustering import Clustering, Strategy
from compactor.rewrite.cluster import curves
from compactor.rewrite.cluster.comparable import comparable
from compactor.rewrite.cluster.external import ExternalSort, put_together
from compactor.rewrite.cluster.permutation import Key, sort_permutation
from compactor.rewrite.cluster.row_order import RowOrder, make_frame
from compactor.rewrite.cluster.splitters import Splitters
from tests.compactor.rewrite.cluster.orders import clusterings, has_order, sorted_rows
from tests.compactor.rewrite.generated import tables

FLOATS = np.array(
    [0xFFF8000000000001, 0xFFF0000000000000, 0xBFF0000000000000, 0x8000000000000001,
     0x8000000000000000, 0, 1, 0x3FF0000000000000, 0x7FF0000000000000, 0x7FF8000000000000,
     0x7FFFFFFFFFFFFFFF], np.uint64
)  # fmt: skip


def one_batch(table: pa.Table) -> pa.RecordBatch:
    return put_together(table.to_batches(), table.schema)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_rows_of_any_type_are_sorted_and_equal_ones_stay_in_turn(data: st.DataObject) -> None:
    table = data.draw(tables(max_size=30).filter(lambda drawn: has_order(drawn.schema)))
    clustering = data.draw(clusterings(table.schema))
    found = RowOrder(clustering, table.schema).permutation(one_batch(table))
    assert found.tolist() == sorted_rows(table, clustering.fields)


@given(st.lists(st.sampled_from(["", "a", "a\0", "a\0b", "prefix__a", "prefix__", "prefix__a\0"])
                | st.text(max_size=12) | st.none()), st.booleans())  # fmt: skip
def test_texts_are_compared_to_their_ends(values: list[str | None], is_descending: bool) -> None:
    table = pa.table({"a": pa.array(values, pa.string())})
    field = SortField(1, ("a",), is_descending)
    key = Key(comparable(one_batch(table)["a"]), is_descending, is_nulls_first=True)
    assert sort_permutation([key]).tolist() == sorted_rows(table, [field])


def test_floats_are_in_their_total_order() -> None:
    shuffled = np.random.default_rng(1).permutation(len(FLOATS))
    array = pa.array(FLOATS[shuffled].view(np.float64))
    order = sort_permutation([Key(comparable(array))])
    assert FLOATS[shuffled][order].tolist() == FLOATS.tolist()


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_ranges_follow_each_other_and_uniform_ones_are_uniform(data: st.DataObject) -> None:
    table = data.draw(tables(min_size=1, max_size=40).filter(lambda one: has_order(one.schema)))
    clustering = data.draw(clusterings(table.schema))
    order = RowOrder(clustering, table.schema)
    batch = one_batch(table)
    sample = batch.slice(0, data.draw(st.integers(1, batch.num_rows)))
    splitters = Splitters(order.keys(sample), data.draw(st.integers(2, 9)))
    pieces = dict(splitters.cut(batch, order.keys(batch)))
    assert list(pieces) == sorted(pieces)
    assert sum(piece.num_rows for piece in pieces.values()) == batch.num_rows
    ends = [
        (order.place(piece, int(rows[0])), order.place(piece, int(rows[-1])))
        for piece in pieces.values()
        for rows in [order.permutation(piece)]
    ]
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(ends))
    for number in splitters.uniform & set(pieces):
        piece = pieces[number]
        assert len({order.place(piece, row) for row in range(piece.num_rows)}) == 1


@settings(deadline=None, max_examples=20)
@given(st.data(), st.sampled_from([1 << 12, 1 << 15, 1 << 30]), st.sampled_from(list(Strategy)[1:]))
def test_any_memory_gives_the_same_order(
    data: st.DataObject, memory_bytes: int, strategy: Strategy
) -> None:
    seed = data.draw(st.integers(0, 1 << 16))
    chance = np.random.default_rng(seed)
    rows = int(chance.integers(1, 6_000))
    frequent = chance.random(rows) < data.draw(st.sampled_from([0.0, 0.5, 0.98, 1.0]))
    table = pa.table(
        {
            "a": np.where(frequent, 7, chance.integers(0, 500, rows)),
            "b": [None if one < 0.1 else f"https://x.org/{int(one * 40)}" for one in
                  chance.random(rows)],
            "n": np.arange(rows),
        }
    )  # fmt: skip
    fields = (SortField(1, ("a",)), SortField(2, ("b",), is_descending=strategy == "sort"))
    frame = make_frame(one_batch(table.slice(0, 500)), fields) if strategy.is_curve else None
    order = RowOrder(Clustering(strategy, fields, frame), table.schema)
    batches = table.to_batches(max_chunksize=700)
    sort = ExternalSort(
        order, table.schema, sample=lambda: batches[0], memory_bytes=memory_bytes, rows=rows
    )
    for batch in batches:
        sort.add(batch)
    found = pa.Table.from_batches(sort.batches(), table.schema)
    assert found.equals(table.take(pa.array(order.permutation(one_batch(table)))))
    assert (sort.spilled_bytes > 0) == (table.nbytes > memory_bytes / 2 and memory_bytes < 1 << 20)


def test_dictionaries_and_plain_texts_are_sorted_together() -> None:
    plain = pa.RecordBatch.from_pydict({"t": ["c", "a", None], "n": [0, 1, 2]})
    coded = pa.RecordBatch.from_arrays(
        [pa.array(["b", "a", "b"]).dictionary_encode(), pa.array([3, 4, 5])], ["t", "n"]
    )
    order = RowOrder(Clustering(Strategy.SORT, (SortField(1, ("t",)),)), plain.schema)
    sort = ExternalSort(order, plain.schema, sample=lambda: plain, memory_bytes=64, rows=12)
    for batch in (plain, coded, plain, coded):
        sort.add(batch)
    rows = [row for batch in sort.batches() for row in batch.to_pylist()]
    assert [row["t"] for row in rows] == [None] * 2 + ["a"] * 4 + ["b"] * 4 + ["c"] * 2
    assert [row["n"] for row in rows] == [2, 2, 1, 4, 1, 4, 3, 5, 3, 5, 0, 0]


@pytest.mark.parametrize(("columns", "bits"), [(1, 4), (2, 2), (2, 5), (3, 3), (4, 2)])
def test_curves_visit_every_cell_once(
    columns: int, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "cell_bits", lambda columns: bits)
    curves._spread.cache_clear()
    grid = np.array(list(itertools.product(range(1 << bits), repeat=columns)), dtype=np.uint64)
    cells = [grid[:, column].copy() for column in range(columns)]
    for curve in (curves.zorder, curves.hilbert):
        assert sorted(curve(cells).tolist()) == list(range(len(grid)))
    steps = np.diff(grid[np.argsort(curves.hilbert(cells))].astype(int), axis=0)
    assert (np.abs(steps).sum(axis=1) == 1).all()
    curves._spread.cache_clear()


@given(st.lists(st.lists(st.integers(0, 1023), min_size=3, max_size=3), min_size=2))
def test_z_order_grows_with_every_cell(points: list[list[int]]) -> None:
    cells = np.array(points, dtype=np.uint64)
    places = curves.zorder([cells[:, column] for column in range(3)])
    for one, other in itertools.pairwise(range(len(points))):
        if (cells[one] <= cells[other]).all():
            assert places[one] <= places[other]


def test_cells_of_a_frame_do_not_depend_on_skew() -> None:
    chance = np.random.default_rng(5)
    skewed = pa.table({"a": np.exp(chance.normal(0, 8, 20_000)), "b": chance.random(20_000)})
    fields = (SortField(1, ("a",)), SortField(2, ("b",)))
    frame = make_frame(one_batch(skewed), fields)
    clustering = Clustering(Strategy.ZORDER, fields, frame)
    places = RowOrder(clustering, skewed.schema).keys(one_batch(skewed))[0].column.numbers
    quarters = np.bincount((places >> np.uint64(18)).astype(int), minlength=4)
    assert quarters.min() > 4_500


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.struct([("x", pa.int32())]),
                                  pa.map_(pa.string(), pa.int32())])  # fmt: skip
def test_what_has_no_order_is_refused_by_name(kind: pa.DataType) -> None:
    schema = pa.schema([("odd", kind)])
    with pytest.raises(UnsupportedTableError, match=r"'odd'.*no order"):
        RowOrder(Clustering(Strategy.SORT, (SortField(1, ("odd",)),)), schema)
    with pytest.raises(UnsupportedTableError, match=r"no column 'no'"):
        RowOrder(Clustering(Strategy.SORT, (SortField(1, ("no",)),)), schema)


def test_rows_that_are_larger_than_the_memory_are_sorted_one_by_one() -> None:
    table = pa.table({"a": ["x" * 500, "x" * 500, "y" * 500, "a" * 500]})
    order = RowOrder(Clustering(Strategy.SORT, (SortField(1, ("a",)),)), table.schema)
    sort = ExternalSort(
        order, table.schema, sample=lambda: table.to_batches()[0], memory_bytes=64, rows=4
    )
    for batch in table.to_batches(max_chunksize=1):
        sort.add(batch)
    assert [row["a"][0] for batch in sort.batches() for row in batch.to_pylist()] == list("axxy")
