"""`compact merge`: what it shows, what it does, its one document, its exit codes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from tests.compactor.cli.calls import call, call_json
from tests.iceberg_tables import catalog_properties, make_table, rows

SCHEMA = pa.schema([("id", pa.int64()), ("v", pa.string())])


def rows_of(ids: range) -> pa.Table:
    return pa.table([[*ids], [f"old {n}" for n in ids]], schema=SCHEMA)


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "t"
    for start in (0, 10, 20):
        write_deltalake(str(path), rows_of(range(start, start + 10)), mode="append")
    return str(path)


@pytest.fixture
def changes(tmp_path: Path) -> Path:
    directory = tmp_path / "changes"
    directory.mkdir()
    first = pa.table({"id": [3, 100, 4], "v": ["new", "new", None], "op": ["U", "I", "D"]})
    pq.write_table(first, directory / "1.parquet")
    return directory


def contents(table: str) -> dict[int, str]:
    found = pa.table(DeltaTable(table).scan()).to_pylist()
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row["v"] for row in found}


def test_changes_are_shown_then_merged_and_then_there_are_none(table: str, changes: Path) -> None:
    arguments = (table, "--changes", str(changes), "--key", "id", "--op-column", "op")
    before = contents(table)
    shown = call("merge", *arguments, "--dry-run").stdout
    assert "Changes: 2 upserts, 1 delete → 1 inserted, 1 updated, 1 deleted." in shown
    assert "left by bounds of files" in shown
    assert "keep 2 data files" in shown
    assert contents(table) == before
    document = call_json("merge", *arguments, "--dry-run")
    assert (document["updated"], document["kept"]["files"]) == (1, 2)
    assert [stage["name"] for stage in document["search"]] == [
        *("stored", "partitions", "files", "row groups", "filters", "keys")
    ]
    merged = call("merge", *arguments, "--yes")
    assert "Read 2 upserts and 1 delete, 0 superseded: looking for stored rows" in merged.stderr
    assert "Matched: 2 rows to come, 2 to go; 1 of 3 data files" in merged.stderr
    assert "→ 1 inserted, 1 updated, 1 deleted" in merged.stdout
    assert "Proved: 30 rows stored before, 2 gone, 2 new, 30 after" in merged.stdout
    del before[4]
    assert contents(table) == before | {3: "new", 100: "new"}
    again = call("merge", *arguments)
    assert again.stdout.startswith(f"Nothing new: {changes} is merged up to 1.parquet.\n")


def test_the_document_of_a_merge(table: str, changes: Path) -> None:
    arguments = (table, "--changes", str(changes), "--key", "id", "--op-column", "op")
    document = call_json("merge", *arguments, "--verify", "full", "--source", "orders")
    expected = {
        "status": "succeeded",
        "verified": True,
        "conflicts": 0,
        "upserts": 2,
        "deletes": 1,
        "superseded": 0,
        "inserted": 1,
        "updated": 1,
        "deleted": 1,
        "unchanged": 0,
        "rows_before": 30,
        "rows_dropped": 2,
        "rows_added": 2,
        "rows_after": 30,
        "watermarks": {"orders": "1.parquet"},
        "groups": {"committed": 1, "dropped": 0, "failed": 0},
    }
    assert {key: document[key] for key in expected} == expected
    assert document["files_after"] == 3
    again = call_json("merge", *arguments, "--source", "orders")
    assert (again["groups"]["committed"], again["upserts"]) == (0, 0)
    assert again["watermarks"] == {"orders": "1.parquet"}
    assert call_json("jobs", "list")["jobs"][0]["state"] == "succeeded"


def test_separate_deletes_event_time_and_appending(table: str, tmp_path: Path) -> None:
    deletes, appended = tmp_path / "deletes", tmp_path / "appended"
    for place, content in (
        (deletes, {"v": ["old 7", "none"]}),
        (appended, {"id": [1], "v": ["twice"]}),
    ):
        place.mkdir()
        pq.write_table(pa.table(content), place / "1.parquet")
    gone = call_json("merge", table, "--deletes", str(deletes), "--key", "id", "--delete-key", "v")
    assert (gone["deletes"], gone["deleted"]) == (2, 1)
    assert 7 not in contents(table)
    added = call_json("merge", table, "--changes", str(appended), "--mode", "append")
    assert (added["inserted"], added["rows_after"]) == (1, 30)


def test_new_columns_are_added_when_that_is_asked_for(table: str, tmp_path: Path) -> None:
    directory = tmp_path / "wide"
    directory.mkdir()
    pq.write_table(pa.table({"id": [3], "v": ["new"], "more": [1.5]}), directory / "1.parquet")
    arguments = ("merge", table, "--changes", str(directory), "--key", "id")
    refused = call(*arguments, code=1).stderr
    assert "has columns that the table lacks: 'more'" in refused
    assert "hint: They can be added to the table with --evolve." in refused
    assert call_json(*arguments, "--evolve", "--dry-run")["updated"] == 1
    assert "more" not in DeltaTable(table).schema().to_arrow().names
    call(*arguments, "--evolve", "--yes")
    found = pa.table(DeltaTable(table).scan()).to_pylist()
    assert [row["more"] for row in found if row["id"] in (3, 4)] in ([1.5, None], [None, 1.5])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--key", "id"], 2, "there is nothing to merge: give --changes or --deletes"),
        (["--changes", "c"], 2, "no key is given: name its columns with --key"),
        (
            ["--changes", "c", "--key", "id", "--order-by", "v", "--event-time", "v"],
            *(2, "give --order-by or --event-time, not both"),
        ),
        (["--changes", "lake.no.such", "--key", "id"], 10, "lake"),
        (["--changes", "CHANGES", "--key", "no"], 1, "the table has no column 'no' to be a key"),
        (["--changes", "CHANGES", "--key", "id"], 1, "has columns that the table lacks: 'op'"),
    ],
)
def test_what_cannot_be_is_said(
    table: str, changes: Path, arguments: list[str], code: int, said: str
) -> None:
    before = contents(table)
    given = [str(changes) if one == "CHANGES" else one for one in arguments]
    assert said in call("merge", table, *given, code=code).stderr
    assert contents(table) == before


def test_an_iceberg_table_takes_new_rows_of_another_table(
    tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in catalog_properties(tmp_path).items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__LAKE__{key.upper()}", value)
    peer = make_table(tmp_path, SCHEMA)
    arguments = ("merge", "lake.ns.t", "--changes", table, "--key", "id", "--verify", "full")
    assert call_json(*arguments)["inserted"] == 30
    write_deltalake(table, pa.table([[3, 50], ["new", "new"]], schema=SCHEMA), mode="append")
    second = call_json(*arguments)
    assert (second["inserted"], second["updated"], second["verified"]) == (1, 1, True)
    found = {row["id"]: row["v"] for row in rows(peer)}
    assert (len(found), found[3], found[50]) == (31, "new", "new")


def test_filters_of_keys_spare_files_that_bounds_leave(tmp_path: Path, table: str) -> None:
    for name, ids in (("1", [0, 29]), ("2", [3])):
        directory = tmp_path / f"changes {name}"
        directory.mkdir()
        rows = pa.table([ids, ["new"] * len(ids)], schema=SCHEMA)
        pq.write_table(rows, directory / "1.parquet")
    write_deltalake(table, pa.table([[-5, 90], ["wide", "wide"]], schema=SCHEMA), mode="append")
    arguments = ("merge", table, "--key", "id", "--key-filter", "--changes")
    call_json(*arguments, str(tmp_path / "changes 1"))
    document = call_json(*arguments, str(tmp_path / "changes 2"))
    files = {stage["name"]: stage["files"] for stage in document["search"]}
    assert document["updated"] == 1
    assert files["key filters"] < files["files"]
    assert contents(table)[3] == "new"
