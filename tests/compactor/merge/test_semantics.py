"""What a merge makes of any changes is what a plain dictionary makes of them, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compactor.errors import ChangesRefusedError
from compactor.merge import keys
from compactor.merge.changes import ChangeSet, Source, change_set, joined
from compactor.merge.completing import filled
from compactor.merge.deletes import KeyedDeletes, buried, keyed_deletes
from compactor.merge.latest import latest
from compactor.merge.matching import Matcher
from compactor.merge.outcome import Hits, settle
from compactor.merge.rules import MergeRules, Mode
from tests.compactor.merge import drawn, model
from tests.compactor.rewrite.tables import with_ids

RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def merged(
    base: pa.Table,
    changes: ChangeSet,
    rules: MergeRules,
    deletes: Sequence[KeyedDeletes] = (),
) -> list[dict[str, Any]]:
    """Merge in memory: the table is one file of two batches."""
    last = latest(buried(changes, deletes, rules), rules, base.schema)
    matcher = Matcher(last, deletes, rules)
    found = []
    for start in range(0, base.num_rows, 3):
        batch = base.slice(start, 3).combine_chunks()
        matched = matcher.match(batch)
        rows = np.flatnonzero(matched.is_hit)
        found.append(Hits(rows + start, matched.take(rows)))
    hits = {f"file {at}": one for at, one in enumerate(found)}
    outcome = settle(last, hits)
    kept = np.ones(base.num_rows, np.bool_)
    for selection in outcome.dropped.values():
        kept[selection.dropped] = False
    upserts = last.take(outcome.upserts)
    positions = outcome.stored[1]
    stored = base.take(pa.array(positions[positions >= 0]))
    rows = filled(upserts, stored, positions >= 0, schema=base.schema)
    return [*base.filter(pa.array(kept)).to_pylist(), *rows.to_pylist()]


@st.composite
def cases(draw: st.DrawFn, *, lacking: bool = False) -> Any:
    schema = draw(drawn.schemas())
    records = draw(st.lists(drawn.rows(schema), max_size=8))
    key = drawn.key_of(schema)
    unique = {repr([model.canonical(row[name]) for name in key]): row for row in records}
    base = pa.Table.from_pylist(list(unique.values()), schema)
    return schema, base, draw(drawn.files_of_changes(schema, lacking=lacking))


@RELAXED
@given(data=st.data(), lacking=st.booleans(), ordered=st.booleans())
def test_any_batching_and_order_of_files_gives_what_a_dictionary_gives(
    data: st.DataObject, lacking: bool, ordered: bool
) -> None:
    schema, base, files = data.draw(cases(lacking=lacking))
    key, order_by = drawn.key_of(schema), ("at",) if ordered else ()
    rules = MergeRules(key, order_by, op_column="op")
    changes = data.draw(drawn.batched([source for source, _ in files], schema, rules))
    expected = model.merged(
        base.to_pylist(),
        [change for _, some in files for change in some],
        columns=schema.names,
        key=key,
        order_by=order_by,
    )
    assert model.as_bag(merged(base, changes, rules)) == model.as_bag(expected)


@RELAXED
@given(data=st.data())
def test_by_event_time_no_older_change_overwrites_a_newer_row(data: st.DataObject) -> None:
    schema, base, files = data.draw(cases())
    key = drawn.key_of(schema)
    rules = MergeRules(key, ("at",), op_column="op", is_event_time=True)
    changes = data.draw(drawn.batched([source for source, _ in files], schema, rules))
    expected = model.merged(
        base.to_pylist(),
        [change for _, some in files for change in some],
        columns=schema.names,
        key=key,
        order_by=("at",),
        is_event_time=True,
    )
    assert model.as_bag(merged(base, changes, rules)) == model.as_bag(expected)


@RELAXED
@given(data=st.data(), mode=st.sampled_from(Mode), ordered=st.booleans())
def test_deletes_keyed_on_any_columns_act_on_earlier_rows_only(
    data: st.DataObject, mode: Mode, ordered: bool
) -> None:
    schema, base, files = data.draw(cases())
    key, order_by = drawn.key_of(schema), ("at",) if ordered else ()
    rules = MergeRules(key, order_by, mode=mode)
    upserts = [Source(s.rows.drop_columns("op"), s.name, s.stream, s.file) for s, _ in files]
    changes = data.draw(drawn.batched(upserts, schema, rules))
    singles = [model.Change(c.row, c.stream, c.file, c.number) for _, some in files for c in some]
    deletes = []
    for file in range(data.draw(st.integers(1, 3))):
        columns = tuple(sorted(data.draw(st.sets(st.sampled_from([*key, "v"]), min_size=1))))
        rows = data.draw(st.lists(drawn.rows(schema), max_size=4))
        stream = data.draw(st.integers(0, 2))
        source = Source(pa.Table.from_pylist(rows, schema), f"deletes {file}", stream, 10 + file)
        deletes.append(keyed_deletes(source, schema, columns, rules))
        singles += [
            model.Change(row, stream, 10 + file, at, columns) for at, row in enumerate(rows)
        ]
    expected = model.merged(
        base.to_pylist(),
        singles,
        columns=schema.names,
        key=key,
        order_by=order_by,
        is_append=mode is Mode.APPEND,
    )
    assert model.as_bag(merged(base, changes, rules, deletes)) == model.as_bag(expected)


@RELAXED
@given(data=st.data(), bits=st.sampled_from([0, 1, 2]))
def test_collisions_of_hashes_never_make_two_keys_one(data: st.DataObject, bits: int) -> None:
    schema, base, files = data.draw(cases(lacking=True))
    rules = MergeRules(drawn.key_of(schema), op_column="op")
    changes = data.draw(drawn.batched([source for source, _ in files], schema, rules))
    expected = merged(base, changes, rules)
    with pytest.MonkeyPatch.context() as patch:
        mask = ~np.uint64(0) << np.uint64(64 - bits) if bits else np.uint64(0)
        patch.setattr(keys, "mix", lambda hashes: hashes & mask)
        patch.setattr(keys, "_is_one_to_one", lambda columns: False)
        assert model.as_bag(merged(base, changes, rules)) == model.as_bag(expected)


def test_an_update_and_what_was_before_it_may_have_different_keys() -> None:
    schema = with_ids(pa.schema([("k", pa.int64()), ("v", pa.string())]))
    base = pa.Table.from_pylist([{"k": 1, "v": "old"}, {"k": 2, "v": "other"}], schema)
    rows = pa.table(
        {"k": [1, 9], "v": ["old", "new"], "_change_type": ["update_preimage", "update_postimage"]}
    )
    rules = MergeRules(("k",), op_column="_change_type")
    changes = change_set(Source(rows, "feed"), schema, rules)
    found = merged(base, changes, rules)
    assert sorted((row["k"], row["v"]) for row in found) == [(2, "other"), (9, "new")]


def test_a_partial_change_after_a_delete_does_not_see_the_row_before_it() -> None:
    schema = with_ids(pa.schema([("k", pa.int64()), ("a", pa.string()), ("b", pa.string())]))
    base = pa.Table.from_pylist([{"k": 1, "a": "A", "b": "B"}], schema)
    rules = MergeRules(("k",), op_column="op")
    steps = [{"k": [1], "op": ["D"]}, {"k": [1], "b": ["new"], "op": ["U"]}]
    sets = [
        change_set(Source(pa.table(rows), f"{at}", stream=at), schema, rules)
        for at, rows in enumerate(steps)
    ]
    assert merged(base, joined(sets), rules) == [{"k": 1, "a": None, "b": "new"}]


def test_partial_changes_refuse_a_key_that_is_stored_twice() -> None:
    schema = with_ids(pa.schema([("k", pa.int64()), ("a", pa.string())]))
    base = pa.Table.from_pylist([{"k": 1, "a": "A"}, {"k": 1, "a": "B"}], schema)
    rules = MergeRules(("k",))
    changes = change_set(Source(pa.table({"k": [1]}), "changes"), schema, rules)
    with pytest.raises(ChangesRefusedError, match="no keyed table"):
        merged(base, changes, rules)


def test_partial_changes_do_not_go_with_event_time_nor_with_deletes_on_other_columns() -> None:
    schema = with_ids(pa.schema([("k", pa.int64()), ("at", pa.int64()), ("a", pa.string())]))
    rows = pa.table({"k": [1], "at": [1]})
    timed = MergeRules(("k",), ("at",), is_event_time=True)
    with pytest.raises(ChangesRefusedError, match="event time"):
        latest(change_set(Source(rows, "changes"), schema, timed), timed, schema)
    rules = MergeRules(("k",))
    deletes = keyed_deletes(Source(pa.table({"a": ["x"]}), "deletes"), schema, ("a",), rules)
    with pytest.raises(ChangesRefusedError, match="lack columns"):
        buried(change_set(Source(rows, "changes"), schema, rules), [deletes], rules)
