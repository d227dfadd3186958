"""Beside deltalake 1.6.6, whose compactions double rows when two of them race."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from tests.acceptance.program import compact, start

FILES = 4
EXPECTED = list(range(2 * FILES))


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "orders")
    for number in range(FILES):
        rows = pa.table({"id": pa.array([2 * number, 2 * number + 1], pa.int64())})
        write_deltalake(path, rows, mode="append")
    return path


def ids(path: str) -> list[int]:
    found: list[int] = pa.table(DeltaTable(path).scan())["id"].to_pylist()
    return sorted(found)


def run(path: str, code: int = 0) -> dict:
    place = Path(path).parent
    return compact(place, "run", path, "--yes", "--min-input-files", "2", code=code)


def test_two_of_ours_from_one_version_leave_every_row_once(path: str) -> None:
    # Each has a job store of its own, as on two machines that do not know of each other.
    arguments = ("run", path, "--yes", "--json", "--min-input-files", "2")
    racers = [
        start(Path(path).parent, *arguments, extra={"XDG_STATE_HOME": f"{path}-state-{number}"})
        for number in range(2)
    ]
    codes = [racer.wait() for racer in racers]
    for racer in racers:
        racer.communicate()
    assert set(codes) <= {0, 3, 11}
    assert 0 in codes
    assert ids(path) == EXPECTED


def test_a_plan_that_deltalake_has_overtaken_changes_nothing(path: str) -> None:
    place = Path(path).parent
    file = str(place / "orders.plan")
    compact(place, "plan", path, "--min-input-files", "2", "--out", file)
    DeltaTable(path).optimize.compact()
    compact(place, "apply", file, code=11)
    assert ids(path) == EXPECTED


def test_rows_that_deltalake_has_doubled_are_told(path: str) -> None:
    stale = DeltaTable(path)
    version = str(stale.version())
    assert run(path)["groups"]["committed"] == 1
    try:
        stale.optimize.compact()
    except CommitFailedError:  # a release without the fault
        assert ids(path) == EXPECTED
        return
    assert len(ids(path)) == 2 * len(EXPECTED)
    head = str(DeltaTable(path).version())
    place = Path(path).parent
    proof = compact(place, "verify", path, "--from", version, "--to", head, code=1)
    assert (proof["rows_from"], proof["rows_to"]) == (8, 16)
    (warning,) = run(path)["warnings"]
    assert "delta-rs:py-1.6.6" in warning
    assert "compact verify" in warning
