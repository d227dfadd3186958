"""Metadata rule out no file that has a row with a value that is looked for, and most others."""

from __future__ import annotations

import datetime
import pickle
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable as PeerTable
from deltalake import write_deltalake
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import parse_transform

from catalog.delta.table import DeltaTable
from catalog.iceberg.table import IcebergTable
from catalog.location import Location
from catalog.memory import MemoryTable
from catalog.model import Inventory
from catalog.table import Table
from compactor.merge.changes import Source, change_set, changeable
from compactor.merge.deletes import keyed_deletes
from compactor.merge.routing_files import Routed, Snapshotted, looked_for, route
from compactor.merge.rules import MergeRules, Mode
from compactor.rewrite.read import SliceReader
from tests.compactor.merge import drawn, model
from tests.compactor.rewrite.tables import with_ids

TRANSFORMS = [
    "identity",
    "void",
    "bucket[3]",
    "truncate[2]",
    "year",
    "month",
    "day",
    "hour",
]


def routed(table: Table, wanted: pa.Table, key: tuple[str, ...]) -> tuple[Routed, Inventory]:
    snapshot = table.snapshot()
    files = table.inventory(snapshot)
    schema = changeable(table.files(snapshot).schema)
    rules = MergeRules(key)
    changes = change_set(Source(wanted, "changes"), schema, rules)
    base = Snapshotted(table, snapshot, files, schema)
    return route(base, looked_for(changes, [], rules)), files


def missed(table: Table, wanted: pa.Table, key: tuple[str, ...]) -> list[str]:
    """Return the files that hold a key that is looked for and were ruled out."""
    found, files = routed(table, wanted, key)
    left = set(found.files.files["path"].to_pylist())
    side = table.files(table.snapshot())
    reader = SliceReader.of(side, files, side.schema)
    keys = wanted.to_pylist()
    return [
        file.path
        for file in files.slices()
        if file.path not in left
        and any(
            model.same(row, one, key)
            for batch in reader.batches(file)
            for row in batch.to_pylist()
            for one in keys
        )
    ]


# The other writer cannot write these, and we refuse the first.
_UNWRITABLE = [
    ("identity", "double"),
    ("identity", "float"),
    ("identity", "time"),
    ("bucket[3]", "time"),
    ("truncate[2]", "binary"),
]


def partitioned(data: st.DataObject, schema: Schema, key: tuple[str, ...]) -> PartitionSpec:
    fields = []
    for number, name in enumerate(
        data.draw(st.lists(st.sampled_from(key), max_size=2, unique=True))
    ):
        source = schema.find_field(name)
        possible = [
            one
            for one in map(parse_transform, TRANSFORMS)
            if one.can_transform(source.field_type)
            and (str(one), str(source.field_type)) not in _UNWRITABLE
        ]
        transform = data.draw(st.sampled_from(possible))
        fields.append(PartitionField(source.field_id, 1000 + number, transform, f"p{number}"))
    return PartitionSpec(*fields)


