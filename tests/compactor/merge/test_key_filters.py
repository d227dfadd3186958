"""Filters of keys rule out files without ever hiding a row; what is wrong with one is no harm."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable as PeerTable
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog.memory import InMemoryCatalog

from catalog.delta.table import DeltaTable
from catalog.iceberg.table import IcebergTable
from catalog.location import Location
from catalog.memory import MemoryTable
from catalog.puffin import Blob
from catalog.sidecars import SidecarTable, stored_blobs
from catalog.table import Table
from compactor.merge.changes import Source, change_set, changeable
from compactor.merge.finding import Found, find_hits
from compactor.merge.key_filters import KIND, KeyColumns, KeyFilters, filters_of, keep_filters
from compactor.merge.keys import keys_of
from compactor.merge.latest import latest
from compactor.merge.matching import Matcher
from compactor.merge.rules import MergeRules
from compactor.parquet.bloom import SplitBlocks
from compactor.rewrite import fingerprint
from tests.compactor.merge import drawn
from tests.compactor.rewrite.tables import with_ids

KEY = ("part", "id")


def numbered(numbers: range, part: str) -> pa.Table:
    ids = [*numbers]
    return pa.table({"id": ids, "part": [part] * len(ids), "text": [f"v{one}" for one in ids]})


# Each file has keys all over the range: bounds rule out none.
FILES = [numbered(range(at, 3000, 3), "a") for at in range(3)]


def iceberg(directory: Path) -> tuple[Table, Callable[[pa.Table], Any]]:
    catalog = InMemoryCatalog("lake", warehouse=f"file://{directory}")
    catalog.create_namespace("ns")
    peer = catalog.create_table("ns.t", FILES[0].schema)
    return IcebergTable("lake.ns.t", catalog, ("ns", "t")), peer.append


def delta(directory: Path) -> tuple[Table, Callable[[pa.Table], Any]]:
    path = str(directory / "t")
    PeerTable.create(path, FILES[0].schema, partition_by=["part"])
    table = DeltaTable("t", Location.parse(path), {})
    return table, lambda rows: write_deltalake(path, rows, mode="append")


def search(table: Table, wanted: pa.Table, key: tuple[str, ...] = KEY) -> Found:
    snapshot = table.snapshot()
    side = table.files(snapshot)
    schema, rules = changeable(side.schema), MergeRules(key)
    changes = latest(change_set(Source(wanted, "changes"), schema, rules), rules, schema)
    found = filters_of(table, sorted(key), schema)
    assert found is None or isinstance(found, KeyFilters)
    sent = pickle.loads(pickle.dumps(found))
    return find_hits(side, table.inventory(snapshot), Matcher(changes, [], rules), sent)


def left(found: Found) -> tuple[int, int, int]:
    return found.asked.files, found.filtered.files, found.hit.rows


@pytest.mark.parametrize("make", [iceberg, delta])
def test_files_without_a_key_are_not_opened(
    make: Callable[[Path], tuple[Table, Callable[[pa.Table], Any]]], tmp_path: Path
) -> None:
    table, append = make(tmp_path)
    for rows in FILES[:2]:
        append(rows)
    wanted = numbered(range(300, 330, 3), "a")
    assert left(search(table, wanted)) == (2, 2, 10)
    snapshot = table.snapshot()
    assert keep_filters(table, snapshot, table.inventory(snapshot), KEY) == 2
    assert left(search(table, wanted)) == (2, 1, 10)
    assert left(search(table, numbered(range(1, 2), "b"))) == (2, 0, 0)
    # A file that came later has no filter and is looked at; a second sidecar has one for it.
    append(FILES[2])
    assert left(search(table, wanted)) == (3, 2, 10)
    snapshot = table.snapshot()
    files = table.inventory(snapshot)
    known = filters_of(table, KEY, table.files(snapshot).schema.arrow)
    assert known is not None
    paths = files.files["path"].to_pylist()
    rows = np.flatnonzero([path not in known.places for path in paths])
    assert keep_filters(table, snapshot, files.take(rows), KEY) == 1
    assert left(search(table, wanted)) == (3, 1, 10)
    # Filters of one key say nothing of another.
    assert left(search(table, wanted, ("id",))) == (3, 3, 10)


def test_readers_of_iceberg_read_the_table_and_find_its_statistics(tmp_path: Path) -> None:
    table, append = iceberg(tmp_path)
    append(FILES[0])
    snapshot = table.snapshot()
    files = table.inventory(snapshot)
    assert keep_filters(table, snapshot, files, KEY) == 1
    assert isinstance(table, IcebergTable)
    metadata = table.load().metadata
    (statistics,) = metadata.statistics
    assert type(metadata).model_validate_json(metadata.model_dump_json()) == metadata
    content = Path(Location.parse(statistics.statistics_path).path).read_bytes()
    assert len(content) == statistics.file_size_in_bytes
    assert content[:4] == content[-4:] == b"PFA1"
    # A snapshot has one file of statistics: a second one is not added, and none is left behind.
    before = set(tmp_path.rglob("*.puffin"))
    assert keep_filters(table, snapshot, files, KEY) == 0
    assert set(tmp_path.rglob("*.puffin")) == before


def test_a_vacuum_leaves_the_filters_of_a_delta_table(tmp_path: Path) -> None:
    table, append = delta(tmp_path)
    append(FILES[0])
    snapshot = table.snapshot()
    assert keep_filters(table, snapshot, table.inventory(snapshot), KEY) == 1
    peer = PeerTable(str(tmp_path / "t"))
    peer.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)
    assert left(search(table, numbered(range(3, 4), "a")))[1] == 1
    assert list(tmp_path.rglob("*.puffin"))


def damaged(table: Table, change: Callable[[bytes], bytes]) -> None:
    assert isinstance(table, SidecarTable)
    for one in table.sidecars():
        path = Path(one.location.path)
        path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"\xff", b"\x00"),
        lambda content: bytes(100_000) + content[100_000:],
        lambda content: content[:-1] + b"?",
        lambda content: content.replace(b'"length"', b'"lengths"'),
        lambda content: content.replace(b'"offset":4', b'"offset":9'),
        lambda content: content.replace(b"crc32", b"crc64"),
        lambda content: b"",
    ],
)
def test_a_damaged_filter_hides_no_row(change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    table, append = delta(tmp_path)
    append(numbered(range(5), "a"))
    snapshot = table.snapshot()
    keep_filters(table, snapshot, table.inventory(snapshot), KEY)
    damaged(table, change)
    assert search(table, numbered(range(5), "a")).hit.rows == 5


def test_filters_of_another_way_of_hashing_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, append = delta(tmp_path)
    append(FILES[0])
    snapshot = table.snapshot()
    keep_filters(table, snapshot, table.inventory(snapshot), KEY)
    schema = table.files(snapshot).schema.arrow
    known = filters_of(table, KEY, schema)
    assert known is not None
    assert len(known.places) == 1
    assert isinstance(table, SidecarTable)
    assert len(stored_blobs(table, KIND)) == 1
    monkeypatch.setattr(
        "compactor.merge.keys.mix", lambda values: fingerprint.mix(values) ^ np.uint64(1)
    )
    changed = filters_of(table, KEY, schema)
    assert changed is not None
    assert not changed.places


def test_a_column_of_another_type_has_another_scheme() -> None:
    narrow, wide = (with_ids(pa.schema([("id", kind)])) for kind in (pa.int32(), pa.int64()))
    schemes = {KeyColumns.of(one, ["id"]).scheme for one in (narrow, wide)}
    assert len(schemes) == 2
    every = [with_ids(pa.schema([("id", kind)])) for kind in drawn.VALUES]
    assert len({KeyColumns.of(one, ["id"]).scheme for one in every}) == len(every)


def test_a_table_without_sidecars_has_no_filters(tmp_path: Path) -> None:
    table = MemoryTable(tmp_path, with_ids(FILES[0].schema))
    table.append(FILES[0], "")
    snapshot = table.snapshot()
    assert keep_filters(table, snapshot, table.inventory(snapshot), KEY) == 0
    assert filters_of(table, KEY, table.files(snapshot).schema.arrow) is None


def test_what_no_filter_can_say_is_not_said() -> None:
    filters = KeyFilters(Location, KeyColumns(()), {})  # type: ignore[arg-type]
    assert filters.may_hold("a", np.array([1], np.uint64))
    assert not filters.may_hold("a", np.array([], np.uint64))
    assert replace(filters, places={}).may_hold("b", np.arange(5000, dtype=np.uint64))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_key_passes_the_filter_that_it_was_put_into(data: st.DataObject) -> None:
    schema = data.draw(drawn.schemas())
    rows = st.lists(drawn.rows(schema), max_size=20)
    some, others = (pa.Table.from_pylist(data.draw(rows), schema) for _ in range(2))
    names = drawn.key_of(schema)
    hashes = keys_of(pa.concat_tables([some, others]), names).hashes
    bits = SplitBlocks(SplitBlocks.of(hashes, bits_per_value=16).data)
    columns = KeyColumns.of(schema, names[::-1])
    looked_for = columns.hashes(names, keys_of(some, names))
    assert bits.may_hold(looked_for).all()


def test_few_keys_pass_a_filter_by_mistake() -> None:
    rows = pa.table({"id": np.arange(400_000)})
    hashes = keys_of(rows, ["id"]).hashes
    bits = SplitBlocks.of(hashes[:200_000], bits_per_value=16)
    assert bits.may_hold(hashes[:200_000]).all()
    assert bits.may_hold(hashes[200_000:]).mean() < 0.002


def test_blobs_of_others_are_left_alone(tmp_path: Path) -> None:
    table, append = delta(tmp_path)
    append(FILES[0])
    assert isinstance(table, SidecarTable)
    assert table.add_sidecar(table.snapshot(), [Blob("other", (1,), {}, b"x")])
    assert stored_blobs(table, KIND) == []
    (found,) = stored_blobs(table, "other")
    assert table.storage.read_ranges(found.location, [found.blob.place]) == [b"x"]
