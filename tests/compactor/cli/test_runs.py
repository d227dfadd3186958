"""Commands that change tables: run, apply, the history they leave, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from catalog.iceberg.demo import DemoCatalog
from compactor.cli.main import compact
from compactor.cli.progress import Watcher
from compactor.cli.session import Session
from compactor.jobs import planning
from compactor.jobs.events import Event, GroupFinished
from compactor.planner.plan import Plan
from tests.compactor.cli.calls import call, call_json

ROOT = Path(__file__).parents[3]


@pytest.fixture
def orders(own_catalog: DemoCatalog) -> Iterator[Table]:
    catalog = SqlCatalog("demo", **dict(own_catalog.properties))
    yield catalog.load_table("sales.orders")
    catalog.close()


def rows(table: Table) -> list[dict[str, object]]:
    return table.refresh().scan().to_arrow().sort_by("order_id").to_pylist()


def masked(text: str) -> str:
    """Replace what differs from run to run: ids, times, sizes."""
    text = re.sub(r"\b\d{12,}\b", "SNAPSHOT", text)
    text = re.sub(r"\b[0-9a-f]{19}\b", "JOB", text)
    text = re.sub(r"[\d.,]+ (B|[KMG]iB)\b", "SIZE", text)
    return re.sub(r"(\d+m )?[\d.]+s\b", "TIME", text)


def test_a_run_compacts_and_proves(orders: Table) -> None:
    before = rows(orders)
    run = call_json("run", "demo.sales.orders", "--verify", "full", "--yes")
    assert (run["status"], run["verified"]) == ("succeeded", True)
    assert (run["files_before"], run["files_after"]) == (80, 5)
    assert run["groups"] == {"committed": 5, "dropped": 0, "failed": 0}
    assert run["rows_before"] == run["rows_after"] == len(before)
    assert rows(orders) == before
    assert str(orders.current_snapshot().snapshot_id) == run["snapshot_after"]
    again = call_json("run", "demo.sales.orders")
    assert again["groups"] == {"committed": 0, "dropped": 0, "failed": 0}
    assert call_json("plan", "demo.sales.orders", "--check")["groups"] == []

    verified = call_json(
        "verify",
        "demo.sales.orders",
        "--from",
        run["snapshot_before"],
        "--to",
        run["snapshot_after"],
    )
    assert (verified["equal"], verified["rows_from"]) == (True, len(before))
    first = str(orders.metadata.snapshots[0].snapshot_id)
    sides = ("--from", first, "--to", run["snapshot_after"])
    assert call_json("verify", "demo.sales.orders", *sides, code=1)["equal"] is False
    assert call("verify", "demo.sales.orders", *sides, code=1).stdout.startswith("Different: ")
    missing = call_json("verify", "demo.sales.orders", "--from", "1", "--to", "2", code=1)
    assert missing["error"]["code"] == "snapshot-not-found"


def test_what_a_run_says(own_catalog: DemoCatalog) -> None:
    result = call("run", "demo.sales.orders")
    assert masked(result.stdout) == (
        "Compacted `demo.sales.orders` in TIME: 80 data files → 5, "
        "average SIZE → SIZE, 5 delete files applied\n"
        "Moved: read SIZE, wrote SIZE; TIME of CPU time, peak SIZE per worker\n"
        "Proved: 117,750 rows before and after\n"
        "Job JOB · 5 groups committed\n"
    )
    assert masked(result.stderr) == (
        "Planned 5 groups: 80 data files → 5, SIZE\n"
        "20%  1/5 groups  SIZE of SIZE  SIZE/s  TIME\n"
        "40%  2/5 groups  SIZE of SIZE  SIZE/s  TIME\n"
        "60%  3/5 groups  SIZE of SIZE  SIZE/s  TIME\n"
        "80%  4/5 groups  SIZE of SIZE  SIZE/s  TIME\n"
        "100%  5/5 groups  SIZE of SIZE  SIZE/s  TIME\n"
        "Committed 5 groups in snapshot SNAPSHOT\n"
    )
    again = call("run", "demo.sales.orders", "--no-progress")
    assert again.stdout == (
        "Nothing to do on `demo.sales.orders`: 5 data files, none worth rewriting.\n"
    )
    assert again.stderr == ""
    assert call("run", "demo.web.clicks", "-q").stderr == ""


def test_the_history_shows_jobs_with_their_memory(own_catalog: DemoCatalog) -> None:
    job = call_json("run", "demo.sales.orders")["job"]
    listed = call_json("jobs", "list", "--table", "demo.sales.orders")["jobs"]
    assert [(one["job"], one["state"], one["groups_committed"]) for one in listed] == [
        (job, "succeeded", 5)
    ]
    shown = call_json("jobs", "show", job)
    assert (shown["job"], shown["report"]["files_after"]) == (job, 5)
    assert len(shown["groups"]) == len(shown["attempts"]) == 5
    for attempt in shown["attempts"]:
        assert 0 < attempt["predicted_bytes"] <= attempt["granted_bytes"]
    assert {"peak_memory_bytes", "cpu_seconds"} <= set(shown["attempts"][0])
    text = call("jobs", "show", job[:15]).stdout
    assert re.search(
        r"^Group +Partition +State +Files .* Predicted +Granted +Peak", text, re.MULTILINE
    )
    assert len(re.findall(r"^\S+ +day=2026-11-\d\d +committed +16 ", text, re.MULTILINE)) == 5
    assert re.search(rf"^{job}-commit-1 +settled +5 ", text, re.MULTILINE)
    assert re.search(
        rf"^{job} +demo\.sales\.orders +succeeded +5/5", call("jobs", "list").stdout, re.MULTILINE
    )


def test_a_saved_plan_is_applied_once(orders: Table, tmp_path: Path) -> None:
    before = rows(orders)
    file = tmp_path / "orders.plan"
    told = call("plan", "demo.sales.orders", "--partition", "day=2026-11-17", "--out", str(file))
    assert f"To run exactly this plan: compact apply {file}" in told.stderr
    applied = call_json("apply", str(file))
    assert applied["groups"] == {"committed": 1, "dropped": 0, "failed": 0}
    assert (applied["files_before"], applied["files_after"]) == (80, 65)
    assert rows(orders) == before
    stale = call_json("apply", str(file), code=11)["error"]
    assert stale["code"] == "plan-stale"
    file.write_text("{}")
    assert call_json("apply", str(file), code=1)["error"]["code"] == "plan-file-refused"
    call("apply", str(tmp_path / "none.plan"), code=2)


def test_a_damaged_file_leaves_the_rest_compacted(orders: Table) -> None:
    path = min(task.file.file_path for task in orders.scan().plan_files())
    damaged = Path(path.removeprefix("file://"))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:4] + bytes(600) + content[604:])
    result = call("run", "demo.sales.orders", code=3)
    assert result.stdout.startswith("Compacted in part `demo.sales.orders` in ")
    assert "4 groups committed · 1 failed" in result.stdout
    assert re.search(r"warning: group \S+ in `day=2026-11-16`: .+", result.stderr)
    assert "hint: what was committed stays" in result.stderr
    assert call_json("run", "demo.sales.orders", code=1)["status"] == "failed"
    told = call("run", "demo.sales.orders", "--quiet", code=1).stderr.splitlines()
    assert [line.split(":")[0] for line in told] == ["warning", "hint"], "told once, even so"
    job = call_json("jobs", "list")["jobs"][0]["job"]
    hint = "hint: what was committed stays; for the rest: compact run demo.sales.orders\n"
    assert call("jobs", "show", job).stdout.endswith(hint)


def test_an_interrupt_keeps_what_is_done(orders: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows(orders)
    watch = Watcher.__call__
    interrupted: list[Event] = []

    def interrupt(self: Watcher, event: Event) -> None:
        watch(self, event)
        if isinstance(event, GroupFinished) and not interrupted:
            interrupted.append(event)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setenv("COMPACT_RUN__IN_FLIGHT_MAX", "1")
    monkeypatch.setattr(Watcher, "__call__", interrupt)
    run = call_json("run", "demo.sales.orders", code=130)
    assert run["status"] == "cancelled"
    assert 1 <= run["groups"]["committed"] < 5
    monkeypatch.undo()
    assert rows(orders) == before


def test_on_a_terminal_the_plan_is_shown_and_asked_for(
    own_catalog: DemoCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "asks", property(lambda self: not self.is_json))
    plans: list[Plan] = []
    planned = planning.make_plan
    monkeypatch.setattr(
        planning,
        "make_plan",
        lambda *state, **now: plans.append(planned(*state, **now)) or plans[-1],
    )
    refused = CliRunner().invoke(compact, ["run", "demo.web.clicks"], input="n\n")
    assert (refused.exit_code, refused.stdout) == (0, "")
    assert "Plan: 1 file group. 12 data files → 1;" in refused.stderr
    assert "Run this plan? [y/N]: " in refused.stderr
    assert refused.stderr.endswith("Nothing was done.\n")
    assert call_json("jobs", "list")["jobs"] == []
    agreed = CliRunner().invoke(compact, ["run", "demo.web.clicks"], input="y\n")
    assert len(plans) == 2, "one for each run"
    assert agreed.stdout.startswith("Compacted `demo.web.clicks` in ")
    assert "Run this plan?" not in CliRunner().invoke(compact, ["run", "demo.web.clicks"]).stderr


def test_the_demo_ends_with_a_proof(tmp_path: Path) -> None:
    place = tmp_path / "demo"
    environment = {key: value for key, value in os.environ.items() if "COMPACT_" not in key}
    command = [sys.executable, "-m", "compactor.cli.main"]
    environment["PYTHONPATH"] = str(ROOT)

    def run(*arguments: str, directory: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], env=environment, cwd=directory, capture_output=True, text=True
        )

    first = run("demo", "demo")
    assert first.returncode == 0, first.stderr
    assert re.search(r"^Data files +80 +5$", first.stdout, re.MULTILINE)
    assert re.search(r"^No row changed: all 117,750 rows", first.stdout, re.MULTILINE)
    assert re.search(r"^Data files +36 +3$", first.stdout, re.MULTILINE)
    assert re.search(r"^No row changed: all 53,100 rows", first.stdout, re.MULTILINE)
    clicks = json.loads(run("run", "demo.web.clicks", "--json", directory=place).stdout)
    assert (clicks["status"], clicks["files_after"]) == ("succeeded", 1)
    jobs = json.loads(run("jobs", "list", "--json", directory=place).stdout)["jobs"]
    of_paths = [str(place / "trips"), str(place / "payments")]
    assert [job["table"] for job in jobs] == ["demo.web.clicks", *of_paths, "demo.sales.orders"]

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    refused = run("demo", "mine")
    assert refused.returncode == 2
    assert "was not made by the demo" in refused.stderr


def test_what_was_copied_is_told(own_catalog: DemoCatalog) -> None:
    plan = call_json("plan", own_catalog.clicks, "--effort", "bytes")
    assert plan["groups"][0]["rung"] == "splice"
    assert plan["totals"]["bytes_by_rung"]["transcode"] == 0
    assert "as they are" in call("plan", own_catalog.clicks, "--effort", "bytes").stdout
    report = call_json("run", "--yes", own_catalog.clicks, "--effort", "bytes", "--verify", "full")
    assert report["bytes_spliced"] > 0
    assert report["splice"]["reasons"] == []
    assert "Copied as they are: " in call("jobs", "show", report["job"]).stdout
    assert call_json("plan", own_catalog.clicks, "--effort", "bytes")["groups"] == []


def kill_a_run(target: str) -> None:
    """Begin a run and kill it when its first group is written."""
    killed = subprocess.run(
        [sys.executable, "-m", "compactor.cli.main", "run", target],
        cwd=ROOT,
        env={**os.environ, "COMPACT_FAILPOINT": "result-journaled"},
        capture_output=True,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def test_what_a_job_taken_up_does_not_heed_is_named(orders: Table) -> None:
    kill_a_run("demo.sales.orders")
    flags = ("--effort", "deep", "--verify", "full", "--workers", "1")
    run = call("run", "demo.sales.orders", *flags)
    [warning] = [line for line in run.stderr.splitlines() if line.startswith("warning: job ")]
    assert "goes on as it was planned: `--effort`, `--verify` will count from the next" in warning
    assert " · resumed" in run.stdout


def test_jobs_are_forgotten_some_time_after_their_end(
    orders: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_a_run("demo.sales.orders")
    old = call_json("run", "demo.web.clicks")["job"]
    monkeypatch.setenv("COMPACT_STORE__HISTORY", "0")
    call_json("run", "demo.web.clicks")
    assert call_json("jobs", "show", old)["job"] == old
    monkeypatch.setenv("COMPACT_STORE__HISTORY", "0.001s")
    last = call_json("run", "demo.web.clicks")["job"]
    # Whether a job outlives its own last millisecond is nobody's matter.
    [left] = [one for one in call_json("jobs", "list")["jobs"] if one["job"] != last]
    assert (left["table"], left["state"]) == ("demo.sales.orders", "rewriting")
    resumed = call_json("run", "demo.sales.orders")
    assert resumed["is_resumed"]
    assert {one["job"] for one in call_json("jobs", "list")["jobs"]} <= {resumed["job"]}
