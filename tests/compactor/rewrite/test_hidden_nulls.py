"""Required fields of optional structs: null below null structs, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compactor.rewrite.hidden_nulls import without_hidden_nulls

INNER = pa.struct(
    [
        pa.field("number", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("flag", pa.bool_(), nullable=False),
        pa.field("price", pa.decimal128(9, 2), nullable=False),
        pa.field("many", pa.list_(pa.int64()), nullable=False),
        pa.field("pairs", pa.map_(pa.string(), pa.int32()), nullable=False),
        pa.field("note", pa.string()),
    ]
)
OUTER = pa.struct(
    [pa.field("inner", INNER, nullable=False), pa.field("other", INNER), pa.field("x", pa.int8())]
)
KINDS = {
    "struct": OUTER,
    "list": pa.list_(OUTER),
    "map": pa.map_(pa.string(), OUTER),
}
inner = st.fixed_dictionaries(
    {
        "number": st.integers(0, 9),
        "text": st.sampled_from(["", "a", "long enough to lie elsewhere"]),
        "flag": st.booleans(),
        "price": st.decimals(0, 9, places=2),
        "many": st.lists(st.none() | st.integers(0, 9), max_size=2),
        "pairs": st.just([]) | st.just([("k", None)]),
        "note": st.none() | st.just("n"),
    }
)
outer = st.fixed_dictionaries({"inner": inner, "other": st.none() | inner, "x": st.none()})
values = {
    "struct": st.none() | outer,
    "list": st.none() | st.lists(st.none() | outer, max_size=3),
    "map": st.none()
    | st.lists(st.tuples(st.text("ab", max_size=2), st.none() | outer), max_size=2),
}


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_rows_taken_from_others_are_written_and_stay_what_they_are(
    name: str, data: st.DataObject
) -> None:
    column = pa.array(data.draw(st.lists(values[name], max_size=6)), KINDS[name])
    places = data.draw(st.lists(st.none() | st.integers(0, max(0, len(column) - 1)), max_size=8))
    taken = column.take(pa.array(places if len(column) else [], pa.int64()))
    rows = pa.table([taken[data.draw(st.integers(0, 2)) :]], names=["c"])
    written = _written(without_hidden_nulls(rows))
    assert written["c"].to_pylist() == rows["c"].to_pylist()


def _written(rows: pa.Table) -> pa.Table:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    return pq.read_table(pa.BufferReader(sink.getvalue()))


def test_missing_values_are_covered() -> None:
    rows = pa.table([pa.nulls(3, OUTER)], names=["c"])
    assert _written(without_hidden_nulls(rows))["c"].to_pylist() == [None] * 3


@pytest.mark.parametrize("places", [[0], [0, None]])
def test_what_is_missing_in_sight_is_refused(places: Sequence[int | None]) -> None:
    fields = [pa.field("a", pa.int32(), nullable=False)]
    structs = pa.StructArray.from_arrays([pa.nulls(1, pa.int32())], fields=fields)
    rows = pa.table([structs.take(pa.array(places, pa.int64()))], names=["c"])
    with pytest.raises(pa.ArrowInvalid, match="declared non-nullable"):
        _written(without_hidden_nulls(rows))


def test_rows_without_such_fields_are_not_touched() -> None:
    rows = pa.table({"c": [{"a": 1}, None]})
    assert without_hidden_nulls(rows)["c"].chunk(0).equals(rows["c"].chunk(0))
