"""Changes go by the names that people know, whatever columns are called in a table's files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from catalog.history import CHANGE_TYPE
from catalog.schema import TableSchema
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import change_set
from compactor.merge.evolving import evolution_of, evolve
from compactor.merge.finding import find_hits
from compactor.merge.latest import latest
from compactor.merge.matching import Matcher
from compactor.merge.naming import Naming, in_files
from compactor.merge.routing_files import Snapshotted, looked_for, route
from compactor.merge.rules import MergeRules
from compactor.merge.source_arrow import ArrowSource
from compactor.merge.source_table import TableSource
from tests.catalog.delta.test_column_mapping import MappedLake
from tests.catalog.groups import plan_all
from tests.compactor.rewrite.tables import with_ids

SHOWN = with_ids(
    pa.schema(
        [
            ("a", pa.int64()),
            ("s", pa.struct([("x", pa.list_(pa.struct([("y", pa.string())])))])),
            ("m", pa.map_(pa.string(), pa.struct([("z", pa.bool_())]))),
        ]
    )
)
STORED = pa.schema(
    [
        ("c1", pa.int64()),
        ("a", pa.struct([("c3", pa.list_(pa.struct([("c5", pa.string())])))])),
        ("c6", pa.map_(pa.string(), pa.struct([("c9", pa.bool_())]))),
    ]
)
# The ids of one are those of the other: fields come in the same order.
NAMING = Naming.of(TableSchema(with_ids(STORED), shown=SHOWN))
ROW = {"a": 1, "s": {"x": [{"y": "u"}, None]}, "m": [("k", {"z": True})]}


def test_nested_fields_are_renamed_as_well() -> None:
    rows = pa.Table.from_pylist([ROW, {"a": None, "s": None, "m": []}], SHOWN)
    more = rows.slice(1).append_column("more", pa.array([1]))
    (found,) = NAMING.rows(more).to_pylist()
    assert found == {"c1": None, "a": None, "c6": [], "more": 1}
    assert NAMING.rows(rows).to_pylist()[0] == {
        "c1": 1,
        "a": {"c3": [{"c5": "u"}, None]},
        "c6": [("k", {"c9": True})],
    }
    back = NAMING.reversed.rows(NAMING.rows(rows))
    assert back.to_pylist() == rows.to_pylist()
    assert back.schema.names == rows.schema.names


def test_a_name_that_only_files_know_is_no_column() -> None:
    with pytest.raises(ChangesRefusedError, match="'c1' is how its files call the column 'a'"):
        NAMING.rows(pa.table({"c1": [1]}))
    with pytest.raises(ChangesRefusedError, match="no column 'c1' to be a key"):
        NAMING.rules(MergeRules(("c1",)))


def test_rules_go_by_the_names_in_files() -> None:
    rules = NAMING.rules(MergeRules(("a", "s"), order_by=("m", "at"), op_column="op"))
    assert rules == MergeRules(("c1", "a"), order_by=("c6", "at"), op_column="op")
    plain = Naming.of(TableSchema(SHOWN))
    assert plain.is_plain
    arrivals = ArrowSource("api", pa.table({"a": [1]})).arrivals(None)
    assert in_files(arrivals, plain) is arrivals


@pytest.mark.parametrize("mode", ["name", "id"])
def test_a_table_with_column_mapping_is_a_source_by_the_names_people_know(
    tmp_path: Path, mode: str
) -> None:
    lake = MappedLake(tmp_path, mode)
    path = lake.write(0)
    source = TableSource(lake.table)
    whole = source.arrivals(None)
    expected = {"id": 0, "part": "x", "text": "text 0"}
    assert rows_of(whole.parts)[0] == expected
    assert whole.schema.names == ["id", "part", "text"]
    lake.commit([{"metaData": fed(lake)}])
    lake.delete({path: [0]})
    later = source.arrivals(whole.watermark)
    assert later.op_column == CHANGE_TYPE
    assert rows_of(later.parts) == [{**expected, CHANGE_TYPE: "delete"}]


def rows_of(parts: Any) -> list[dict[str, Any]]:
    sent = pickle.loads(pickle.dumps(parts))
    return [row for part in sent for one in part.read() for row in one.rows.to_pylist()]


def fed(lake: MappedLake) -> dict[str, Any]:
    raw = dict(lake.table.load()[1].metadata.raw)
    raw["configuration"] = {**raw["configuration"], "delta.enableChangeDataFeed": "true"}
    return raw


@pytest.mark.parametrize("mode", ["name", "id"])
def test_changes_find_their_rows_in_a_table_with_column_mapping(tmp_path: Path, mode: str) -> None:
    lake = MappedLake(tmp_path, mode)
    lake.write(0)
    lake.write(10)
    lake.table.commit(plan_all(lake.table))
    lake.write(100)
    table = lake.table
    changes = pa.table({"id": [3, 500], "part": ["x", "y"], "text": ["new", "new"], "more": [1, 2]})
    source = ArrowSource("api", changes)
    naming = Naming.of(table.files(table.snapshot()).schema)
    rules = MergeRules(("id", "part"))
    evolve(table, evolution_of(changes.schema, naming.shown, rules))
    snapshot = table.snapshot()
    side, files = table.files(snapshot), table.inventory(snapshot)
    naming = Naming.of(side.schema)
    (part,) = in_files(source.arrivals(None), naming).parts
    rules = naming.rules(rules)
    sets = [change_set(one, naming.stored, rules) for one in part.read()]
    last = latest(sets[0], rules, naming.stored)
    base = Snapshotted(table, snapshot, files, naming.stored)
    routed = route(base, looked_for(last, [], rules))
    # The second file has no bounds.
    assert [one.files for one in routed.stages] == [2, 2, 2]
    found = find_hits(side, routed.files, Matcher(last, [], rules))
    assert found.hit.rows == 1
