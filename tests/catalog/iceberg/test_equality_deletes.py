"""Rows deleted by their values: what reading, committing and other engines make of them."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.manifest import UNASSIGNED_SEQ, ManifestFile, ManifestWriter
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, IntegerType, LongType, NestedField, StringType

from catalog import key_join
from catalog.commits import Commit, Rewrite
from catalog.errors import CorruptTableError
from catalog.iceberg.files import IcebergFiles, Placement
from catalog.iceberg.inventory import assemble
from catalog.iceberg.manifest import DELETE_FILES_SCOPED, FILES, ManifestPart
from catalog.iceberg.partition import Spec, SpecField, encode_key
from catalog.iceberg.properties import file_layout
from catalog.location import Confinement, Location
from catalog.model import Inventory
from catalog.schema import TableSchema
from catalog.storage import Storage
from catalog.table import Table
from tests.catalog.groups import make_commit, partitions, pick, plan_all, rewrite
from tests.catalog.iceberg.keyed import dropped, kept_rows, live_files, ours, streamed
from tests.catalog.iceberg.lakes import BY_PART, SCHEMA, rows_of
from tests.iceberg_tables import (
    commit_deletes,
    data_files,
    make_table,
    rows,
    write_equality_deletes,
    write_key_deletes,
    write_position_deletes,
)

NAN = math.nan


# --- which rows --------------------------------------------------------------------------------


KEY = pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.float64())])
KEY = pa.schema(
    [one.with_metadata({"PARQUET:field_id": str(at)}) for at, one in enumerate(KEY, start=1)]
)
A_KEY = st.tuples(
    st.none() | st.integers(0, 3),
    st.none() | st.sampled_from(["", "x", "xy", "\0"]),
    st.none() | st.sampled_from([0.0, -0.0, NAN, 1.5]),
)
SCOPES = st.sampled_from(["p", "q"])
SOME_FILES = st.lists(
    st.tuples(SCOPES, st.integers(1, 4), st.lists(A_KEY, max_size=6)), min_size=1, max_size=4
)
SOME_DELETES = st.lists(
    st.tuples(
        SCOPES | st.none(),
        st.integers(1, 5),
        st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True),
        st.lists(A_KEY, max_size=5),
    ),
    max_size=5,
)
SPECS = (Spec(0, (SpecField(1000, "part", 9, "identity", "string"),)), Spec(1, ()))


def canonical(value: Any) -> Any:
    """Return what tells values apart as the reference implementation does."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value.hex()
    return value


@settings(max_examples=60, deadline=None)
@given(files=SOME_FILES, deletes=SOME_DELETES, held_bytes=st.sampled_from([0, 1 << 20]))
def test_deletes_are_those_of_a_plain_model(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[tuple[str, int, list[Any]]],
    deletes: list[tuple[str | None, int, list[int], list[Any]]],
    held_bytes: int,
) -> None:
    directory = tmp_path_factory.mktemp("keys")
    expected: dict[str, list[int]] = {}
    data, scoped = [], []
    for number, (part, age, keys) in enumerate(files):
        path = _write(directory / f"f{number}.parquet", keys, [0, 1, 2])
        data.append(_row(path, len(keys), part, age) | {"partition": part, "snapshot_id": 1})
        for position, key in enumerate(keys):
            if any(
                later > age
                and scope in (None, part)
                and [canonical(key[at]) for at in columns]
                in [[canonical(one[at]) for at in columns] for one in gone]
                for scope, later, columns, gone in deletes
            ):
                expected.setdefault(path, []).append(position)
    for number, (scope, age, columns, keys) in enumerate(deletes):
        path = _write(directory / f"d{number}.parquet", keys, columns)
        scoped.append(
            _row(path, len(keys), scope, age)
            | {"equality_ids": [at + 1 for at in columns], "is_global": scope is None}
        )
    data = [one | {"path_hash": number} for number, one in enumerate(data)]
    part = ManifestPart(
        pa.Table.from_pylist(data, schema=pa.schema(map(_plain, FILES))).cast(FILES),
        pa.Table.from_pylist(scoped, schema=pa.schema(map(_plain, DELETE_FILES_SCOPED))).cast(
            DELETE_FILES_SCOPED
        ),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_join, "_HELD_BYTES_MAX", held_bytes)
        found = _files(directory).selections(assemble([part], {}))

    assert {path: one.dropped.tolist() for path, one in found.items()} == expected


def _write(path: Path, keys: list[Any], columns: list[int]) -> str:
    schema = pa.schema([KEY.field(at) for at in columns])
    arrays = [pa.array([key[at] for key in keys], KEY.field(at).type) for at in columns]
    pq.write_table(pa.table(arrays, schema=schema), path)
    return str(path)


