"""Slices merged on columns have the rows that merging record by record gives."""

import datetime as dt
import json
import pickle
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.delete_records import DeletedKey, Ordering
from catalog.hudi.log_blocks import MAGIC
from catalog.hudi.log_scan import LogScope
from catalog.hudi.merging import Merging
from catalog.hudi.protocol import MergeMode, MergeRule
from catalog.hudi.schema import arrow_schema, parse_avro
from tests.catalog.hudi.slice_making import (
    Slice,
    avro_text,
    completed,
    data_block,
    delete_block,
    parquet_block,
    rollback_block,
)

TEXT = avro_text(id="string", ts="long", v="int", _hoodie_is_deleted="boolean")
EVENT = MergeRule(MergeMode.EVENT_TIME, ("ts",))
COMMIT = MergeRule(MergeMode.COMMIT_TIME)
BASE = [{"id": f"k{n}", "ts": 10, "v": n} for n in range(8)]

keys = st.sampled_from([f"k{n}" for n in range(12)])
times = st.integers(8, 12)
updates = st.fixed_dictionaries({"id": keys, "ts": times, "v": st.integers(100, 999)})
removals = st.fixed_dictionaries({"id": keys, "ts": times, "_hoodie_is_deleted": st.just(True)})
deleted = st.builds(
    lambda key, kind_and_value: DeletedKey(key, "p", *kind_and_value),
    keys,
    st.one_of(
        st.tuples(st.just(Ordering.LONG), times),
        st.sampled_from([(Ordering.NONE, None), (Ordering.INT, 0)]),
    ),
)
row_blocks = st.lists(st.one_of(updates, removals), max_size=6).map(lambda rows: ("rows", rows))
delete_blocks = st.lists(deleted, max_size=4).map(lambda deletes: ("deletes", deletes))
histories = st.lists(st.one_of(row_blocks, row_blocks, delete_blocks), max_size=5)


def encoded(history):
    for kind, entries in history:
        yield data_block(TEXT, entries) if kind == "rows" else delete_block(entries)


def plainly(history, rule):
    """Merge record by record."""
    by_event = rule.mode is MergeMode.EVENT_TIME
    found = {}
    for kind, entries in history:
        for one in entries:
            key, new = (one.key if kind == "deletes" else one["id"]), told(kind, one)
            if key not in found or not by_event or wins(new, found[key]):
                found[key] = new
    rows = []
    for row in BASE:
        new = found.pop(row["id"], None)
        if new is None or (by_event and new["at"] is not None and new["at"] < row["ts"]):
            rows.append(row)
        elif new["row"] is not None:
            rows.append(new["row"])
    return rows + [new["row"] for new in found.values() if new["row"] is not None]


def told(kind, one):
    if kind == "deletes":
        return {"at": one.value if one.kind is Ordering.LONG else None, "row": None, "block": True}
    return {"at": one["ts"], "row": None if "_hoodie_is_deleted" in one else one, "block": False}


def wins(new, old):
    """Whether what comes later stays, by event time."""
    if new["at"] is None:
        return True
    if old["at"] is None:
        return not new["block"]
    return new["at"] >= old["at"]


def shown(rows):
    names = ("id", "ts", "v")
    return sorted(tuple(row.get(name) for name in names) for row in rows)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(histories, st.sampled_from([EVENT, COMMIT]), st.sampled_from([1, 1 << 20]))
def test_slices_are_merged_as_record_by_record(tmp_path, history, rule, memory_bytes):
    # With one byte of memory everything goes through buckets and stores on disk.
    made = Slice(tmp_path, TEXT, BASE).log(*encoded(history))
    found = made.read(rule, memory_bytes=memory_bytes)
    assert shown(found) == shown(plainly(history, rule))


PARTIAL = avro_text(id="string", ts="long", v="int", w="int", x="int")
WIDE = [{"id": f"k{n}", "ts": 10, "v": n, "w": n, "x": n} for n in range(6)]
COLUMN_SETS = (("v",), ("w", "x"), ("x",), ("v", "w", "x"))
some = st.sampled_from(COLUMN_SETS).flatmap(
    lambda names: st.tuples(
        st.just(names),
        st.lists(
            st.fixed_dictionaries(
                {"id": st.sampled_from([f"k{n}" for n in range(8)]), "ts": times}
                | {name: st.none() | st.integers(100, 999) for name in names}
            ),
            max_size=5,
            unique_by=lambda row: row["id"],
        ),
    )
)
partial_histories = st.lists(st.one_of(some, some, delete_blocks), max_size=6)


