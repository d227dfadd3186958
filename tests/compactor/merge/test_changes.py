"""Changes are read by value and by name, and refused by name."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from compactor.errors import ChangesRefusedError
from compactor.merge.changes import ChangeSet, Source, change_set, joined
from compactor.merge.deletes import keyed_deletes
from compactor.merge.keys import keys_of
from compactor.merge.kinds import kinds_of
from compactor.merge.rules import MergeRules, Mode
from tests.compactor.rewrite.tables import with_ids

NOON = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)


def read(rows: Any, schema: list[Any], rules: MergeRules, **place: int) -> ChangeSet:
    table = rows if isinstance(rows, pa.Table) else pa.table(rows)
    return change_set(Source(table, "changes", **place), with_ids(pa.schema(schema)), rules)


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        (["I", "U", "D"], [0, 0, 1]),
        (["i", "u", "d"], [0, 0, 1]),
        (["c", "u", "d", "r"], [0, 0, 1, 0]),
        (["+I", "-U", "+U", "-D"], [0, 1, 0, 1]),
        (["insert", "update_preimage", "update_postimage", "DELETE"], [0, 1, 0, 1]),
        ([True, False, None], [1, 0, 0]),
    ],
)
def test_every_spelling_of_what_a_change_does(values: list[Any], kinds: list[int]) -> None:
    plain = pa.chunked_array([values[:1], values[1:]])
    assert kinds_of(plain, name="x").tolist() == kinds
    if pa.types.is_string(plain.type):
        assert kinds_of(plain.dictionary_encode(), name="x").tolist() == kinds
        assert kinds_of(plain.cast(pa.large_string()), name="x").tolist() == kinds
    assert kinds_of(plain.slice(0, 0), name="x").tolist() == []


@pytest.mark.parametrize("values", [["I", None], ["I", "truncate"], [1, 2]])
def test_what_has_no_meaning_is_refused(values: list[Any]) -> None:
    with pytest.raises(ChangesRefusedError, match="op column"):
        kinds_of(pa.chunked_array([values]), name="x")


@pytest.mark.parametrize(
    ("given", "kind", "value"),
    [
        (pa.array([7], pa.int64()), pa.int32(), 7),
        (pa.array([7], pa.uint64()), pa.int64(), 7),
        (pa.array([7], pa.int8()), pa.int64(), 7),
        (pa.array([7], pa.int64()), pa.float64(), 7.0),
        (pa.array([7], pa.int64()), pa.decimal128(9, 2), Decimal("7.00")),
        (pa.array([Decimal("7.50")], pa.decimal128(20, 2)), pa.decimal128(9, 1), Decimal("7.5")),
        (pa.array([Decimal("7.00")], pa.decimal128(9, 2)), pa.int32(), 7),
        (pa.array(["x"]).dictionary_encode(), pa.string(), "x"),
        (pa.array(["x"], pa.large_string()), pa.string(), "x"),
        (pa.array([NOON], pa.timestamp("ns", "Asia/Tokyo")), pa.timestamp("us", "UTC"), NOON),
        (pa.array([NOON.date()], pa.date32()), pa.timestamp("us"), NOON.replace(hour=0)),
    ],
)
def test_values_count_whatever_their_type_spells(given: Any, kind: Any, value: Any) -> None:
    found = read({"k": given}, [("k", kind)], MergeRules(("k",)))
    stored = pa.array([value.replace(tzinfo=None) if kind == pa.timestamp("us") else value], kind)
    assert found.rows["k"].type == kind
    assert found.rows["k"].combine_chunks().equals(stored)
    assert (found.keys(["k"]).hashes == keys_of(pa.table({"k": stored}), ["k"]).hashes).all()


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (pa.array([1 << 40]), pa.int32()),
        (pa.array([-1]), pa.decimal128(3, 3)),
        (pa.array([Decimal("7.55")]), pa.decimal128(9, 1)),
        (pa.array([Decimal("7.5")]), pa.int32()),
        (pa.array([(1 << 53) + 1]), pa.float64()),
        (pa.array([1.5]), pa.float32()),
        (pa.array(["1"]), pa.int64()),
        (pa.array([NOON], pa.timestamp("us", "UTC")), pa.timestamp("us")),
        (pa.array([1], pa.timestamp("ns")), pa.timestamp("us")),
    ],
)
def test_no_value_is_rounded_or_guessed(given: Any, kind: Any) -> None:
    with pytest.raises(ChangesRefusedError):
        read({"k": given}, [("k", kind)], MergeRules(("k",)))


@pytest.mark.parametrize(
    ("rows", "rules", "reason"),
    [
        ({"v": [1]}, MergeRules(("k",)), "no column 'k'"),
        ({"k": [1]}, MergeRules(("k",), ("at",)), "no column 'at'"),
        ({"k": [1], "new": [1]}, MergeRules(("k",)), "lacks: 'new'"),
        ({"k": [1]}, MergeRules(("absent",)), "no column 'absent'"),
        ({"k": [1], "tags": [[1]]}, MergeRules(("tags",)), "plain types"),
        ({"k": [1], "v": [None]}, MergeRules(("k",)), "'v' is required"),
        ({"k": [1]}, MergeRules(()), "no key"),
        ({"k": [1]}, MergeRules(("k", "k")), "twice"),
        ({"k": [1]}, MergeRules(("k",), is_event_time=True), "event time"),
        ({"k": [1], "op": ["D"]}, MergeRules((), op_column="op", mode=Mode.APPEND), "appended"),
    ],
)
def test_what_cannot_be_merged_is_refused_before_anything_is_read(
    rows: Any, rules: MergeRules, reason: str
) -> None:
    schema = [
        ("k", pa.int64()),
        pa.field("v", pa.int64(), nullable=False),
        ("tags", pa.list_(pa.int64())),
    ]
    with pytest.raises(ChangesRefusedError) as refused:
        read(rows, schema, rules)
    assert reason in f"{refused.value} {refused.value.hint}"


def test_deletes_ignore_other_columns_and_need_their_own() -> None:
    schema = with_ids(pa.schema([("k", pa.int64()), ("v", pa.string())]))
    source = Source(pa.table({"k": pa.array([1], pa.int32()), "junk": [object.__doc__]}), "deletes")
    assert keyed_deletes(source, schema, ("k",), MergeRules(("k",))).table["k"].to_pylist() == [1]
    with pytest.raises(ChangesRefusedError, match="no column 'v'"):
        keyed_deletes(source, schema, ("k", "v"), MergeRules(("k",)))


def test_an_op_column_may_be_a_column_of_the_table() -> None:
    rules = MergeRules(("k",), op_column="gone")
    found = read({"k": [1, 2], "gone": [True, False]}, [("k", pa.int64()), ("gone", pa.bool_())],
                 rules)  # fmt: skip
    assert found.kinds.tolist() == [1, 0]
    assert found.rows["gone"].to_pylist() == [True, False]


def test_order_columns_of_different_types_are_refused() -> None:
    rules = MergeRules(("k",), ("at",))
    sets = [read({"k": [1], "at": pa.array(at)}, [("k", pa.int64())], rules) for at in ([1], ["1"])]
    with pytest.raises(ChangesRefusedError, match="different types"):
        joined(sets)


def test_keys_of_many_rows_are_told_apart_by_hashes() -> None:
    numbers = np.arange(200_000)
    texts = pa.array(numbers).cast(pa.string())
    for column in (pa.array(numbers), texts, texts.dictionary_encode()):
        hashes = keys_of(pa.table({"k": column}), ["k"]).hashes
        assert len(np.unique(hashes)) == len(numbers)