def _row(path: str, rows: int, part: str | None, age: int) -> dict[str, Any]:
    return {
        "path": path,
        "size_bytes": Path(path).stat().st_size,
        "row_count": rows,
        "partition_key": encode_key(1, []) if part is None else encode_key(0, [part]),
        "sequence_number": age,
    }


def _plain(field: pa.Field) -> pa.Field:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    return pa.field(field.name, kind)


def _files(directory: Path) -> IcebergFiles:
    prefix = Location.parse(str(directory))
    return IcebergFiles(
        Storage(),
        TableSchema(KEY),
        file_layout({}),
        Confinement((prefix,)),
        Placement(prefix, is_hashed=False, has_partitions=False),
        SPECS,
        0,
    )


WIDE = Schema(
    NestedField(1, "number", IntegerType()),
    NestedField(2, "gone", StringType()),
    NestedField(3, "name", StringType()),
)


def wide_rows(start: int) -> pa.Table:
    schema = pa.schema([("number", pa.int32()), ("gone", pa.string()), ("name", pa.string())])
    numbers = range(start, start + 5)
    texts = [str(one) for one in numbers]
    return pa.table({"number": numbers, "gone": texts, "name": texts}, schema=schema)


def test_columns_that_were_renamed_dropped_widened_or_added(tmp_path: Path) -> None:
    table = make_table(tmp_path, WIDE)
    table.append(wide_rows(0))
    by_gone = write_key_deletes(table, pa.table({"gone": ["1"]}))
    by_number = write_key_deletes(table, pa.table({"number": pa.array([2], pa.int32())}))
    commit_deletes(table, by_gone, by_number)
    with table.update_schema() as update:
        update.delete_column("gone")
        update.rename_column("name", "title")
        update.update_column("number", LongType())
        update.add_column("later", DoubleType())
    table.append(pa.table({"number": [2, 9], "title": ["2", "9"], "later": [1.0, None]}))
    commit_deletes(
        table,
        write_key_deletes(table, pa.table({"title": ["3"], "later": pa.array([None], "double")})),
        write_key_deletes(table, pa.table({"number": [9, 4]})),
    )

    found = dropped(ours(tmp_path))
    assert sorted(found.values()) == [[1], [1, 2, 3, 4]]


def test_a_column_that_the_partition_fixes(tmp_path: Path) -> None:
    """Imported files may lack it."""
    table = make_table(tmp_path, SCHEMA, spec=BY_PART)
    table.append(rows_of(range(3), "a"))
    table.append(rows_of(range(3, 6), "b"))
    for file in data_files(table):
        path = file.file_path.removeprefix("file://")
        stored = pq.read_table(path, partitioning=None).drop_columns(["part"])
        pq.write_table(stored, path)
    (like,) = (one for one in data_files(table) if one.partition[0] == "a")
    commit_deletes(table, write_key_deletes(table, pa.table({"part": ["a", "b"]}), like=like))
    snapshot = ours(tmp_path).snapshot()
    inventory = ours(tmp_path).inventory(snapshot)
    stored = [Path(one[7:]).stat().st_size for one in inventory.files["path"].to_pylist()]
    files = inventory.files.set_column(1, inventory.files.schema.field(1), pa.array(stored))

    shrunk = Inventory(files, inventory.delete_files)
    found = ours(tmp_path).files(snapshot).selections(shrunk)
    assert {path: one.dropped.tolist() for path, one in found.items()} == {
        like.file_path: [0, 1, 2]
    }


