"""Deaths at every state of an instant, ours and the Spark writer's beside us; then life goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from compactor.jobs.failpoints import Failpoint
from tests.acceptance.hudi_judged import Judged, Rows, metadata_is_true
from tests.acceptance.program import ROOT, environment
from tests.judges.hudi_declared import RUN_CLUSTERING, TABLES
from tests.judges.hudi_session import HudiSession, hudi_session, shared_hudi_session
from tests.judges.spark_process import SparkError

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(2400)]

_DYING = ROOT / "tests" / "acceptance" / "dying.py"
_RUN = ("run", "table/", "--yes", "--json", "--min-input-files", "2")
_METADATA = tuple(
    f"metadata/{state}"
    for state in ("deltacommit.requested", "deltacommit.inflight", "deltacommit")
)
# The files of the timelines that a rewrite puts down, in this order.
FOLDING = ("compaction.requested", "compaction.inflight", *_METADATA, "commit")
CLUSTERING = ("clustering.requested", "clustering.inflight", *_METADATA, "replacecommit")
CLUSTERING_IN_6 = (
    *("replacecommit.requested", "replacecommit.inflight"),
    *(*_METADATA, "replacecommit"),
)
STATES = {
    "v6_mor": FOLDING,
    "v8_mor": FOLDING,
    "v9_mor": FOLDING,
    "v6_cow_scattered": CLUSTERING_IN_6,
    "v8_cow_scattered": CLUSTERING,
    "v9_cow_scattered": CLUSTERING,
}
# What every `make interop` asks for: begun; known to the metadata table alone.
OFTEN = {("v9_mor", "compaction.inflight"), ("v9_mor", "metadata/deltacommit")}
_WAIT_SECONDS = 600


def each_state() -> Iterator[ParameterSet]:
    for name, states in STATES.items():
        for state in states:
            marks = () if (name, state) in OFTEN else pytest.mark.thorough
            yield pytest.param(name, state, marks=marks)


@pytest.fixture(scope="module")
def hudi() -> HudiSession:
    return shared_hudi_session()


def judged(hudi: HudiSession, name: str, directory: Path) -> Judged:
    return Judged.of(hudi, next(one for one in TABLES if one.name == name), directory)


@pytest.mark.parametrize(("name", "state"), list(each_state()))
def test_what_was_killed_is_finished_by_us_or_by_spark(
    name: str, state: str, hudi: HudiSession, tmp_path: Path
) -> None:
    table = judged(hudi, name, tmp_path)
    before = table.rows()
    died = _dying(table.directory, "SIGKILL", state)
    told = died.communicate(timeout=600)
    assert died.returncode == -signal.SIGKILL, told
    goes_on(table, before)


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.thorough) for one in STATES if "mor" in one]
)
def test_files_that_nobody_committed_are_done_again(
    name: str, hudi: HudiSession, tmp_path: Path
) -> None:
    table = judged(hudi, name, tmp_path)
    before = table.rows()
    table.compact(code=-signal.SIGKILL, failpoint=Failpoint.RESULT_JOURNALED)
    goes_on(table, before)


def goes_on(table: Judged, before: Rows) -> None:
    """Have us finish on the one copy, Spark on the other, and each go on where the other was."""
    assert table.rows() == before
    other = copied(table)
    assert table.compact()["status"] == "succeeded"
    assert table.rows() == before
    is_whole(table)
    table.write_last()
    expected = table.shown(table.path)
    if table.declared.merges_on_read:
        # Also beside the plan of a dead process, Spark writes.
        other.write_last()
        other.compact_with_spark()
    else:
        other.serve(RUN_CLUSTERING)
        assert other.rows() == before
        other.write_last()
    assert other.shown(other.path) == expected
    assert other.compact()["status"] == "succeeded"
    assert other.shown(other.path) == expected
    is_whole(other)


def copied(table: Judged) -> Judged:
    """Return a copy of a table, and of the state that we have of it."""
    directory = table.directory / "copy"
    directory.mkdir()
    for name in ("table", "state"):
        with suppress(FileNotFoundError):
            shutil.copytree(table.directory / name, directory / name)
    return replace(table, directory=directory, _registered={})


def is_whole(table: Judged) -> None:
    """Nothing is left undone, and Spark finds the metadata table true."""
    assert unfinished(table) == set()
    listed = table.call("validate_metadata_table_files", verbose=True)
    assert listed
    assert [one for one in listed if one["fs_size"] != one["metadata_size"]] == []


@pytest.mark.parametrize("name", ["v9_mor", pytest.param("v6_mor", marks=pytest.mark.thorough)])
def test_a_spark_writer_that_is_killed_beside_us_is_rolled_back(
    name: str, hudi: HudiSession, tmp_path: Path
) -> None:
    table = judged(hudi, name, tmp_path)
    before = table.shown(table.path)
    table.write_last(table.twin)
    after = table.shown(table.twin)
    ours = _dying(table.directory, "SIGSTOP", "compaction.inflight")
    _await(lambda: os.waitpid(ours.pid, os.WNOHANG | os.WUNTRACED)[1])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with hudi_session(scratch) as doomed, ThreadPoolExecutor(1) as pool:
        machine = int(doomed.java("jvm.java.lang.ProcessHandle.current().pid()"))
        writing = pool.submit(replace(table, spark=doomed).write_last)
        _await(lambda: writing.done() or unfinished(table, ".deltacommit.inflight"))
        os.kill(machine, signal.SIGKILL)
        with suppress(SparkError, AssertionError):
            writing.result()
    # As whoever finds the lock of a dead process does.
    (table.path / ".hoodie" / "lock").unlink(missing_ok=True)
    os.kill(ours.pid, signal.SIGCONT)
    stdout, stderr = ours.communicate(timeout=600)
    assert ours.returncode == 0, f"{stdout}\n{stderr}"
    # It may have been through before it was killed.
    assert table.shown(table.path) in (before, after)
    table.write_last()
    assert table.shown(table.path) == after
    assert table.compact()["status"] == "succeeded"
    assert table.shown(table.path) == after
    assert unfinished(table) == set()
    metadata_is_true(table)


def unfinished(table: Judged, kind: str = "") -> set[str]:
    """Return the times of instants that are not completed, of a kind or of all."""
    folder = table.path / ".hoodie"
    if (folder / "timeline").exists():
        folder /= "timeline"
    states = {path.name: path.suffix in (".requested", ".inflight") for path in folder.glob("2*")}
    done = {name[:17] for name, is_open in states.items() if not is_open}
    return {name[:17] for name in states if kind in name} - done


def _dying(directory: Path, sent: str, kind: str) -> subprocess.Popen[str]:
    """Start a run that a signal meets right after a file of a kind."""
    return subprocess.Popen(
        [sys.executable, str(_DYING), sent, kind, *_RUN],
        env=environment(directory),
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _await(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
