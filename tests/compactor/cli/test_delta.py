"""Commands on Delta tables, which are named by paths and URIs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from tests.catalog.storage.s3_server import new_bucket, s3_server
from tests.compactor.cli.calls import call, call_json

FILES = 4
FEW = ("--min-input-files", "2")


@pytest.fixture
def orders(own_place: Path) -> Path:
    """A table of small files in the working directory."""
    path = own_place / "orders"
    fill(str(path))
    return path


def fill(target: str, options: dict[str, str] | None = None) -> None:
    for number in range(FILES):
        ids = pa.array(range(number * 10, number * 10 + 10), pa.int64())
        rows = pa.table({"id": ids, "part": pa.repeat(f"p {number % 2}", 10)})
        write_deltalake(target, rows, mode="append", partition_by=["part"], storage_options=options)


def ids(path: Path) -> list[int]:
    found: list[int] = pa.table(DeltaTable(str(path)).scan())["id"].to_pylist()
    return sorted(found)


@pytest.mark.parametrize(
    "spelled",
    [
        lambda path: "./orders",
        lambda path: "orders",
        lambda path: f"{path}/",
        lambda path: f"file://{path}",
        lambda path: "delta:orders",
        lambda path: f"delta:{path}",
    ],
)
def test_a_table_is_compacted_however_it_is_named(
    orders: Path, spelled: Callable[[Path], str]
) -> None:
    target = spelled(orders)
    call_json("plan", target, *FEW, "--check", code=4)
    report = call_json("run", target, "--yes", *FEW)
    assert (report["status"], report["files_after"], report["verified"]) == ("succeeded", 2, True)
    sides = "--from", report["snapshot_before"], "--to", report["snapshot_after"]
    assert call_json("verify", target, *sides)["equal"]
    assert call_json("plan", target, *FEW, "--check")["groups"] == []
    assert ids(orders) == list(range(FILES * 10))


def test_tables_of_both_formats_are_shown_together(orders: Path, demo_catalog: object) -> None:
    shown = call_json("tables", "demo.web.*", "./orders", *FEW)["tables"]
    formats = {one["table"]: one["format"] for one in shown}
    assert formats == {"demo.web.clicks": "iceberg v2", "./orders": "delta v1/2"}
    assert "./orders" in call("tables", "./orders").stdout


def test_a_saved_plan_is_applied_once(orders: Path, own_place: Path) -> None:
    file = str(own_place / "orders.plan")
    call("plan", "orders", *FEW, "--partition", "part=p 0", "--out", file)
    assert call_json("apply", file)["groups"] == {"committed": 1, "dropped": 0, "failed": 0}
    assert call_json("apply", file, code=11)["error"]["code"] == "plan-stale"
    assert ids(orders) == list(range(FILES * 10))


def test_a_job_is_known_by_the_place_of_its_table(
    orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = call_json("run", "./orders", "--yes", *FEW)
    assert report["table"] == str(orders)
    monkeypatch.chdir(orders.parent.parent)
    (job,) = call_json("jobs", "list", "--table", str(orders))["jobs"]
    assert job["job"] == report["job"]


def test_the_doctor_looks_at_the_table(orders: Path) -> None:
    checks = {one["check"]: one for one in call_json("doctor", "orders")["checks"]}
    assert "delta v1/2" in checks["table"]["detail"]
    assert "4 data files" in checks["inventory"]["detail"]
    assert "takes conditional writes" in checks["storage"]["detail"]
    assert checks["table clock"]["grade"] == "ok"


def test_upkeep_writes_a_checkpoint_and_removes_what_is_old(orders: Path) -> None:
    report = call_json("run", "orders", "--yes", *FEW)
    assert report["groups"]["committed"] == 2
    answer = call_json("upkeep", "orders", "--retention", "0h", "--force")
    assert answer
    assert ids(orders) == list(range(FILES * 10))


def test_tables_that_are_none_are_refused(own_place: Path, orders: Path) -> None:
    (own_place / "empty").mkdir()
    assert call_json("plan", "./empty", code=10)["error"]["code"] == "table-not-found"
    assert call_json("plan", "delta:./none", code=10)["error"]["code"] == "table-not-found"
    (orders / "_delta_log" / f"{1:020}.json").write_text("no json\n")
    broken = call_json("plan", "orders", code=1)["error"]
    assert broken["code"] == "corrupt-table"
    assert f"{1:020}.json" in broken["message"]


def test_a_damaged_file_leaves_the_rest_compacted(orders: Path) -> None:
    victim = min(orders.rglob("part=p%200/*.parquet"))
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2])
    result = call("run", "orders", "--yes", *FEW, code=3)
    assert "1 group committed · 1 failed" in result.stdout
    assert victim.name in result.stderr
    victim.write_bytes(content)
    assert ids(orders) == list(range(FILES * 10))


def test_a_log_with_a_gap_is_refused(orders: Path) -> None:
    (orders / "_delta_log" / f"{2:020}.json").unlink()
    assert call_json("run", "orders", "--yes", code=1)["error"]["code"] == "corrupt-table"


def test_a_table_whose_commits_belong_to_a_catalog_is_refused(orders: Path) -> None:
    log = orders / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "protocol" in action:
            action["protocol"] = {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": ["catalogManaged"],
                "writerFeatures": ["catalogManaged"],
            }
    log.write_text("\n".join(map(json.dumps, actions)) + "\n")
    error = call_json("run", "orders", "--yes", code=1)["error"]
    assert error["code"] == "unsupported-table"
    assert "catalogManaged" in error["message"]


def test_files_of_another_codec_are_copied_where_the_table_asks_for_none(own_place: Path) -> None:
    for number in range(2):
        ids = pa.array(range(number * 1000, number * 1000 + 1000), pa.int64())
        write_deltalake("zstd", pa.table({"id": ids}), mode="append")
    for path in own_place.glob("zstd/*.parquet"):
        rows = pq.read_table(path)
        pq.write_table(rows, path, compression="zstd")
        resize(own_place / "zstd", path)
    report = call_json("run", "zstd", "--yes", *FEW, "--effort", "bytes")
    assert report["bytes_spliced"] > 0
    assert report["splice"]["reasons"] == []


def resize(table: Path, file: Path) -> None:
    """Have the log say the size that a file has now."""
    for log in (table / "_delta_log").glob("*.json"):
        actions: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
        for action in actions:
            if action.get("add", {}).get("path") == file.name:
                action["add"]["size"] = file.stat().st_size
        log.write_text("\n".join(map(json.dumps, actions)) + "\n")


def test_a_table_in_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as endpoint:
        variables = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        target = str(new_bucket(endpoint).child("x"))
        fill(target, variables)
        report = call_json("run", target, "--yes", *FEW)
        assert (report["files_after"], report["verified"]) == (2, True)
        checks = {one["check"]: one for one in call_json("doctor", target)["checks"]}
        assert "takes conditional writes" in checks["storage"]["detail"]
        found = pa.table(DeltaTable(target, storage_options=variables).scan())
        assert sorted(found["id"].to_pylist()) == list(range(FILES * 10))


def test_a_count_of_rows_that_is_wrong_is_told_and_changes_nothing(orders: Path) -> None:
    commit = orders / "_delta_log" / f"{1:020}.json"
    commit.write_text(commit.read_text().replace('\\"numRecords\\":10', '\\"numRecords\\":9'))
    told = call_json("verify", str(orders), "--from", "0", "--to", "3", code=1)
    assert told["error"]["code"] == "corrupt-table"
    assert "says 9 rows" in told["error"]["message"]
    report = call_json("run", str(orders), "--yes", *FEW, code=3)
    assert (report["groups"]["failed"], len(ids(orders))) == (1, FILES * 10)
