"""Changes merged into Hudi tables leave what a dictionary holds, and meta columns that are true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import CorruptTableError, LockLostError, UnsupportedTableError
from catalog.hudi import commit as committing
from catalog.hudi.archiver import Archive
from catalog.hudi.file_names import read_name
from catalog.hudi.metadata_table.reading import slice_versions
from catalog.hudi.metadata_table.record_reader import decode_place
from catalog.hudi.metadata_table.table import RECORD_INDEX, open_metadata_table
from catalog.hudi.metadata_table.view import read_view
from catalog.hudi.reading import read_details
from catalog.hudi.simple_writer import NewTable, SimpleWriter
from catalog.hudi.table import HudiTable
from catalog.hudi.timeline import Action
from catalog.location import Location
from catalog.upkeep import UpkeepOrder
from compactor.errors import ChangesRefusedError
from compactor.jobs.merge_changes import MergeRequest
from compactor.jobs.state import JobState
from compactor.merge.rules import MergeRules
from tests.catalog.hudi.compacting import compact
from tests.compactor.jobs.hudi_merges import (
    BY_ID,
    KINDS,
    Merges,
    bring_to,
    merge_in,
    source_of,
    stored,
)
from tests.judges.make_hudi_fixtures import unpack


def metadata_is_true(table: HudiTable, before: Sequence[dict[str, Any]], time: str) -> None:
    """Rows that came in are of the last instant; the others are as they were."""
    known = {(row["id"], row["part"], row["text"]): row for row in before}
    rows = stored(table)
    for row in rows:
        assert row["_hoodie_record_key"] == str(row["id"])
        assert row["_hoodie_partition_path"] == row["at"] == row["part"]
        if row["_hoodie_commit_time"] == time:
            assert row["_hoodie_file_name"] == row["in"]
            continue
        was = known[row["id"], row["part"], row["text"]]
        for name in ("_hoodie_commit_time", "_hoodie_commit_seqno"):
            assert row[name] == was[name]
    numbers = [row["_hoodie_commit_seqno"] for row in rows if row["_hoodie_commit_time"] == time]
    assert len(set(numbers)) == len(numbers)


def test_upserts_moves_inserts_and_deletes(merges: Merges) -> None:
    lake = merges.lake
    paths = [lake.append(range(10), "a"), lake.append(range(10, 20), "b")]
    lake.append(range(20, 30), "a")
    if lake.table.config().is_merge_on_read:
        lake.update(paths[0], [3, 4, 40], "logged")
        lake.delete({paths[1]: [2]})
    before, rows = stored(lake.table), lake.rows()
    groups = {read_name(row["in"]).file_id for row in before}
    report = merges.merge(
        (3, "a", "new", "U"),
        (12, "b", "back", "U"),
        (21, "b", "moved", "U"),
        (100, "c", "new", "I"),
        (5, "a", "", "D"),
        (40, "a", "", "D"),
        (999, "a", "", "D"),
    )
    assert (report.status, report.verified, report.problems) == (JobState.SUCCEEDED, True, ())
    model = {row[0]: row for row in rows if row[0] not in (5, 40)}
    model |= {3: (3, "a", "new"), 12: (12, "b", "back"), 21: (21, "b", "moved")}
    model |= {100: (100, "c", "new")}
    assert lake.rows() == sorted(model.values())
    last = lake.table.source().timeline.latest
    assert last is not None
    assert not lake.table.source().timeline.pending()
    metadata_is_true(lake.table, before, last.time)
    after = {read_name(row["in"]).file_id for row in stored(lake.table)}
    # What is new in a partition of which no file is touched has a file group of its own.
    assert (groups <= after, len(after - groups)) == (
        True,
        1 + lake.table.config().is_merge_on_read,
    )
    details = read_details(lake.table.source(), last)
    assert details.operation == "UPSERT"
    assert (lake.root.child("c", ".hoodie_partition_metadata")).path in map(
        str, Path(lake.root.path).rglob(".hoodie_partition_metadata")
    )
    assert not list(Path(lake.root.path, ".hoodie").rglob("*.marker.*"))
    again = merges.merge()
    assert (again.rows_added, lake.rows()) == (0, sorted(model.values()))


def test_a_file_group_may_lose_all_rows_and_get_new_ones(merges: Merges) -> None:
    lake = merges.lake
    lake.append(range(3), "a")
    for change, ids in (("D", []), ("U", [0, 1, 2, 3])):
        merges.merge(*((one, "a", "x", change) for one in range(3 + (change == "U"))))
        assert [row[0] for row in lake.rows()] == ids


def test_changes_come_into_a_table_without_rows(newest: Merges) -> None:
    path = Path(newest.lake.root.path, ".hoodie", "hoodie.properties")
    made = newest.lake.writer._made
    path.write_text(f"{path.read_text()}hoodie.table.create.schema={made.avro}\n")
    newest.merge((1, "a", "x", "U"), (2, "b", "y", "U"))
    assert newest.lake.rows() == [(1, "a", "x"), (2, "b", "y")]
    metadata_is_true(newest.lake.table, (), max(newest.lake.table.source().timeline.written))


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "log", "merge", "merge", "compact"]),
        st.lists(
            st.tuples(st.integers(0, 30), st.sampled_from("ab"), st.sampled_from("UUD")),
            min_size=1,
            max_size=6,
            unique_by=lambda one: one[0],
        ),
    ),
    min_size=2,
    max_size=5,
)


@given(kind=st.sampled_from(KINDS), operations=OPERATIONS)
@settings(max_examples=4, deadline=None)
def test_histories_leave_what_a_dictionary_holds(
    kind: tuple[int, bool], operations: list[tuple[str, list[tuple[int, str, str]]]]
) -> None:
    holds(kind, operations)


@pytest.mark.slow
@given(kind=st.sampled_from(KINDS), operations=OPERATIONS)
@settings(max_examples=60, deadline=None)
def test_many_histories_leave_what_a_dictionary_holds(
    kind: tuple[int, bool], operations: list[tuple[str, list[tuple[int, str, str]]]]
) -> None:
    holds(kind, operations)


def holds(kind: tuple[int, bool], operations: list[tuple[str, list[tuple[int, str, str]]]]) -> None:
    with TemporaryDirectory() as made:
        history = History(Merges(Path(made), kind[0], merges_on_read=kind[1]))
        for number, (operation, rows) in enumerate(operations):
            getattr(history, operation)(number, rows)
            assert history.merges.lake.rows() == sorted(history.model.values())


class History:
    """What happens to a table, and what it must hold."""

    def __init__(self, merges: Merges) -> None:
        self.merges, self.lake = merges, merges.lake
        self.model: dict[int, tuple[int, str, str]] = {}
        self.append(9, [(one, "ab"[one % 2], "") for one in range(6)])

    def append(self, number: int, rows: Sequence[tuple[int, str, str]]) -> None:
        """Another writer adds rows that were never there."""
        ids = [100 * (number + 1) + one for one, part, _ in rows if part == "a"]
        if ids:
            self.lake.append(ids, "a")
            self.model |= {row[0]: row for row in self.lake.rows() if row[0] in ids}

    def log(self, number: int, rows: Sequence[tuple[int, str, str]]) -> None:
        """Another writer updates and deletes rows of one slice by its logs."""
        table = self.lake.table
        files = list(table.inventory(table.snapshot()).slices())
        file = files[rows[0][0] % len(files)]
        if not (table.config().is_merge_on_read and file.row_count):
            return
        own = [one["id"] for one in stored(table) if one["in"] == file.path.rpartition("/")[2]]
        if own:
            key = own[rows[0][0] % len(own)]
            self.lake.update(file.path, [key], f"log {number}")
            self.model[key] = (key, file.partition_key, f"log {number}")

    def merge(self, number: int, rows: Sequence[tuple[int, str, str]]) -> None:
        """We merge changes."""
        before = stored(self.lake.table)
        report = self.merges.merge(*((one, part, f"{number}", op) for one, part, op in rows))
        assert report.status is JobState.SUCCEEDED, report
        for one, part, operation in rows:
            self.model.pop(one, None)
            if operation == "U":
                self.model[one] = (one, part, f"{number}")
        metadata_is_true(self.lake.table, before, max(self.lake.table.source().timeline.written))

    def compact(self, number: int, rows: Sequence[tuple[int, str, str]]) -> None:
        """We compact."""
        del number, rows
        compact(self.lake.table, self.merges.directory)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("v8_mor_record_index", marks=pytest.mark.slow),
        pytest.param("v6_cow", marks=pytest.mark.slow),
        pytest.param("v9_cow_record_index_scattered", marks=pytest.mark.slow),
        pytest.param("v9_mor", marks=pytest.mark.slow),
        pytest.param("v9_mor_partitioned_record_index", marks=pytest.mark.slow),
    ],
)
def test_what_spark_made_is_merged_into(name: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    table = HudiTable(str(path), Location.parse(str(path)), {})
    before = pq.read_table(path.parent / "snapshot.parquet").to_pylist()
    rows = [
        {"id": "a1", "ts": 50, "part": "p1", "amount": 0.5, "op": "U"},
        {"id": "b1", "ts": 50, "part": "p3", "amount": 1.5, "op": "U"},
        {"id": "n1", "ts": 50, "part": "p1", "amount": 2.5, "op": "U"},
        {"id": "a3", "ts": 50, "part": "p1", "amount": 2.5, "op": "D"},
    ]
    bring_to(tmp_path, *rows)
    report = merge_in(tmp_path, table, MergeRequest(BY_ID, source_of(tmp_path)))
    assert report.status is JobState.SUCCEEDED, report
    model = {row["id"]: (row["ts"], row["part"], row["amount"]) for row in before}
    del model["a3"]
    model |= {row["id"]: (row["ts"], row["part"], row["amount"]) for row in rows[:3]}
    found = {row["id"]: (row["ts"], row["part"], row["amount"]) for row in stored(table)}
    assert found == model


@pytest.mark.parametrize(
    "name",
    [
        "v8_mor_record_index",
        pytest.param("v9_cow_record_index_scattered", marks=pytest.mark.slow),
    ],
)
def test_the_record_index_knows_where_every_row_is(name: str, tmp_path: Path) -> None:
    """A key that a log has deleted and that came again elsewhere stays there."""
    path = unpack(name, tmp_path)
    table = HudiTable(str(path), Location.parse(str(path)), {})
    gone = {"id": "a4", "ts": 50, "part": "p3", "amount": 0.5, "op": "U"}
    moved = {"id": "b1", "ts": 50, "part": "p1", "amount": 0.5, "op": "U"}
    for rows in ([gone], [{"id": "a1", "amount": 1.5, "op": "U"}, moved], [{**gone, "op": "D"}]):
        bring_to(tmp_path, *rows)
        report = merge_in(tmp_path, table, MergeRequest(BY_ID, source_of(tmp_path)))
        assert report.status is JobState.SUCCEEDED
        assert places(table) == {
            row["id"]: (row["part"], read_name(row["in"]).file_id) for row in stored(table)
        }


def places(table: HudiTable) -> dict[str, tuple[str, str]]:
    """Return where the record index says that rows are."""
    source = table.source()
    metadata = open_metadata_table(table.storage, table.root, source.config)
    assert metadata is not None
    view, found = read_view(metadata, source.timeline), {}
    for one in view.slices(RECORD_INDEX):
        for key, versions in slice_versions(view, one):
            last = versions[-1]
            place = None if last.record is None else decode_place(last.record, last.schema)
            if place is not None:
                found[key.decode()] = place.partition, place.file_id
    return found


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("v9_mor_cdc", "hoodie.table.cdc.enabled"),
        ("v9_mor_secondary_index", "secondary_index"),
        ("v9_mor_timestamp_keys", "the key generator TIMESTAMP"),
    ],
)
def test_what_a_change_cannot_keep_is_refused_and_not_touched(
    name: str, reason: str, tmp_path: Path
) -> None:
    path = unpack(name, tmp_path)
    table = HudiTable(str(path), Location.parse(str(path)), {})
    bring_to(tmp_path, {"id": "a1", "op": "U"})
    before = sorted(path.rglob("*"))
    with pytest.raises(UnsupportedTableError, match=reason):
        merge_in(tmp_path, table, MergeRequest(BY_ID, source_of(tmp_path)))
    assert sorted(path.rglob("*")) == before


def test_a_row_that_means_a_delete_to_hudi_is_refused(tmp_path: Path) -> None:
    path = unpack("v9_mor_soft_deletes", tmp_path)
    table = HudiTable(str(path), Location.parse(str(path)), {})
    key = stored(table)[0]["id"]
    bring_to(tmp_path, {"id": key, "_hoodie_is_deleted": True})
    rules = MergeRules(("id",))
    with pytest.raises(UnsupportedTableError, match="means a delete to Hudi"):
        merge_in(tmp_path, table, MergeRequest(rules, source_of(tmp_path)))
    rules = MergeRules(("id",), op_column="_hoodie_is_deleted")
    report = merge_in(tmp_path, table, MergeRequest(rules, source_of(tmp_path)))
    assert report.change is not None
    assert report.change.counts.deleted == 1
    assert key not in {one["id"] for one in stored(table)}


@pytest.mark.parametrize("part", ["a\nb", "ü" * 128, "p=1"])
def test_partitions_that_cannot_be_are_refused_and_stop_nothing(part: str, newest: Merges) -> None:
    newest.lake.append(range(3), "a")
    newest.bring((1, part, "x", "U"))
    with pytest.raises(UnsupportedTableError, match="no path of a partition"):
        newest.merge()
    next((newest.directory / "changes").iterdir()).unlink()
    assert newest.merge((1, "a", "x", "U")).status is JobState.SUCCEEDED


def test_the_name_of_the_partition_of_null_is_no_value(newest: Merges) -> None:
    """A row of null with the same record key would be in the same partition."""
    newest.lake.append([1], "a")
    before = newest.lake.rows()
    with pytest.raises(UnsupportedTableError, match="that of null"):
        newest.merge((7, "__HIVE_DEFAULT_PARTITION__", "x", "U"))
    assert newest.lake.rows() == before


def test_an_empty_value_of_a_required_partition_column_is_refused(tmp_path: Path) -> None:
    """Spark reads a null from the path, and fails."""
    columns = pa.schema([("id", pa.string()), pa.field("part", pa.string(), nullable=False)])
    made = NewTable("t", columns, key="id", partition="part")
    writer = SimpleWriter.create(Location.parse(str(tmp_path / "table")), made)
    writer.insert(pa.table([["a"], ["p"]], columns))
    bring_to(tmp_path, {"id": "a", "part": "", "op": "U"})
    with pytest.raises(UnsupportedTableError, match="has an empty part"):
        merge_in(tmp_path, writer.table, MergeRequest(BY_ID, source_of(tmp_path)))


def test_a_row_that_has_no_ordering_value_is_refused(tmp_path: Path) -> None:
    """Nobody can compare a later record of its key with it."""
    columns = pa.schema([("id", pa.string()), ("ts", pa.int64())])
    made = NewTable("t", columns, key="id", ordering="ts")
    writer = SimpleWriter.create(Location.parse(str(tmp_path / "table")), made)
    writer.insert(pa.table([["a"], [1]], columns))
    bring_to(tmp_path, {"id": "a", "op": "U"}, {"id": "b", "op": "U"})
    with pytest.raises(UnsupportedTableError, match="comes in has no ts"):
        merge_in(tmp_path, writer.table, MergeRequest(BY_ID, source_of(tmp_path)))
    assert not writer.table.source().timeline.pending()


def test_watermarks_outlive_the_writes_of_others_and_the_archive(newest: Merges) -> None:
    lake = newest.lake
    lake.append(range(5), "a")
    newest.merge((3, "a", "new", "U"))
    for number in range(3):
        lake.append([10 + number], "a")
    name = newest.request.sources[0].name
    assert lake.table.watermark(name) == "0000.parquet"
    assert lake.table.watermark("another") is None


def test_who_has_lost_the_lock_leaves_the_note_of_merges_alone(
    newest: Merges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has it now may have merged: the note is what tells of that once it is archived."""
    newest.lake.append(range(5), "a")
    newest.merge((3, "a", "new", "U"))
    note = Path(newest.lake.root.path, ".hoodie", ".compactor", "merges.json")
    before = note.read_bytes()
    write_metadata = committing._write_metadata

    def lost() -> None:
        raise LockLostError("the lock is lost")

    def written(present: Any, *arguments: Any, **options: Any) -> None:
        write_metadata(present, *arguments, **options)
        monkeypatch.setattr(type(present.lock), "require", lambda _: lost())

    monkeypatch.setattr(committing, "_write_metadata", written)
    with pytest.raises(LockLostError):
        newest.merge((4, "a", "new", "U"))
    assert note.read_bytes() == before


