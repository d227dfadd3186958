"""What is printed arrives, whatever the streams are: closed, full, or short of letters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.iceberg.demo import DemoCatalog

ROOT = Path(__file__).parents[3]


def compact(
    *arguments: str, redirection: str = "", **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run `compact` by a shell that redirects its streams."""
    command = f'exec "$0" -m compactor.cli.main "$@" {redirection}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_letters_that_a_stream_lacks_are_replaced(encoding: str) -> None:
    script = (
        "from compactor.cli.streams import prepare_streams\n"
        "prepare_streams()\n"
        "print('12 data files → 1 · \\udcff …')"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    ).stdout
    assert told.decode(encoding).replace("·", "-") == "12 data files -> 1 - ? ...\n"


def test_names_that_are_no_text_are_refused() -> None:
    refused = compact("plan", os.fsdecode(b"demo.web.\xff"), "--json")
    assert refused.returncode == 10
    assert json.loads(refused.stdout)["error"]["code"] == "table-not-found"
    assert b"names no table" in refused.stderr


def test_without_a_place_for_its_state_a_plan_is_made_all_the_same(
    demo_catalog: DemoCatalog,
) -> None:
    planned = compact("plan", demo_catalog.clicks, XDG_STATE_HOME=os.devnull)
    assert planned.returncode == 0, planned.stderr
    assert planned.stderr == b""


def test_what_is_logged_is_a_line(tmp_path: Path, own_catalog: DemoCatalog) -> None:
    (tmp_path / "profiles.db").mkdir()
    ran = compact(
        "run",
        own_catalog.clicks,
        "--quiet",
        COMPACT_RUNTIME__PROFILES=str(tmp_path / "profiles.db"),
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stderr.splitlines()
    assert lines
    assert all(line.startswith(b"warning: ") for line in lines), ran.stderr


def test_closed_streams_change_no_exit_code() -> None:
    assert compact("nope", redirection="2>&-").returncode == 2
    assert compact("version", redirection=">&- <&-").returncode == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("form", ["--json", "--quiet"])
def test_a_full_disk_below_stdout_is_told_on_stderr(form: str, unbuffered: str) -> None:
    told = compact("version", form, redirection=">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert told.returncode == 1
    assert told.stderr == b"error: No space left on device\n"