def laid(history, rule):
    """Lay partial rows over each other, record by record."""
    by_event = rule.mode is MergeMode.EVENT_TIME
    found = {}
    for kind, entries in history:
        for one in entries:
            is_delete = kind == "deletes"
            key = one.key if is_delete else one["id"]
            new = (
                told("deletes", one) if is_delete else {"at": one["ts"], "row": one, "block": False}
            )
            old = found.get(key)
            has_won = old is None or not by_event or wins(new, old)
            if is_delete or old is None or old["row"] is None:
                found[key] = new if has_won else old
            elif has_won:
                found[key] = {**new, "row": {**old["row"], **new["row"]}}
            else:
                found[key] = {**old, "row": {**new["row"], **old["row"]}}
    rows = []
    for row in WIDE:
        new = found.pop(row["id"], None)
        if new is None or (by_event and new["at"] is not None and new["at"] < row["ts"]):
            rows.append(row)
        elif new["row"] is not None:
            rows.append({**row, **new["row"]})
    return rows + [new["row"] for new in found.values() if new["row"] is not None]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(partial_histories, st.sampled_from([EVENT, COMMIT]), st.sampled_from([1, 1 << 20]))
def test_partial_rows_are_laid_as_record_by_record(tmp_path, history, rule, memory_bytes):
    blocks = []
    for kind, entries in history:
        if kind == "deletes":
            blocks.append(delete_block(entries))
        else:
            columns = {"id": "string", "ts": "long"} | dict.fromkeys(kind, "int")
            more = {"IS_PARTIAL": "true"} if len(kind) < 3 else {}
            blocks.append(data_block(avro_text(**columns), entries, **more))
    found = Slice(tmp_path, PARTIAL, WIDE).log(*blocks).read(rule, memory_bytes=memory_bytes)
    names = ("id", "ts", "v", "w", "x")
    expected = [tuple(row.get(name) for name in names) for row in laid(history, rule)]
    assert sorted(map(repr, [tuple(row[name] for name in names) for row in found])) == sorted(
        map(repr, expected)
    )


HOLEY = [{"id": f"k{n}", "ts": 10, "v": n if n % 2 else None, "w": n} for n in range(6)]
WITH_HOLES = avro_text(id="string", ts="long", v="int", w="int")
holey = st.lists(
    st.fixed_dictionaries(
        {"id": st.sampled_from([f"k{n}" for n in range(8)]), "ts": times}
        | {name: st.none() | st.integers(100, 999) for name in ("v", "w")}
    ),
    max_size=5,
).map(lambda rows: ("rows", rows))


def filled(upper, lower):
    return {name: lower[name] if value is None else value for name, value in upper.items()}


def filled_up(history, rule):
    """Fill nulls from the other record, record by record."""
    by_event = rule.mode is MergeMode.EVENT_TIME
    found = {}
    for kind, entries in history:
        for one in entries:
            key, new = (one.key if kind == "deletes" else one["id"]), told(kind, one)
            old = found.get(key)
            has_won = old is None or not by_event or wins(new, old)
            if new["row"] is None or old is None or old["row"] is None:
                found[key] = new if has_won else old
            elif has_won:
                found[key] = {**new, "row": filled(new["row"], old["row"])}
            else:
                found[key] = {**old, "row": filled(old["row"], new["row"])}
    rows = []
    for row in HOLEY:
        new = found.pop(row["id"], None)
        if new is None:
            rows.append(row)
        elif by_event and new["at"] is not None and new["at"] < row["ts"]:
            rows.append(row if new["row"] is None else filled(row, new["row"]))
        elif new["row"] is not None:
            rows.append(filled(new["row"], row))
    return rows + [new["row"] for new in found.values() if new["row"] is not None]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.one_of(holey, holey, delete_blocks), max_size=5),
    st.sampled_from([EVENT, COMMIT]),
    st.sampled_from([1, 1 << 20]),
)
def test_nulls_are_filled_as_record_by_record(tmp_path, history, rule, memory_bytes):
    blocks = [
        delete_block(entries) if kind == "deletes" else data_block(WITH_HOLES, entries)
        for kind, entries in history
    ]
    made = Slice(tmp_path, WITH_HOLES, HOLEY).log(*blocks)
    found = made.read(replace(rule, fills_nulls=True), memory_bytes=memory_bytes)
    names = ("id", "ts", "v", "w")
    expected = [tuple(row[name] for name in names) for row in filled_up(history, rule)]
    assert sorted(map(repr, (tuple(row[name] for name in names) for row in found))) == sorted(
        map(repr, expected)
    )