def test_where_others_have_archived_it_the_watermark_is_found_by_its_note(newest: Merges) -> None:
    lake = newest.lake
    lake.append(range(5), "a")
    newest.merge((3, "a", "new", "U"))
    name, told = newest.request.sources[0].name, []
    source = lake.table.source()
    times = [one.time for one in source.timeline.completed(Action.DELTACOMMIT)]
    for number in range(3):
        lake.append([10 + number], "a")
    note = Path(lake.root.path, ".hoodie", ".compactor", "merges.json")
    assert note.read_text() == f'["{times[-1]}"]'
    newest.merge((4, "a", "new", "U"))
    assert lake.table.watermark(name) == "0001.parquet"
    told = [one.time for one in lake.table.source().timeline.completed(Action.DELTACOMMIT)]
    assert note.read_text() == f'["{times[-1]}","{told[-1]}"]'
    lake.append([20], "a")
    lake.expire()
    # Neither active nor archived: nobody can tell.
    with pytest.raises(CorruptTableError, match="cannot be told how far"):
        lake.table.watermark(name)


@pytest.mark.parametrize("version", [9, pytest.param(6, marks=pytest.mark.slow)])
def test_watermarks_are_read_from_the_archive(version: int, tmp_path: Path) -> None:
    merges = Merges(tmp_path, version, merges_on_read=False)
    path = Path(merges.lake.root.path, ".hoodie", "hoodie.properties")
    kept = "hoodie.keep.min.commits=3\nhoodie.keep.max.commits=4\nhoodie.clean.commits.retained=1\n"
    path.write_text(path.read_text() + kept)
    merges.lake.append(range(5), "a")
    merges.merge((3, "a", "new", "U"))
    merged = merges.lake.table.source().timeline.latest
    for number in range(6):
        merges.lake.append([10 + number], "a")
    Archive(merges.lake.table).run(UpkeepOrder())
    timeline = merges.lake.table.source().timeline
    assert merged is not None
    assert timeline.find(merged.time) is None
    name = merges.request.sources[0].name
    assert merges.lake.table.watermark(name) == "0000.parquet"
    merges.merge((4, "a", "new", "U"))
    assert {row[0]: row[2] for row in merges.lake.rows() if row[2] == "new"} == {3: "new", 4: "new"}


