"""Whatever footers rule out, no stored row is missed that a change acts on."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.delta.table import DeltaTable
from catalog.iceberg.table import IcebergTable
from catalog.location import Location
from catalog.memory import Features, MemoryTable
from catalog.schema import TableSchema
from catalog.table import Table
from compactor.merge.changes import ChangeSet, Source, change_set
from compactor.merge.deletes import KeyedDeletes, keyed_deletes
from compactor.merge.finding import Found, find_hits
from compactor.merge.latest import latest
from compactor.merge.matching import Matcher
from compactor.merge.rules import MergeRules, Mode
from tests.compactor.merge import drawn, model
from tests.compactor.rewrite.tables import LocalTable, inventory, with_ids, write_file
from tests.iceberg_tables import data_files, delete_positions, make_table, sql_catalog

IDS = with_ids(pa.schema([("id", pa.int64()), ("part", pa.string()), ("v", pa.string())]))


def rows_of(ids: Any, part: str = "a") -> pa.Table:
    numbers = [int(one) for one in ids]
    columns = [numbers, [part] * len(numbers), [f"v{one}" for one in numbers]]
    return pa.table(columns, schema=IDS)


def matcher_of(ids: Any, schema: pa.Schema = IDS, *deletes: KeyedDeletes) -> Matcher:
    rules = MergeRules(("id",))
    changes = change_set(Source(rows_of(ids), "changes"), schema, rules)
    return Matcher(latest(changes, rules, schema), deletes, rules)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_row_with_a_changed_key_is_found_in_files_of_any_writer(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    schema = data.draw(drawn.schemas())
    key = drawn.key_of(schema)
    stored = pa.Table.from_pylist(data.draw(st.lists(drawn.rows(schema), min_size=1)), schema)
    given_rows = data.draw(st.lists(drawn.rows(schema), max_size=3))
    wanted = pa.Table.from_pylist(given_rows, schema)
    directory = tmp_path_factory.mktemp("table")
    path = write_file(
        directory / "a.parquet",
        stored,
        row_group_size=data.draw(st.integers(1, 3)),
        write_statistics=data.draw(st.booleans()),
        use_dictionary=data.draw(st.booleans()),
        store_decimal_as_integer=data.draw(st.booleans()),
        bloom_filter_options={
            name: {"ndv": 8, "fpp": 0.01}
            for name in (*key, "v")
            if not pa.types.is_boolean(schema.field(name).type)
        },
    )
    dropped = data.draw(st.sets(st.integers(0, stored.num_rows - 1), max_size=2))
    table = LocalTable(str(directory), TableSchema(schema)).dropping(path, sorted(dropped))
    rules = MergeRules(key)
    changes = latest(change_set(Source(wanted, "changes"), schema, rules), rules, schema)
    deletes = [keyed_deletes(Source(wanted.slice(0, 1), "deletes"), schema, ("v",), rules)]
    by_value = data.draw(st.booleans())
    matcher = Matcher(changes, deletes if by_value else [], rules)
    found = find_hits(table, inventory([path]), matcher)
    expected = [
        at
        for at, row in enumerate(stored.to_pylist())
        if at not in dropped
        and (
            any(model.same(row, one, key) for one in wanted.to_pylist())
            or (by_value and any(model.same(row, one, ["v"]) for one in given_rows[:1]))
        )
    ]
    hits = found.hits.get(path)
    assert ([] if hits is None else hits.positions.tolist()) == expected


def test_files_and_row_groups_without_a_changed_key_are_not_read(tmp_path: Path) -> None:
    table = LocalTable(str(tmp_path), TableSchema(IDS))
    paths = [
        write_file(
            tmp_path / f"{at}.parquet",
            rows_of(range(at * 1000, at * 1000 + 1000)),
            row_group_size=100,
        )
        for at in range(5)
    ]
    found = find_hits(table, inventory(paths), matcher_of([2050, 2051, 2999, 9000]))
    assert (found.asked.files, found.asked.row_groups, found.asked.rows) == (5, 50, 5000)
    assert (found.routed.files, found.routed.row_groups, found.routed.rows) == (1, 2, 200)
    assert (found.hit.files, found.hit.row_groups, found.hit.rows) == (1, 2, 3)
    assert found.hits[paths[2]].positions.tolist() == [50, 51, 999]


@pytest.mark.parametrize(("kind", "spelled"), [(pa.int64(), int), (pa.string(), str)])
def test_bloom_filters_rule_out_what_bounds_let_through(
    kind: Any, spelled: Any, tmp_path: Path
) -> None:
    schema = with_ids(pa.schema([("id", kind)]))
    numbers = range(0, 20_000, 2)
    rows = pa.table([pa.array([spelled(one) for one in numbers], kind)], schema=schema)
    options = {"id": {"ndv": 1000, "fpp": 0.001}}
    path = write_file(
        tmp_path / "a.parquet", rows, row_group_size=1000, bloom_filter_options=options
    )
    table = LocalTable(str(tmp_path), TableSchema(schema))
    rules = MergeRules(("id",))
    wanted = pa.table([pa.array([spelled(one) for one in (5001, 7000, 9001)], kind)], ["id"])
    changes = change_set(Source(wanted, "changes"), schema, rules)
    found = find_hits(table, inventory([path]), Matcher(changes, [], rules))
    assert found.routed.row_groups >= 3
    assert (found.read.row_groups, found.hit.rows) == (1, 1)


def test_keys_of_several_columns_are_ruled_out_together(tmp_path: Path) -> None:
    # Each column alone has values in both files: (part a, 1..99) and (part b, 100..199).
    rows = pa.concat_tables([rows_of(range(100), "a"), rows_of(range(100, 200), "b")])
    path = write_file(tmp_path / "a.parquet", rows, row_group_size=100)
    rules = MergeRules(("part", "id"))
    wanted = pa.concat_tables([rows_of([150], "a"), rows_of([50], "b")])
    changes = change_set(Source(wanted, "changes"), IDS, rules)
    table = LocalTable(str(tmp_path), TableSchema(IDS))
    found = find_hits(table, inventory([path]), Matcher(changes, [], rules))
    assert found.routed.row_groups == 0


def test_appended_rows_look_at_no_file(tmp_path: Path) -> None:
    rules = MergeRules((), mode=Mode.APPEND)
    changes = change_set(Source(rows_of([1]), "changes"), IDS, rules)
    table = LocalTable(str(tmp_path), TableSchema(IDS))
    missing = inventory([write_file(tmp_path / "a.parquet", rows_of([1]))])
    (tmp_path / "a.parquet").unlink()
    assert find_hits(table, missing, Matcher(changes, [], rules)) == Found()


def test_a_key_column_that_stands_in_the_partition_alone(tmp_path: Path) -> None:
    table = MemoryTable(tmp_path, IDS, features=Features(partition_columns=frozenset({"part"})))
    for part in ("a", "b"):
        table.append(rows_of(range(10), part), f"part={part}")
    rules = MergeRules(("part", "id"))
    changes = change_set(Source(rows_of([3, 4], "b"), "changes"), IDS, rules)
    found = search(table, Matcher(changes, [], rules))
    assert (found.asked.files, found.routed.files, found.hit.rows) == (2, 1, 2)


def search(table: Table, matcher: Matcher) -> Found:
    snapshot = table.snapshot()
    files = pickle.loads(pickle.dumps(table.files(snapshot)))
    return find_hits(files, table.inventory(snapshot), matcher)


def test_an_iceberg_table_with_position_deletes(tmp_path: Path) -> None:
    peer = make_table(tmp_path, IDS)
    for start in (0, 100):
        peer.append(rows_of(range(start, start + 100)).cast(peer.schema().as_arrow()))
    first = min(data_files(peer), key=lambda file: file.lower_bounds[1])
    delete_positions(peer, first, [5])
    table = IcebergTable("lake.ns.t", sql_catalog(tmp_path), ("ns", "t"))
    schema = table.files(table.snapshot()).schema.arrow
    found = search(table, matcher_of([5, 7, 1000], schema))
    assert (found.asked.files, found.routed.files, found.hit.rows) == (2, 1, 1)


def test_a_delta_table(tmp_path: Path) -> None:
    for start in (0, 100):
        rows = rows_of(range(start, start + 100))
        plain = pa.table(rows.columns, names=rows.column_names)
        write_deltalake(str(tmp_path / "t"), plain, mode="append")
    table = DeltaTable("t", Location.parse(str(tmp_path / "t")), {})
    schema = table.files(table.snapshot()).schema.arrow
    found = search(table, matcher_of([5, 7, 1000], schema))
    assert (found.asked.files, found.routed.files, found.hit.rows) == (2, 1, 2)


def test_a_matcher_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    table = LocalTable(str(tmp_path), TableSchema(IDS))
    files = inventory([write_file(tmp_path / "a.parquet", rows_of(range(100)))])
    matcher = pickle.loads(pickle.dumps(matcher_of([3, 99, 200])))
    (hits,) = find_hits(table, files, matcher).hits.values()
    assert hits.positions.tolist() == [3, 99]
    assert np.array_equal(hits.matched.change, [0, 1])


def test_change_sets_can_be_sent_to_a_worker() -> None:
    changes = change_set(Source(rows_of([1]), "changes"), IDS, MergeRules(("id",)))
    received: ChangeSet = pickle.loads(pickle.dumps(changes))
    assert received == changes