def test_partial_updates_of_two_kinds_are_refused(tmp_path):
    made = Slice(tmp_path, TEXT, BASE).log(data_block(TEXT, BASE[:1], IS_PARTIAL="true"))
    with pytest.raises(UnsupportedTableError, match="two kinds"):
        made.read(replace(EVENT, fills_nulls=True))


def test_a_slice_of_logs_alone_is_all_tail(tmp_path):
    made = Slice(tmp_path, TEXT).log(data_block(TEXT, BASE[:3])).log(data_block(TEXT, BASE[3:4]))
    selection = made.merged(EVENT)
    assert (selection.dropped.size, selection.tail.row_count) == (0, 4)
    # It can be read as often as one likes, in the same order.
    reads = [[b.to_pylist() for b in selection.tail.batches(["id", "v"])] for _ in range(2)]
    assert reads[0] == reads[1]
    assert [row["id"] for batch in reads[0] for row in batch] == ["k0", "k1", "k2", "k3"]


def test_of_base_rows_with_equal_keys_the_first_is_merged(tmp_path):
    twice = [*BASE[:2], {"id": "k0", "ts": 99, "v": 77}]
    made = Slice(tmp_path, TEXT, twice).log(data_block(TEXT, [{"id": "k0", "ts": 11, "v": 5}]))
    assert shown(made.read(EVENT)) == [("k0", 11, 5), ("k0", 99, 77), ("k1", 10, 1)]


def test_parquet_blocks_are_read(tmp_path):
    made = Slice(tmp_path, TEXT, BASE[:1]).log(
        parquet_block(TEXT, [{"id": "k0", "ts": 11, "v": 5}])
    )
    assert shown(made.read(EVENT)) == [("k0", 11, 5)]


@pytest.mark.parametrize("kind", [data_block, parquet_block])
def test_logs_may_be_older_than_the_columns(tmp_path, kind):
    old = avro_text(id="string", ts="int", gone="string", x="float")
    new = avro_text(id="string", ts="long", x="double", added="string")
    made = Slice(tmp_path, new, []).log(kind(old, [{"id": "k", "ts": 3, "gone": "g", "x": 0.5}]))
    assert made.read(EVENT) == [{"id": "k", "ts": 3, "x": 0.5, "added": None}]


def test_a_type_that_changed_beyond_recognition_is_refused(tmp_path):
    old, new = avro_text(id="string", v="string"), avro_text(id="string", v="int")
    made = Slice(tmp_path, new, []).log(data_block(old, [{"id": "k", "v": "1"}]))
    with pytest.raises(UnsupportedTableError, match="column v is string in a log and int32"):
        made.read()


def test_a_rollback_takes_back_what_came_before_it(tmp_path):
    first, second = ([{"id": "k0", "ts": 11, "v": v}] for v in (5, 6))
    made = Slice(tmp_path, TEXT, BASE[:1]).log(data_block(TEXT, first, "20"))
    assert shown(made.log(rollback_block("20")).read()) == [("k0", 10, 0)]
    assert shown(made.log(data_block(TEXT, second, "20")).read()) == [("k0", 11, 6)]


def test_what_a_torn_write_left_is_passed_over(tmp_path):
    torn = data_block(TEXT, [{"id": "k1", "ts": 11, "v": 1}])[:-20]
    later = data_block(TEXT, [{"id": "k0", "ts": 11, "v": 5}])
    made = Slice(tmp_path, TEXT, BASE[:2]).log(torn, later)
    assert shown(made.read()) == [("k0", 11, 5), ("k1", 10, 1)]
    with pytest.raises(CorruptTableError, match="damaged"):
        made.read(scope={"is_write_atomic": True})


def test_blocks_of_writes_that_failed_do_not_count_before_version_8(tmp_path):
    one = data_block(TEXT, [{"id": "k0", "ts": 11, "v": 5}], "20")
    other = data_block(TEXT, [{"id": "k0", "ts": 11, "v": 6}], "21")
    made = Slice(tmp_path, TEXT, BASE[:1]).log(one, other)
    assert shown(made.read(timeline=completed("10", "20", layout=1))) == [("k0", 11, 5)]
    assert shown(made.read(timeline=completed("22", layout=1))) == [("k0", 11, 6)]