@pytest.mark.parametrize("name", ["v9_mor_bucket_index", "v9_mor_consistent_bucket_index"])
def test_rows_of_known_keys_alone_come_into_buckets(name: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    table = HudiTable(str(path), Location.parse(str(path)), {})
    groups = {row["id"]: read_name(row["in"]).file_id for row in stored(table)}
    bring_to(tmp_path, {"id": "a1", "amount": 0.5, "op": "U"}, {"id": "a3", "op": "D"})
    report = merge_in(tmp_path, table, MergeRequest(BY_ID, source_of(tmp_path)))
    assert report.status is JobState.SUCCEEDED
    found = {row["id"]: read_name(row["in"]).file_id for row in stored(table)}
    assert found == {key: one for key, one in groups.items() if key != "a3"}
    bring_to(tmp_path, {"id": "a0", "ts": 1, "part": "p1", "amount": 0.5, "op": "U"})
    with pytest.raises(UnsupportedTableError, match="index by buckets"):
        merge_in(tmp_path, table, MergeRequest(BY_ID, source_of(tmp_path)))


def test_new_partitions_are_refused_where_each_has_a_record_index(tmp_path: Path) -> None:
    path = unpack("v9_mor_partitioned_record_index", tmp_path)
    table = HudiTable(str(path), Location.parse(str(path)), {})
    bring_to(tmp_path, {"id": "a0", "ts": 1, "part": "p9", "amount": 0.5, "op": "U"})
    with pytest.raises(UnsupportedTableError, match="the new partition 'p9'"):
        merge_in(tmp_path, table, MergeRequest(BY_ID, source_of(tmp_path)))
    assert not table.source().timeline.pending()


def test_columns_are_not_added(newest: Merges) -> None:
    newest.lake.append(range(3), "a")
    bring_to(newest.directory, {"id": 1, "more": 1, "op": "U"})
    with pytest.raises(ChangesRefusedError, match="columns cannot be added"):
        newest.merge(request=replace(newest.request, evolves=True))