def batches(data: st.DataObject, schema: pa.Schema, *, is_partitioned: bool) -> list[pa.Table]:
    rows = st.lists(drawn.rows(schema), min_size=1, max_size=4)
    drawn_rows = data.draw(st.lists(rows, min_size=1, max_size=3))
    # Partitions become directories, whose names have an end.
    values = [one for some in drawn_rows for row in some for one in row.values()]
    assume(not is_partitioned or all(len(one) < 200 for one in values if isinstance(one, str)))
    return [pa.Table.from_pylist(some, schema) for some in drawn_rows]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_file_of_an_iceberg_table_is_missed(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    arrow = data.draw(drawn.schemas())
    key = drawn.key_of(arrow)
    directory = tmp_path_factory.mktemp("lake")
    catalog = InMemoryCatalog("lake", warehouse=f"file://{directory}")
    catalog.create_namespace("ns")
    plain = catalog.create_table("ns.plain", arrow).schema()
    peer = catalog.create_table(
        "ns.t",
        plain,
        partition_spec=partitioned(data, plain, key),
        properties={"write.metadata.metrics.default": data.draw(st.sampled_from(_METRICS))},
    )
    for rows in batches(data, arrow, is_partitioned=bool(peer.spec().fields)):
        peer.append(rows.cast(peer.schema().as_arrow()))
    table = IcebergTable("lake.ns.t", catalog, ("ns", "t"))
    wanted = pa.Table.from_pylist(data.draw(st.lists(drawn.rows(arrow), max_size=3)), arrow)
    assert missed(table, wanted, key) == []


_METRICS = ["full", "truncate(1)", "counts", "none"]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_file_of_a_delta_table_is_missed(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    arrow = data.draw(drawn.schemas())
    key = drawn.key_of(arrow)
    if any(pa.types.is_time(one.type) or _is_fixed(one.type) for one in arrow):
        return
    path = str(tmp_path_factory.mktemp("lake"))
    plain = pa.schema([one.remove_metadata() for one in arrow])
    # The other writer spells binary, floats and negative decimals so that nobody can read them.
    possible = [one for one in key if not _is_misspelled(arrow.field(one).type)]
    by = data.draw(st.lists(st.sampled_from(possible), max_size=1)) if possible else []
    for rows in batches(data, plain, is_partitioned=bool(by)):
        bare = pa.table(rows.columns, schema=plain)
        write_deltalake(path, bare, mode="append", partition_by=by or None)
    if data.draw(st.booleans()):
        PeerTable(path).create_checkpoint()
    table = DeltaTable("t", Location.parse(path), {})
    wanted = pa.Table.from_pylist(data.draw(st.lists(drawn.rows(arrow), max_size=3)), arrow)
    assert missed(table, wanted, key) == []


def _is_misspelled(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_fixed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_binary(kind))


def numbered(start: int, part: str = "a") -> pa.Table:
    ids = [*range(start, start + 100)]
    return pa.table({"id": ids, "part": [part] * 100, "text": [f"{one:05}" for one in ids]})


def iceberg(directory: Path, *spec: PartitionField) -> tuple[Table, Any]:
    catalog = InMemoryCatalog("lake", warehouse=f"file://{directory}")
    catalog.create_namespace("ns")
    schema = catalog.create_table("ns.plain", numbered(0).schema).schema()
    peer = catalog.create_table("ns.t", schema, partition_spec=PartitionSpec(*spec))
    return IcebergTable("lake.ns.t", catalog, ("ns", "t")), peer


def stages(found: Routed) -> list[tuple[str, int, int]]:
    return [(one.stage, one.files, one.row_count) for one in found.stages]


def test_bounds_in_manifests_rule_out_files(tmp_path: Path) -> None:
    table, peer = iceberg(tmp_path)
    for start in (0, 100, 200):
        peer.append(numbered(start))
    found, _ = routed(table, numbered(0).slice(5, 1), ("id",))
    assert stages(found) == [("table", 3, 300), ("partitions", 3, 300), ("bounds", 1, 100)]
    found, _ = routed(table, pa.table({"text": ["00150", None]}), ("text",))
    assert found.files.file_count == 1
    found, _ = routed(table, numbered(0).slice(0, 0), ("id",))
    assert found.files.file_count == 0


def test_keys_that_several_partition_fields_follow_from(tmp_path: Path) -> None:
    spec = [
        PartitionField(2, 1000, parse_transform("identity"), "part"),
        PartitionField(1, 1001, parse_transform("bucket[4]"), "bucket"),
        PartitionField(3, 1002, parse_transform("truncate[3]"), "stem"),
    ]
    table, peer = iceberg(tmp_path, *spec)
    for part in ("a", "b"):
        peer.append(numbered(0, part))
    key = ("part", "id", "text")
    found, files = routed(table, numbered(0, "b").slice(7, 1), key)
    assert files.file_count == 8
    assert [one[:2] for one in stages(found)] == [("table", 8), ("partitions", 1), ("bounds", 1)]
    found, _ = routed(table, numbered(0, "b").slice(7, 1), ("id",))
    assert [one[:2] for one in stages(found)] == [("table", 8), ("partitions", 2), ("bounds", 2)]


def test_the_partitions_that_others_must_not_add_to(tmp_path: Path) -> None:
    by_day = PartitionField(2, 1000, parse_transform("day"), "day")
    by_id = PartitionField(1, 1001, parse_transform("bucket[4]"), "bucket")
    catalog = InMemoryCatalog("lake", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("ns")
    days = [datetime.datetime(2026, 1, one) for one in (1, 1, 2)]
    rows = pa.table({"id": [1, 2, 3], "at": pa.array(days, pa.timestamp("us")), "v": [0.0] * 3})
    schema = catalog.create_table("ns.plain", rows.schema).schema()
    peer = catalog.create_table("ns.t", schema, partition_spec=PartitionSpec(by_day, by_id))
    peer.append(rows)
    table = IcebergTable("lake.ns.t", catalog, ("ns", "t"))
    files = table.inventory(table.snapshot()).files
    every = frozenset(files["partition_key"].to_pylist())
    assert routed(table, rows, ("id", "at"))[0].reach == every
    assert routed(table, rows, ("id",))[0].reach is None
    before = rows.set_column(1, "at", pa.array([-1, 0, 1], pa.timestamp("us")))
    assert routed(table, before, ("id", "at"))[0].reach is None
    one = routed(table, rows.slice(0, 1), ("at", "id"))[0].reach
    assert one is not None
    assert len(one & every) == len(one) == 1


def test_partitions_and_statistics_of_a_log_rule_out_files(tmp_path: Path) -> None:
    for start in (0, 100, 200):
        for part in ("a", "b"):
            write_deltalake(
                str(tmp_path), numbered(start, part), mode="append", partition_by=["part"]
            )
    table = DeltaTable("t", Location.parse(str(tmp_path)), {})
    for _ in range(2):
        found, _ = routed(table, numbered(100, "b").slice(50, 3), ("part", "id"))
        left = [one[:2] for one in stages(found)]
        assert left == [("table", 6), ("partitions", 3), ("bounds", 1)]
        PeerTable(str(tmp_path)).create_checkpoint()


def test_a_table_whose_metadata_tell_nothing_is_looked_at_as_a_whole(tmp_path: Path) -> None:
    table = MemoryTable(tmp_path, with_ids(numbered(0).schema))
    table.append(numbered(0), "")
    found, _ = routed(table, numbered(900), ("id",))
    assert stages(found) == [("table", 1, 100)]


def test_deletes_by_other_columns_are_looked_for_as_well(tmp_path: Path) -> None:
    table, peer = iceberg(tmp_path)
    for start in (0, 100, 200):
        peer.append(numbered(start))
    snapshot = table.snapshot()
    schema = changeable(table.files(snapshot).schema)
    rules = MergeRules(("id",))
    changes = change_set(Source(numbered(10), "changes"), schema, rules)
    given_rows = Source(pa.table({"text": ["00250"]}), "deletes")
    deletes = [keyed_deletes(given_rows, schema, ("text",), rules)]
    base = Snapshotted(table, snapshot, table.inventory(snapshot), schema)
    assert route(base, looked_for(changes, deletes, rules)).files.file_count == 3
    appended = MergeRules((), mode=Mode.APPEND)
    assert route(base, looked_for(changes, deletes, appended)).files.file_count == 1


def test_what_tells_where_rows_are_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    table, peer = iceberg(tmp_path)
    peer.append(numbered(0))
    snapshot = table.snapshot()
    routing = pickle.loads(pickle.dumps(table.routing(snapshot)))  # type: ignore[attr-defined]
    (found,) = routing.bounds(table.inventory(snapshot), ["id"])
    assert (found.lower.to_pylist(), found.upper.to_pylist()) == ([0], [99])
    assert found.null_count.to_pylist() == [0]


EDGES = {
    pa.int32(): [-(2**31), 2**31 - 1],
    pa.int64(): [-(2**63), 2**63 - 1],
    pa.date32(): [datetime.date(1, 1, 1), datetime.date(9999, 12, 31)],
    pa.timestamp("us"): [datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)],
    pa.float64(): [float("-inf"), float("inf")],
    pa.string(): ["", "\ud7ff" * 5],
    pa.binary(16): [bytes(16), b"\xff" * 16],
}


@pytest.mark.parametrize("kind", EDGES)
def test_bounds_at_the_ends_of_a_type(kind: pa.DataType, tmp_path: Path) -> None:
    table, rows = with_two_files(tmp_path, pa.array(EDGES[kind], kind))
    for at in range(2):
        assert routed(table, rows.slice(at, 1), ("k",))[0].files.row_count == 1
    assert routed(table, rows, ("k",))[0].files.row_count == 2


def test_bounds_of_identifiers_are_not_trusted(tmp_path: Path) -> None:
    values = pa.array([uuid.UUID(int=one).bytes for one in (0, 2**128 - 1)], pa.binary(16))
    table, rows = with_two_files(tmp_path, pa.ExtensionArray.from_storage(pa.uuid(), values))
    assert routed(table, rows.slice(0, 1), ("k",))[0].files.row_count == 2


def with_two_files(directory: Path, values: pa.Array) -> tuple[Table, pa.Table]:
    catalog = InMemoryCatalog("lake", warehouse=f"file://{directory}")
    catalog.create_namespace("ns")
    rows = pa.table({"k": values})
    peer = catalog.create_table("ns.t", rows.schema)
    for at in range(2):
        peer.append(rows.slice(at, 1))
    return IcebergTable("lake.ns.t", catalog, ("ns", "t")), rows
