"""Commands that only look: plans, tables, the doctor, and how they refuse."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from catalog.errors import AccessDeniedError, CommitConflictError
from catalog.iceberg.demo import DemoCatalog
from compactor import __version__
from compactor.cli.exits import describe
from compactor.cli.main import COMMANDS, compact
from compactor.errors import PlanStaleError, SettingsError, TableBusyError
from runtime.errors import OutOfMemory, TaskError
from tests.compactor.cli.calls import call, call_json

HEAVY = ("pyarrow", "pyiceberg", "rich", "sqlalchemy", "numpy", "msgspec", "obstore")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from compactor.cli.main import compact\n"
        "try: compact.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    root = Path(__file__).parents[3]
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stderr.strip() == "[]"
    for name in COMMANDS:
        assert re.search(rf"^  {name}\b", found.stdout, re.MULTILINE), name


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_numpy_starts_no_threads() -> None:
    script = (
        "import os, sys\n"
        "from compactor.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "import numpy\n"
        "print(len(os.listdir('/proc/self/task')), file=sys.stderr)\n"
    )
    chosen = {name: value for name, value in os.environ.items() if "_NUM_THREADS" not in name}
    found = subprocess.run(
        [sys.executable, "-c", script, "--version"],
        env={**chosen, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stderr.strip() == "1"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_the_shared_options(name: str) -> None:
    text = call(name, "--help").stdout
    for option in ("--json", "--config", "-q, --quiet", "-v, --verbose", "--no-progress"):
        assert option in text


def test_the_version_is_told() -> None:
    assert call("--version").stdout == f"compact {__version__}\n"
    assert call_json("version")["version"] == __version__


def test_unknown_commands_and_options_are_refused_with_what_was_meant() -> None:
    result = call("pln", code=2)
    assert result.stdout == ""
    assert result.stderr == "error: no command `pln`\nhint: did you mean `plan`?\n"
    assert call("jobs", "lst", code=2).stderr.endswith("hint: did you mean `list`?\n")
    result = call("plan", "a.b.c", "--min-agee", "5m", code=2)
    assert result.stderr == "error: no option `--min-agee`\nhint: did you mean `--min-age`?\n"
    assert call("plan", code=2).stderr == (
        "error: missing argument `TARGET`\nhint: see `compact plan --help`\n"
    )


def test_without_a_command_there_is_help() -> None:
    assert call(code=2).stderr.startswith("Usage: compact [OPTIONS] COMMAND")
    assert call("jobs", code=2).stderr.startswith("Usage: compact jobs")


@pytest.mark.parametrize("name", ["cluster"])
def test_commands_that_do_not_exist_are_unknown(name: str) -> None:
    assert f"no command `{name}`" in call(name, code=2).stderr


def test_errors_are_documents_under_json() -> None:
    result = call("plan", "a.b.c", "--min-input-files", "few", "--json", code=2)
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "settings-refused"
    assert error["message"].startswith("bad value for `--min-input-files`")
    assert result.stderr.startswith("error: bad value for `--min-input-files`")


def test_a_missing_table_is_refused_with_what_was_meant(demo_catalog: DemoCatalog) -> None:
    result = call("plan", "demo.sales.order", code=10)
    assert result.stderr == (
        "error: no table `demo.sales.order`\n"
        "hint: did you mean `demo.sales.orders`? list tables: compact tables 'demo.sales.*'\n"
    )
    assert call_json("run", "demo.sales.order", "--yes", code=10)["error"]["code"] == (
        "table-not-found"
    )
    assert call_json("plan", "nowhere.a.b", code=10)["error"]["hint"].startswith("configured")


def test_a_plan_is_printed(demo_catalog: DemoCatalog) -> None:
    text = call("plan", "demo.sales.orders").stdout
    lines = text.splitlines()
    assert re.fullmatch(r"demo\.sales\.orders  iceberg v2  snapshot \d+", lines[0])
    assert lines[2].split() == [
        "Partition",
        "Groups",
        "Data",
        "files",
        "Deletes",
        "Size",
        "After",
        "Why",
    ]
    assert [line.split()[0] for line in lines[3:8]] == [
        f"day=2026-11-{day}" for day in range(16, 21)
    ]
    assert all(re.search(r" 1 +16 → 1 +1 → 0 ", line) for line in lines[3:8])
    assert "Plan: 5 file groups. 80 data files → 5, 5 delete files → 0;" in text
    assert "\x1b" not in text


def test_a_plan_is_a_document(demo_catalog: DemoCatalog) -> None:
    plan = call_json("plan", "demo.sales.orders")
    assert (plan["table"], plan["format"]) == ("demo.sales.orders", "iceberg v2")
    assert (len(plan["groups"]), plan["totals"]["files"], plan["kept"]["files"]) == (5, 80, 0)


def test_check_tells_by_the_exit_code(demo_catalog: DemoCatalog) -> None:
    call("plan", "demo.sales.orders", "--check", code=4)
    text = call("plan", "demo.sales.orders", "--check", "--partition", "day=2020-*").stdout
    assert "Nothing to do: 80 data files" in text


def test_policies_come_from_flags_environment_and_file(
    demo_catalog: DemoCatalog, own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = call_json("plan", "demo.sales.orders", "--partition", "day=2026-11-17")
    assert [group["partition"] for group in only["groups"]] == ["day=2026-11-17"]
    reasons = {skipped["reason"] for skipped in only["skipped"]}
    assert len(reasons) == 1
    assert all(reasons)
    (own_place / "compact.toml").write_text('[policy."demo.sales.*"]\nmin_input_files = 50\n')
    assert call_json("plan", "demo.sales.orders")["groups"] == []
    monkeypatch.setenv("COMPACT_POLICY__MIN_INPUT_FILES", "9")
    assert len(call_json("plan", "demo.sales.orders")["groups"]) == 5
    other = own_place / "other.toml"
    other.write_text("[policy]\nmax_bites = 5\n")
    refused = call_json("plan", "demo.sales.orders", "--config", str(other), code=2)["error"]
    assert (refused["code"], refused["hint"]) == ("settings-refused", "did you mean `max_bytes`?")


def test_tables_are_judged(demo_catalog: DemoCatalog) -> None:
    document = call_json("tables", "demo.*.*")
    assert [table["table"] for table in document["tables"]] == [
        "demo.sales.orders",
        "demo.web.clicks",
    ]
    orders, clicks = document["tables"]
    assert (orders["health"]["files"], orders["health"]["delete_files"]) == (80, 5)
    assert orders["gain"]["files_after_estimate"] == 5
    assert clicks["health"]["small_file_ratio"] == 1.0
    text = call("tables", "demo.sales.*", "demo.web.clicks").stdout
    assert re.search(r"demo\.sales\.orders +\d+/100 +80 → 5 ", text)
    assert re.search(r"demo\.web\.clicks +\d+/100 +12 → 1 ", text)


def test_one_bad_table_does_not_hide_the_others(demo_catalog: DemoCatalog) -> None:
    document = call_json("tables", "demo.web.clicks", "demo.web.click", code=3)
    assert "health" in document["tables"][0]
    assert document["tables"][1]["error"]["code"] == "table-not-found"
    assert (
        "no table `demo.web.click`" in call("tables", "demo.*.*", "demo.web.click", code=3).stdout
    )
    call("tables", "demo.none.*", code=10)


def test_the_doctor_finds_a_table_fit(demo_catalog: DemoCatalog) -> None:
    document = call_json("doctor", "demo.sales.orders")
    assert document["fit"] is True
    grades = {finding["check"]: finding["grade"] for finding in document["checks"]}
    assert {"versions", "configuration", "job store", "memory", "shared memory"} <= set(grades)
    assert {"disk", "clock", "catalogs", "table", "inventory", "storage"} <= set(grades)
    assert set(grades.values()) <= {"ok", "warning"}
    data = demo_catalog.directory / "warehouse" / "sales" / "orders"
    assert list(data.rglob("*doctor*")) == []


def test_the_doctor_finds_a_problem(demo_catalog: DemoCatalog) -> None:
    text = call("doctor", "demo.sales.order", code=1).stdout
    assert re.search(r"^table +problem +no table `demo\.sales\.order`$", text, re.MULTILINE)
    assert "hint: did you mean `demo.sales.orders`?" in text


def test_jobs_are_listed_and_missing_ones_refused() -> None:
    assert call("jobs", "list").stdout == "No jobs yet.\n"
    assert call_json("jobs", "list") == {"jobs": []}
    assert "no single job `x`" in call("jobs", "show", "x", code=2).stderr


def test_completion_scripts_name_the_program() -> None:
    assert "_COMPACT_COMPLETE=zsh_complete" in call("completion", "zsh").stdout


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (AccessDeniedError("no", hint="log in"), "access-denied", 12),
        (CommitConflictError("lost"), "commit-conflict", 11),
        (PlanStaleError("old"), "plan-stale", 11),
        (TableBusyError("busy"), "table-busy", 11),
        (SettingsError("bad"), "settings-refused", 2),
        (TaskError("task", cause=AccessDeniedError("no")), "access-denied", 12),
        (OutOfMemory("big", granted_bytes=1, used_bytes=2), "out-of-memory", 1),
        (KeyboardInterrupt(), "interrupted", 130),
        (FileNotFoundError(2, "No such file", "x"), "operating-system", 1),
        (RuntimeError("two\nlines"), "internal-error", 1),
    ],
)
def test_errors_have_their_exit_codes(error: BaseException, code: str, exit_code: int) -> None:
    failure = describe(error)
    assert (failure.code, failure.exit_code) == (code, exit_code)
    assert "\n" not in failure.message


def test_tracebacks_are_for_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("compactor.cli.session.Session.settings", fail)
    quiet = CliRunner().invoke(compact, ["plan", "a.b.c"])
    assert quiet.exit_code == 1
    assert "Traceback" not in quiet.stderr
    assert "error: RuntimeError: a defect\nhint: this is a defect" in quiet.stderr
    assert "Traceback" in CliRunner().invoke(compact, ["plan", "a.b.c", "-v"]).stderr