def test_blocks_made_by_log_compaction_stand_for_others(tmp_path):
    blocks = [data_block(TEXT, [{"id": "k0", "ts": 11, "v": v}], str(v)) for v in (20, 21, 23)]
    made = Slice(tmp_path, TEXT, BASE[:1]).log(*blocks)
    merged = [{"id": "k0", "ts": 11, "v": 99}, {"id": "k9", "ts": 11, "v": 98}]
    made.log(data_block(TEXT, merged, "24", COMPACTED_BLOCK_TIMES="20,21"))
    assert shown(made.read()) == [("k0", 11, 23), ("k9", 11, 98)]


@pytest.mark.parametrize(
    ("kind", "values", "delete"),
    [
        ("int", (0, 5), (Ordering.INT, 3)),
        ("string", ("a", "c"), (Ordering.STRING, "b")),
        ("double", (-1.0, float("nan")), (Ordering.DOUBLE, 7.0)),
        ("float", (-2.0, -0.5), (Ordering.FLOAT, -1.0)),
        ({"type": "int", "logicalType": "date"}, (dt.date(2020, 1, 1), dt.date(2022, 1, 1)),
         (Ordering.DATE, 18628)),
        ({"type": "long", "logicalType": "timestamp-micros"},
         (dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2022, 1, 1, tzinfo=dt.UTC)),
         (Ordering.TIMESTAMP_MICROS, 1_609_459_200_000_000)),
        *(({"type": "long", "logicalType": f"timestamp-{unit}"},
           (dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2022, 1, 1, tzinfo=dt.UTC)),
           (Ordering.LONG, 1_609_459_200 * per_second))
          for unit, per_second in (("millis", 10**3), ("micros", 10**6))),
        ({"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2},
         (Decimal("-3.10"), Decimal("3.10")), (Ordering.DECIMAL, (2 * 10**15).to_bytes(8, "big"))),
    ],
)  # fmt: skip
def test_ordering_values_of_many_types_are_compared(tmp_path, kind, values, delete):
    text = avro_text(id="string", ts=kind)
    low, high = values
    base = [{"id": "a", "ts": low}, {"id": "b", "ts": high}]
    made = Slice(tmp_path, text, base).log(
        delete_block([DeletedKey(key, "p", *delete) for key in ("a", "b", "c")])
    )
    found = made.read(EVENT)
    assert [row["id"] for row in found] == ["b"]


def test_several_ordering_values_are_compared_in_turn(tmp_path):
    text = avro_text(id="string", ts="long", n="string")
    base = [{"id": key, "ts": 5, "n": "m"} for key in "abcd"]
    rows = [
        {"id": "a", "ts": 5, "n": "l"},
        {"id": "b", "ts": 5, "n": "n"},
        {"id": "c", "ts": 6, "n": ""},
    ]
    older = DeletedKey("d", "p", Ordering.SEVERAL, [(Ordering.LONG, 5), (Ordering.STRING, "a")])
    made = Slice(tmp_path, text, base).log(data_block(text, rows), delete_block([older]))
    found = made.read(MergeRule(MergeMode.EVENT_TIME, ("ts", "n")))
    assert sorted((row["id"], row["ts"], row["n"]) for row in found) == [
        ("a", 5, "m"), ("b", 5, "n"), ("c", 6, ""), ("d", 5, "m"),
    ]  # fmt: skip


def test_deletes_are_told_by_marks_and_operations(tmp_path):
    text = avro_text(id="string", op="string", _hoodie_operation="string")
    rows = [
        {"id": "a", "op": "D"}, {"id": "b", "op": "U"}, {"id": "c", "_hoodie_operation": "-U"},
        {"id": "d", "_hoodie_operation": "U"},
    ]  # fmt: skip
    made = Slice(tmp_path, text, [{"id": key} for key in "abcd"]).log(data_block(text, rows))
    rule = MergeRule(MergeMode.COMMIT_TIME, (), "op", "D")
    assert sorted(row["id"] for row in made.read(rule)) == ["b", "d"]