def test_both_kinds_of_deletes_add_up(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    table.append(rows_of(range(10), "a"))
    (file,) = data_files(table)
    commit_deletes(
        table,
        write_position_deletes(table, {file.file_path: [1, 4]}, like=file),
        write_equality_deletes(table, "id", [4, 7, 70]),
    )
    assert dropped(ours(tmp_path)) == {file.file_path: [1, 4, 7]}


def test_a_delete_file_without_its_column_is_refused(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    table.append(rows_of(range(10), "a"))
    deletes = write_equality_deletes(table, "id", [4])
    deletes[14] = [1, 3]
    commit_deletes(table, deletes)
    with pytest.raises(CorruptTableError, match="lacks a column"):
        dropped(ours(tmp_path))


# --- commits -----------------------------------------------------------------------------------


def test_rewriting_applies_the_deletes_and_takes_them_out(tmp_path: Path) -> None:
    table = streamed(tmp_path)
    before = kept_rows(ours(tmp_path))
    assert len(before) == 2 * (30 - 4)
    result = ours(tmp_path).commit(plan_all(ours(tmp_path)))
    assert result.conflicts == ()
    # Read by a library that takes no table with equality deletes.
    assert sorted(map(repr, rows(table))) == before
    summary = table.refresh().current_snapshot().summary.additional_properties
    assert summary["total-equality-deletes"] == summary["total-delete-files"] == "0"
    assert summary["removed-equality-delete-files"] == "6"
    assert summary["total-records"] == str(len(before))
    assert ours(tmp_path).inventory(ours(tmp_path).snapshot()).delete_files.num_rows == 0


def test_deletes_stay_as_long_as_an_older_file_does(tmp_path: Path) -> None:
    streamed(tmp_path)
    table = ours(tmp_path)
    before, snapshot = kept_rows(table), table.snapshot()
    (key,) = (one for one in partitions(table.inventory(snapshot)) if '"a"' in one)
    group = partitions(table.inventory(snapshot))[key]
    youngest_first = np.argsort(-group.files["sequence_number"].to_numpy())
    # The oldest file stays: all deletes of the partition may hit it.
    young = group.take(youngest_first[:2])
    assert table.commit(make_commit(snapshot, rewrite(table, snapshot, young))).conflicts == ()
    assert kept_rows(table) == before
    assert table.inventory(table.snapshot()).delete_files.num_rows == 6
    # Once it has gone too, those of the partition have nothing left to hit.
    snapshot = table.snapshot()
    old = pick(table.inventory(snapshot), group.take(youngest_first[2:]).files["path"][0].as_py())
    assert table.commit(make_commit(snapshot, rewrite(table, snapshot, old))).conflicts == ()
    assert kept_rows(table) == before
    left = table.inventory(table.snapshot())
    assert left.delete_files.num_rows == 3
    assert all(not one.deletes for one in left.slices() if one.partition_key == key)


def test_manifests_that_are_written_anew_have_the_ids_as_the_reference_reads_them(
    tmp_path: Path,
) -> None:
    """It takes 32-bit integers; the library that writes our manifests has 64-bit ones."""
    table = make_table(tmp_path, SCHEMA, spec=BY_PART)
    for part in "ab":
        table.append(rows_of(range(10), part))
    keys = pa.table({"id": [3]})
    commit_deletes(table, *(write_key_deletes(table, keys, like=one) for one in live_files(table)))
    handle = ours(tmp_path)
    groups = partitions(handle.inventory(handle.snapshot()))
    (group,) = (one for key, one in groups.items() if '"a"' in key)
    commit = make_commit(handle.snapshot(), rewrite(handle, handle.snapshot(), group))
    assert handle.commit(commit).conflicts == ()
    manifests = table.refresh().current_snapshot().manifests(table.io)
    deletes = [one for one in manifests if one.content == 1]
    assert [(one.deleted_files_count, one.existing_files_count) for one in deletes] == [
        (1, 0),
        (0, 1),
    ]
    for one in deletes:
        with table.io.new_input(one.manifest_path).open() as source:
            (record,) = (entries := fastavro.reader(io.BytesIO(source.read())))
        assert record["data_file"]["equality_ids"] == [1]
        (data_file,) = (one for one in entries.writer_schema["fields"] if one["field-id"] == 2)
        (ids,) = (one for one in data_file["type"]["fields"] if one["field-id"] == 135)
        assert ids["type"][1]["items"] == "int"


def test_global_deletes_stay_as_long_as_any_older_file_does(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    table.append(rows_of(range(10), "a"))
    with table.update_spec() as update:
        update.add_identity("part")
    table.append(rows_of(range(10), "b"))
    everywhere = write_key_deletes(table, pa.table({"id": [3]}))
    everywhere.spec_id = 0
    commit_deletes(table, everywhere)
    handle = ours(tmp_path)
    before, snapshot = kept_rows(handle), handle.snapshot()
    assert len(before) == 18
    inventory = handle.inventory(snapshot)
    for number, group in enumerate(partitions(inventory).values(), start=1):
        commit = make_commit(handle.snapshot(), rewrite(handle, handle.snapshot(), group))
        assert handle.commit(commit).conflicts == ()
        assert kept_rows(handle) == before
        left = handle.inventory(handle.snapshot()).delete_files.num_rows
        assert left == (number == 1)


def test_deletes_that_come_meanwhile_hit_the_outputs(tmp_path: Path) -> None:
    table = streamed(tmp_path)
    handle = ours(tmp_path)
    commit = plan_all(handle)
    likes = {one.partition[0]: one for one in live_files(table)}
    keys = pa.table({"id": [25]})
    commit_deletes(table, write_key_deletes(table, keys, like=likes["a"]))
    before = kept_rows(handle)
    assert handle.commit(commit).conflicts == ()
    assert kept_rows(handle) == before
    assert handle.inventory(handle.snapshot()).delete_files.num_rows == 1
    # And once more: nothing is left to be applied.
    assert handle.commit(plan_all(handle)).conflicts == ()
    assert sorted(map(repr, rows(table))) == before


def test_a_delete_filed_later_under_an_older_number_is_a_conflict(tmp_path: Path) -> None:
    """Its rows are gone from the inputs, and it would not hit the outputs."""
    table = make_table(tmp_path, SCHEMA)
    table.append(rows_of(range(10), "a"))
    table.append(rows_of(range(10, 20), "a"))
    commit = plan_all(ours(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        from catalog.iceberg import row_delta

        made = row_delta.ManifestEntry.from_args
        patch.setattr(
            row_delta.ManifestEntry,
            "from_args",
            lambda **given: made(**{**given, "sequence_number": 2}),
        )
        commit_deletes(table, write_equality_deletes(table, "id", [5]))
    before = kept_rows(ours(tmp_path))
    assert len(before) == 19
    result = ours(tmp_path).commit(commit)
    assert [one.reason[-24:] for one in result.conflicts] == ["equality-deletes.parquet"]
    assert kept_rows(ours(tmp_path)) == before


def test_a_manifest_that_says_it_holds_nothing_old_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyIceberg up to 0.9 gave manifests with files of version 1 the number of their snapshot."""
    told = ManifestWriter.to_manifest_file

    def of_before(self: ManifestWriter) -> ManifestFile:
        found = told(self)
        found.min_sequence_number = found.min_sequence_number or UNASSIGNED_SEQ
        return found

    monkeypatch.setattr(ManifestWriter, "to_manifest_file", of_before)
    table = make_table(tmp_path, SCHEMA, properties={"format-version": "1"})
    with table.transaction() as change, change.update_snapshot().fast_append() as update:
        for some in (rows_of(range(10), "a"), rows_of(range(10, 20), "a")):
            for file in _dataframe_to_data_files(table.metadata, some, table.io):
                update.append_data_file(file)
    with table.transaction() as change:
        change.upgrade_table_version(2)
    gone = live_files(table)[1]
    table.append(rows_of(range(20, 30), "a"))
    table.append(rows_of(range(30, 40), "a"))
    commit_deletes(table, write_key_deletes(table, pa.table({"id": [3, 23]})))
    with table.transaction() as change, change.update_snapshot().overwrite() as update:
        update.delete_data_file(gone)
    handle = ours(tmp_path)
    before, snapshot = kept_rows(handle), handle.snapshot()
    files = handle.inventory(snapshot)
    ages = files.files["sequence_number"].to_pylist()
    young = files.take(np.flatnonzero(np.array(ages)))
    assert sorted(ages) == [0, 1, 2]
    assert handle.commit(make_commit(snapshot, rewrite(handle, snapshot, young))).conflicts == ()
    assert kept_rows(handle) == before
    assert handle.commit(plan_all(handle)).conflicts == ()
    assert kept_rows(handle) == before


def test_positions_that_were_recorded_before_an_upgrade_are_recorded_anew(tmp_path: Path) -> None:
    """Tables of version 3 take no new position delete files, but vectors."""
    table = streamed(tmp_path, parts="a")
    handle = ours(tmp_path)
    before, commit = kept_rows(handle), recorded(handle, tmp_path / "first")
    path = Path(table.refresh().metadata_location.removeprefix("file://"))
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "format-version": 3, "next-row-id": 0})
    )
    result = handle.commit(commit)
    assert [one.reason for one in result.conflicts] == ["the table has deletion vectors by now"]
    assert handle.commit(recorded(handle, tmp_path / "again")).conflicts == ()
    left = handle.inventory(handle.snapshot()).delete_files["path"].to_pylist()
    assert left
    assert all(one.startswith("vector:") for one in left)
    assert kept_rows(handle) == before


def recorded(handle: Table, directory: Path) -> Commit:
    """Write the positions of all rows that deletes drop, as a conversion does."""
    snapshot = handle.snapshot()
    files, inventory = handle.files(snapshot), handle.inventory(snapshot)
    assert isinstance(files, IcebergFiles)
    (key,) = set(inventory.files["partition_key"].to_pylist())
    outputs = files.record_deletes(
        files.selections(inventory),
        lambda number: files.new_location(key, f"{directory.name}-{number}.parquet"),
    )
    added = tuple({one.path: one for one in outputs.values()}.values())
    return make_commit(snapshot, Rewrite("g", inventory, added, 0, records_deletes=True))
