"""Tables of format version 3 between us and the reference implementation: rows, ids and vectors."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.acceptance.program import compact
from tests.acceptance.spark_house import LINEAGE, House
from tests.catalog.conformance import fill as fill_lake
from tests.catalog.iceberg.version3 import Version3Lake
from tests.iceberg_tables import write_key_deletes
from tests.judges.engines import READERS

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]


def fill(house: House, name: str) -> None:
    """Make a table with many small files, deletion vectors and updated rows."""
    house.create(name, "id bigint, part string, text string", "partitioned by (part)")
    for number in range(4):
        for at, part in enumerate("ab"):
            house.insert(name, (number * 2 + at) * 10, 10, part)
    house.spark.run(f"delete from rest.ns.{name} where id in (3, 13, 14, 61)")
    house.spark.run(f"update rest.ns.{name} set text = 'new' where id in (5, 16, 62)")
    house.spark.run(f"delete from rest.ns.{name} where id = 4")


def test_rows_keep_their_ids_and_spark_goes_on(house: House) -> None:
    fill(house, "t")
    before, snapshot = house.rows("t"), house.table("t").metadata.current_snapshot_id
    report = house.run("run", "t", "--verify", "full", "--min-input-files", "2", "--yes")
    assert (report["status"], report["verified"], report["rows_dropped"]) == ("succeeded", True, 8)
    assert house.rows("t") == before
    assert house.rows("t", at=snapshot) == before
    assert [one.data_file.content.name for one in house.entries("t")] == ["DATA", "DATA"]
    house.spark.run("update rest.ns.t set text = 'newer' where id in (6, 17)")
    house.spark.run("delete from rest.ns.t where id in (7, 62)")
    house.spark.run(
        "merge into rest.ns.t using (select 8L as id, 'a' as part, 'merged' as text union all"
        " select 1000L, 'b', 'came') as s on rest.ns.t.id = s.id"
        " when matched then update set text = s.text when not matched then insert *"
    )
    after = house.rows("t")
    ids = {row["id"]: row["_row_id"] for row in before}
    assert all(ids[row["id"]] == row["_row_id"] for row in after if row["id"] in ids)
    assert len({row["_row_id"] for row in after}) == len(after) == len(before) - 1
    house.spark.run("call rest.system.rewrite_position_delete_files(table => 'ns.t')")
    house.spark.run(
        "call rest.system.rewrite_data_files(table => 'ns.t', options => map('rewrite-all','true'))"
    )
    assert house.rows("t") == after
    assert house.run("plan", "t", "--min-input-files", "2", "--check")["groups"] == []


def test_row_groups_are_copied_and_their_rows_keep_their_ids(house: House) -> None:
    house.create("big", "id bigint, text string")
    for first in (0, 80_000):
        house.insert_texts("big", first, 80_000)
    # Ids that follow from the file, and such as are stored.
    house.spark.run("delete from rest.ns.big where id = 100000")
    columns = f"id, hash(text) as text, {LINEAGE}"
    before = house.rows("big", columns)
    report = house.run("run", "big", "--min-input-files", "2", "--yes")
    assert report["splice"]["row_groups"] + report["splice"]["row_groups_patched"] > 0
    assert (report["files_after"], report["rows_dropped"]) == (1, 1)
    assert house.rows("big", columns) == before
    house.insert_texts("big", 200_000, 80_000)
    before = house.rows("big", columns)
    report = house.run("run", "big", "--min-input-files", "2", "--verify", "full", "--yes")
    assert report["bytes_spliced"] > report["bytes_written"] / 2
    assert house.rows("big", columns) == before


def test_changes_are_marked_in_vectors_and_spark_reads_them(house: House) -> None:
    fill(house, "m")
    texts = {row["id"]: row["text"] for row in house.rows("m")}
    for number, mode in enumerate(("merge-on-read", "merge-on-read", "copy-on-write")):
        ids = {row["id"]: row["_row_id"] for row in house.rows("m")}
        changed = [10 + number, 20 + number, 500 + number]
        _write_changes(house.scratch / f"changes-{number}", changed, gone=[30 + number], part="b")
        house.run(
            "merge", "m", "--changes", f"file://{house.scratch}/changes-{number}", "--key", "id",
            "--op-column", "op", "--write-mode", mode, "--yes",
        )  # fmt: skip
        texts |= dict.fromkeys(changed, "merged")
        texts.pop(30 + number, None)
        rows = house.rows("m")
        assert {row["id"]: row["text"] for row in rows} == texts
        assert len({row["_row_id"] for row in rows}) == len(rows) == len(texts)
        assert all(ids[row["id"]] == row["_row_id"] for row in rows if row["id"] in ids)
        head = house.table("m").metadata.current_snapshot()
        new = {row["_last_updated_sequence_number"] for row in rows if row["id"] in changed}
        assert head is not None
        assert new == {head.sequence_number}
        deletes = [one.data_file for one in house.entries("m") if one.data_file.content.value]
        assert {one.file_format.name for one in deletes} == {"PUFFIN"}
        targets = [one.referenced_data_file for one in deletes]
        assert len(set(targets)) == len(targets)


def test_upkeep_leaves_what_is_needed(house: House) -> None:
    fill(house, "u")
    before = house.rows("u")
    vectors = _puffins(house, "u")
    live = {Path(_local(one.path)) for one in house.entries("u")}
    assert vectors > {path for path in live if path.suffix == ".puffin"} != set()
    for only in ("cluster-manifests", "expire-snapshots", "orphan-files"):
        house.run(
            "upkeep", "u", "--only", only, "--retention", "0s", "--keep-last", "1", "--force"
        )  # fmt: skip
        assert house.rows("u") == before
    left = _puffins(house, "u")
    assert left == {path for path in live if path.suffix == ".puffin"}
    house.spark.run("call rest.system.rewrite_manifests(table => 'ns.u')")
    assert house.rows("u") == before
    house.run("run", "u", "--min-input-files", "2", "--yes")
    house.run("upkeep", "u", "--retention", "0s", "--keep-last", "1", "--force")
    assert house.rows("u") == before
    assert _puffins(house, "u") == set()


def test_a_table_of_version_2_that_was_upgraded(house: House) -> None:
    house.create("up", "id bigint, part string, text string", "partitioned by (part)", version=2)
    for number in range(3):
        house.insert("up", number * 10, 10)
    house.insert("up", 100, 10, "b")
    house.spark.run("delete from rest.ns.up where id in (1, 2, 12)")
    house.spark.run("alter table rest.ns.up set tblproperties ('format-version'='3')")
    before = house.rows("up", "*")
    report = house.run("run", "up", "--min-input-files", "2", "--yes")
    assert (report["files_before"], report["files_after"], report["rows_dropped"]) == (4, 2, 3)
    assert house.rows("up", "*") == before
    given = house.rows("up")
    assert len({row["_row_id"] for row in given} - {None}) == len(given) == 37
    house.spark.run("delete from rest.ns.up where id in (3, 104)")
    house.insert("up", 200, 10)
    before = house.rows("up")
    house.run("run", "up", "--min-input-files", "2", "--delete-ratio", "0", "--yes")
    assert house.rows("up") == before
    assert {row["id"]: row for row in given if row["id"] not in (3, 104)}.items() <= {
        row["id"]: row for row in before
    }.items()


def test_equality_deletes_become_vectors(house: House, tmp_path: Path) -> None:
    """Written by hand, for Spark writes none; it reads them before and after."""
    lake = Version3Lake(tmp_path)
    files = fill_lake(lake, parts="ab", files=3)
    lake.delete({files["a"][0]: [1, 2], files["b"][1]: [3]})
    for part, ids in (("a", [0, 5, 21, 22]), ("b", [10, 34])):
        (like,) = (one for one in lake.data_files() if one.file_path == files[part][0])
        lake.commit(
            [lake.as_own(write_key_deletes(lake.other, pa.table({"id": ids}), like=like))], []
        )
    before = house.adopted("eq1", lake)
    assert len(before) == 51
    report = compact(tmp_path, "run", "lake.ns.t", "--strategy", "convert-deletes", "--yes")
    assert (report["rows_marked"], report["files_after"]) == (9, 6)
    assert house.adopted("eq2", lake) == before
    deletes = [one.data_file for one in house.entries("eq2") if one.data_file.content.value]
    assert {one.file_format.name for one in deletes} == {"PUFFIN"}
    compact(tmp_path, "run", "lake.ns.t", "--min-input-files", "2", "--yes")
    assert house.adopted("eq3", lake) == before


def test_duckdb_reads_the_same_rows(house: House, tmp_path: Path) -> None:
    fill(house, "d")
    before = house.table("d")
    expected = sorted(row["id"] for row in house.rows("d"))
    house.run("run", "d", "--min-input-files", "2", "--yes")
    for table in (before, house.table("d")):
        head = table.metadata.current_snapshot_id
        assert head is not None
        rows = READERS["duckdb"](table.metadata_location, head, tmp_path)
        assert sorted(rows["id"].to_pylist()) == expected


def _write_changes(directory: Path, changed: list[int], gone: list[int], part: str) -> None:
    directory.mkdir()
    rows = [{"id": one, "part": part, "text": "merged", "op": "U"} for one in changed]
    rows += [{"id": one, "part": part, "text": None, "op": "D"} for one in gone]
    pq.write_table(pa.Table.from_pylist(rows), directory / "changes.parquet")


def _local(path: str) -> str:
    return path.removeprefix("file://").removeprefix("file:")


def _puffins(house: House, name: str) -> set[Path]:
    """Return the Puffin files below the table, whether anything refers to them or not."""
    return set(Path(_local(house.table(name).location())).rglob("*.puffin"))
