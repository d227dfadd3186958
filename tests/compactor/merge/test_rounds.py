"""A merge in any number of rounds, of parts in any order, leaves the table of one merge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.location import Location
from catalog.storage import Storage
from compactor.errors import ChangesRefusedError
from compactor.jobs.merge_spill import spilled
from compactor.merge.arriving import Bucketing, Incoming, Placed
from compactor.merge.buckets import packed, thinned, unpacked
from compactor.merge.changes import Source, change_set, joined
from compactor.merge.deletes import KeyedDeletes, keyed_deletes
from compactor.merge.latest import latest
from compactor.merge.rounds import RoundMark, limited, rounds_needed, watermarks
from compactor.merge.rules import MergeRules, Mode
from compactor.merge.source_files import FileSource
from compactor.merge.sources import Arrivals
from runtime import Runtime, connect
from tests.compactor.merge import drawn, model
from tests.compactor.merge.test_semantics import cases, merged
from tests.compactor.rewrite.tables import with_ids

RELAXED = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
GIB = 1 << 30


@dataclass(frozen=True)
class Pieces:
    """A part that is there; implements `Part`."""

    pieces: tuple[Source, ...]
    watermark: str | None = None
    row_count: int | None = None
    size_bytes: int = 100

    def read(self) -> Iterator[Source]:
        yield from self.pieces


@pytest.fixture(scope="module")
def rt() -> Iterator[Runtime]:
    with connect("inline") as runtime:
        yield runtime


def in_rounds(
    rt: Runtime, base: pa.Table, incoming: list[Incoming], work: Bucketing, rounds: int
) -> pa.Table:
    """Merge round by round; each is merged into what the one before it left."""
    found = spilled(rt, incoming, work, rounds=rounds, table="t")
    for number in range(rounds):
        deletes = work.deletes if number == 0 else ()
        rows = merged(base, found.take(number), work.rules, deletes)
        base = pa.Table.from_pylist(rows, base.schema)
    return base


def united(sources: list[Source]) -> pa.Schema:
    return pa.unify_schemas([one.rows.schema for one in sources], promote_options="permissive")


@RELAXED
@given(
    data=st.data(),
    lacking=st.booleans(),
    order=st.sampled_from(["stream", "column", "time"]),
    rounds=st.integers(1, 4),
)
def test_rounds_give_what_a_dictionary_gives(
    rt: Runtime, data: st.DataObject, lacking: bool, order: str, rounds: int
) -> None:
    timed = order == "time"
    schema, base, files = data.draw(cases(lacking=lacking and not timed))
    key, order_by = drawn.key_of(schema), () if order == "stream" else ("at",)
    rules = MergeRules(key, order_by, op_column="op", is_event_time=timed)
    sources = [source for source, _ in files]
    work = Bucketing(rules, schema, united(sources))
    parts = data.draw(st.permutations(sources))
    incoming = [Incoming(Placed(Pieces((one,)), one.file)) for one in parts]
    expected = model.merged(
        base.to_pylist(),
        [change for _, some in files for change in some],
        columns=schema.names,
        key=key,
        order_by=order_by,
        is_event_time=timed,
    )
    found = in_rounds(rt, base, incoming, work, rounds)
    assert model.as_bag(found.to_pylist()) == model.as_bag(expected)


@RELAXED
@given(data=st.data(), mode=st.sampled_from(Mode), rounds=st.integers(1, 3))
def test_deletes_act_on_stored_rows_once(
    rt: Runtime, data: st.DataObject, mode: Mode, rounds: int
) -> None:
    schema, base, files = data.draw(cases())
    key = drawn.key_of(schema)
    rules = MergeRules(key, mode=mode)
    upserts = [Source(s.rows.drop_columns("op"), s.name, s.stream, s.file) for s, _ in files]
    changes = [model.Change(c.row, c.stream, c.file, c.number) for _, some in files for c in some]
    incoming = [Incoming(Placed(Pieces((one,)), one.file)) for one in upserts]
    others: list[KeyedDeletes] = []
    for file in range(data.draw(st.integers(1, 2))):
        by_key = mode is Mode.UPSERT and data.draw(st.booleans())
        columns = key if by_key else (*key, "v")
        rows = data.draw(st.lists(drawn.rows(schema), max_size=4))
        stream = data.draw(st.integers(0, 2))
        source = Source(pa.Table.from_pylist(rows, schema), "deletes", stream, 10 + file)
        changes += [
            model.Change(row, stream, 10 + file, number, columns) for number, row in enumerate(rows)
        ]
        if by_key:
            incoming.append(Incoming(Placed(Pieces((source,)), source.file), is_deletes=True))
        else:
            others.append(keyed_deletes(source, schema, columns, rules))
    work = Bucketing(rules, schema, united([*upserts]), tuple(others))
    expected = model.merged(
        base.to_pylist(),
        changes,
        columns=schema.names,
        key=key,
        is_append=mode is Mode.APPEND,
    )
    found = in_rounds(rt, base, incoming, work, rounds)
    assert model.as_bag(found.to_pylist()) == model.as_bag(expected)


@RELAXED
@given(data=st.data(), lacking=st.booleans(), timed=st.booleans())
def test_what_thinning_leaves_gives_what_the_whole_gives(
    data: st.DataObject, lacking: bool, timed: bool
) -> None:
    schema, base, files = data.draw(cases(lacking=lacking and not timed))
    order_by = ("at",) if timed else ()
    rules = MergeRules(drawn.key_of(schema), order_by, op_column="op", is_event_time=timed)
    sets = [change_set(source, schema, rules) for source, _ in files]
    expected = latest(joined(sets), rules, schema)
    left = joined([unpacked(packed(thinned(one, rules, schema))) for one in sets])
    found = latest(left, rules, schema)
    assert model.as_bag(merged(base, found, rules)) == model.as_bag(merged(base, expected, rules))
    assert len(found) == len(expected)


def test_a_key_with_nearly_all_changes_takes_no_more_room_than_another() -> None:
    schema = with_ids(pa.schema([pa.field("k", pa.int64()), pa.field("v", pa.int64())]))
    rules = MergeRules(("k",), op_column="op")
    rows = pa.table(
        {"k": [1] * 9_000 + [2], "v": range(9_001), "op": ["U", "D", "U"] * 3_000 + ["U"]}
    )
    full = change_set(Source(rows, "full"), schema, rules)
    assert len(thinned(full, rules, schema)) == 2
    partial = change_set(Source(rows.drop_columns("v"), "partial"), schema, rules)
    assert len(thinned(partial, rules, schema)) == 3


def test_order_columns_of_several_types_are_compared_as_one() -> None:
    schema = with_ids(pa.schema([pa.field("k", pa.int64()), pa.field("v", pa.string())]))
    rules = MergeRules(("k",), ("seq",))
    narrow = pa.table({"k": [1], "v": ["late"], "seq": pa.array([300], pa.int32())})
    wide = pa.table({"k": [1], "v": ["early"], "seq": pa.array([200], pa.int64())})
    sources = [Source(narrow, "a", 0, 0), Source(wide, "b", 0, 1)]
    work = Bucketing(rules, schema, united(sources))
    incoming = [Incoming(Placed(Pieces((one,)), one.file)) for one in sources]
    with connect("inline") as rt:
        found = spilled(rt, incoming, work, rounds=2, table="t")
        rows = [row for number in range(2) for row in found.take(number).rows.to_pylist()]
    assert rows == [{"k": 1, "v": "late"}]


def test_what_is_refused_in_a_task_is_refused_as_itself() -> None:
    schema = with_ids(pa.schema([pa.field("k", pa.int64())]))
    work = Bucketing(MergeRules(("k",)), schema, pa.schema([pa.field("x", pa.int64())]))
    source = Source(pa.table({"x": [1]}), "strange")
    with connect("inline") as rt:
        found = spilled(rt, [Incoming(Placed(Pieces((source,))))], work, rounds=1, table="t")
        with pytest.raises(ChangesRefusedError, match="strange has no column 'k'"):
            found.take(0)


def test_a_large_file_is_read_by_several_tasks(tmp_path: Path) -> None:
    schema = with_ids(pa.schema([pa.field("k", pa.int64()), pa.field("v", pa.string())]))
    rows = pa.table({"k": [*range(50)] * 2, "v": [f"{at}" for at in range(100)]})
    pq.write_table(rows, tmp_path / "a.parquet", row_group_size=7)
    (file,) = FileSource(Storage(), Location.parse(str(tmp_path))).arrivals(None).parts
    whole = Incoming(Placed(file, 3))
    pieces = whole.divided(file.size_bytes // 4)
    assert 1 < len(pieces) <= 5
    read = [source for piece in pieces for source in piece.part.read()]
    assert pa.concat_tables([one.rows for one in read]).equals(rows)
    assert [(one.file, one.first_row) for one in read] == [(3, at) for at in range(0, 100, 7)]
    assert whole.divided(file.size_bytes) == [whole]
    work = Bucketing(MergeRules(("k",)), schema, rows.schema)
    with connect("inline") as rt:
        changes = spilled(rt, pieces, work, rounds=1, table="t").take(0)
    found = {row["k"]: row["v"] for row in changes.rows.to_pylist()}
    assert found == {at: f"{at + 50}" for at in range(50)}


@pytest.mark.parametrize(
    ("stored", "budget", "least", "most"),
    [(0, GIB, 1, 1), (10 << 20, 2 * GIB, 1, 1), (GIB, 2 * GIB, 4, 16), (1 << 50, 1, 1024, 1024)],
)
def test_rounds_fit_the_budget(stored: int, budget: int, least: int, most: int) -> None:
    assert least <= rounds_needed(stored, budget) <= most


@given(until=st.text(), count=st.integers(1, 1000), done=st.integers(0, 1000))
def test_a_mark_says_how_far_a_merge_has_come(until: str, count: int, done: int) -> None:
    mark = RoundMark(until, min(done, count), count)
    assert RoundMark.parse(mark.text) == mark
    recorded = {one.source: one.value for one in watermarks("s", mark)}
    assert recorded.get("s.round") == mark.text
    assert recorded.get("s") == (None if mark.is_open else until)
    if mark.is_open:
        assert mark.next.done == mark.done + 1


@pytest.mark.parametrize("text", ["", "2 0/1 x", "1 a/b x", "1 1 x"])
def test_the_mark_of_another_version_is_refused(text: str) -> None:
    with pytest.raises(ChangesRefusedError, match="another version"):
        RoundMark.parse(text)


def test_whoever_goes_on_merges_no_more_than_was_begun() -> None:
    parts = tuple(Pieces((), name) for name in ("a", "b", "c"))
    new = Arrivals(pa.schema([]), parts, "c")
    assert limited(new, "c") == new
    assert [one.watermark for one in limited(new, "b").parts] == ["a", "b"]
    assert limited(new, "b").watermark == "b"
    with pytest.raises(ChangesRefusedError, match="not there any more"):
        limited(new, "x")