def test_missing_ordering_values_are_not_compared(tmp_path):
    made = Slice(tmp_path, TEXT, BASE[:2]).log(data_block(TEXT, [{"id": "k9", "v": 1}]))
    assert len(made.read(EVENT)) == 3
    with pytest.raises(UnsupportedTableError, match="ordering value of null"):
        made.log(data_block(TEXT, [{"id": "k0", "v": 1}])).read(EVENT)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (delete_block([DeletedKey("k0", "p", Ordering.STRING, "x")]), "STRING where the column is"),
        (delete_block([DeletedKey("k0", "p", Ordering.INT, 4)]), "INT where the column is int64"),
    ],
)
def test_ordering_values_of_other_types_are_refused(tmp_path, block, reason):
    with pytest.raises(UnsupportedTableError, match=reason):
        Slice(tmp_path, TEXT, BASE).log(block).read(EVENT)


def test_blocks_of_hfiles_are_refused_by_name(tmp_path):
    from catalog.hudi.log_blocks import BlockKind, HeaderKey, encode_block

    block = encode_block(BlockKind.HFILE_DATA, {HeaderKey.INSTANT_TIME: "20"}, b"DATABLK*")
    with pytest.raises(UnsupportedTableError, match="hfile data"):
        Slice(tmp_path, TEXT, BASE).log(block).read()


def test_a_block_that_does_not_decode_is_damaged(tmp_path):
    block = bytearray(data_block(TEXT, [{"id": "k0", "ts": 11, "v": 5}]))
    at = bytes(block).index(b"k0")
    block[at - 1] = 0x7E
    with pytest.raises(CorruptTableError, match="instant 20 does not decode"):
        Slice(tmp_path, TEXT, BASE).log(bytes(block)).read()
    assert bytes(block).startswith(MAGIC)


def test_rows_have_the_types_of_the_table(tmp_path):
    made = Slice(tmp_path, TEXT, BASE).log(data_block(TEXT, [{"id": "k0", "ts": 11, "v": 5}]))
    (batch,) = made.merged().tail.batches(["ts", "v"])
    assert batch.schema == pa.schema([arrow_schema(parse_avro(TEXT)).field(n) for n in ("ts", "v")])


def test_slices_may_have_more_logs_than_files_may_be_open(tmp_path):
    made = Slice(tmp_path, TEXT, BASE[:1])
    for v in range(70):
        made.log(data_block(TEXT, [{"id": "k0", "ts": 11, "v": v}]))
    assert shown(made.read(EVENT)) == [("k0", 11, 69)]


def test_columns_that_cannot_be_null_must_be_there(tmp_path):
    old = avro_text(id="string")
    fields = [*json.loads(old)["fields"], {"name": "must", "type": "long"}]
    new = json.dumps({"type": "record", "name": "row", "fields": fields})
    made = Slice(tmp_path, new, []).log(data_block(old, [{"id": "k"}]))
    with pytest.raises(UnsupportedTableError, match="lacks the column must"):
        made.read()


def test_what_workers_are_told_crosses_processes():
    merging = Merging(arrow_schema(parse_avro(TEXT)), EVENT, LogScope("20", completed("10", "20")))
    assert merging.scope.timeline.visible
    assert pickle.loads(pickle.dumps(merging)) == merging


MIXED = avro_text(
    id="string",
    ts="long",
    a={"type": "array", "items": "string"},
    m={"type": "map", "values": "int"},
)
SOME = [{"id": f"k{n}", "ts": 11, "a": ["x", "y" * 20], "m": {"q": n}} for n in range(4)]
BLOCKS = (
    data_block(MIXED, SOME[:2]),
    delete_block([DeletedKey("k1", "p", Ordering.LONG, 11), DeletedKey("k2", "p")]),
    parquet_block(MIXED, SOME[2:]),
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), min_size=1, max_size=3))
def test_damage_of_any_kind_is_called_by_its_name(tmp_path, flips):
    data = bytearray(b"".join(BLOCKS))
    for at, bits in flips:
        data[at % len(data)] ^= bits
    made = Slice(tmp_path, MIXED, SOME[:3]).log(bytes(data))
    with suppress(CorruptTableError, UnsupportedTableError):
        # Nothing says whether values are those that were written; that they are values, we see to.
        for batch in made.merged(EVENT).tail.batches(["id", "ts", "a", "m"]):
            batch.validate()


def test_a_base_file_that_does_not_decode_is_damaged(tmp_path):
    made = Slice(tmp_path, TEXT, BASE).log(data_block(TEXT, BASE[:1]))
    path = tmp_path / "a_0-1-2_10.parquet"
    path.write_bytes(b"PAR1" + b"x" * (path.stat().st_size - 8) + b"PAR1")
    with pytest.raises(CorruptTableError, match="cannot be read"):
        made.merged()
