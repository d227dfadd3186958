"""Processes race for a Delta table; afterwards every row of every version is accounted for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from deltalake import write_deltalake
from deltalake.exceptions import CommitFailedError

from catalog.errors import SnapshotNotFoundError
from tests.catalog.change_race import ChangeRace
from tests.catalog.delta.lakes import DeltaLake, commits, rows_of
from tests.catalog.delta.racer import PARTS
from tests.catalog.groups import read_group


@dataclass
class Race:
    """What the writers were told had been done."""

    lake: DeltaLake
    told: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def all_of(self, name: str) -> list[Any]:
        return [one[name] for one in chain(*self.told.values()) if name in one]

    def expected(self) -> set[int]:
        deleted = chain(*self.all_of("deleted"))
        return set(chain(*self.all_of("appended"))) - set(deleted)


def run(directory: Path, seconds: float, roles: Sequence[str]) -> Race:
    race = Race(DeltaLake(directory))
    race.told["start"] = []
    for number in range(24):
        ids = range(10**9 + number * 10, 10**9 + number * 10 + 10)
        race.lake.append(ids, PARTS[number % len(PARTS)])
        race.told["start"].append({"appended": list(ids)})
    command = [sys.executable, "-m", "tests.catalog.delta.racer"]
    racers = {
        f"{role} {number}": subprocess.Popen(
            [*command, role, str(directory), str(seconds), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, role in enumerate(roles)
    }
    for name, racer in racers.items():
        out, error = racer.communicate()
        assert racer.returncode == 0, f"{name}: {error}"
        race.told[name] = [json.loads(line) for line in out.splitlines()]
    return race


def check(race: Race) -> None:
    lake = race.lake
    rows = lake.rows()
    ids = [row[0] for row in rows]
    assert len(ids) == len(set(ids))
    assert set(ids) == race.expected()
    table = lake.table
    snapshot = table.snapshot()
    ours = read_group(table.files(snapshot), table.inventory(snapshot))[0]
    assert sorted(ours["id"].to_pylist()) == ids
    for version, actions in enumerate(commits(lake.directory)):
        if actions[0]["commitInfo"]["operation"] == "OPTIMIZE":
            try:
                before, after = lake.rows(str(version - 1)), lake.rows(str(version))
            except SnapshotNotFoundError:
                continue
            assert after == before, f"version {version} changed the content"


def share(race: Race) -> tuple[int, int, Counter[str]]:
    committed = sum(race.all_of("committed"))
    reasons = Counter(
        "deleted" if "were deleted" in one else "gone" for one in chain(*race.all_of("conflicts"))
    )
    return committed, sum(reasons.values()), reasons


def test_every_row_is_accounted_for_after_a_race(tmp_path: Path) -> None:
    race = run(tmp_path, seconds=3, roles=["compact", "append", "delete"])
    check(race)
    committed, _, reasons = share(race)
    assert committed
    assert reasons["deleted"] == 0, "deletes are carried over, they are no conflict"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_row_is_accounted_for_after_a_long_race(tmp_path: Path) -> None:
    roles = ["compact"] * 4 + ["append"] * 2 + ["delete"] * 2 + ["rewrite", "merge"]
    race = run(tmp_path, seconds=60, roles=roles)
    _, conflicts, reasons = share(race)
    check(race)
    assert reasons["deleted"] == 0
    assert conflicts > 0, "a race without a conflict proves little"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_most_groups_of_a_hot_table_are_committed(tmp_path: Path) -> None:
    """One compactor, and writers that delete from its inputs all the time."""
    race = run(tmp_path, seconds=40, roles=["compact", "append", "append", "delete", "delete"])
    committed, conflicts, _ = share(race)
    check(race)
    assert committed >= conflicts


def _appends(lake: DeltaLake, ids: range, part: str) -> bool:
    with suppress(CommitFailedError):
        write_deltalake(str(lake.directory), rows_of(ids, part), mode="append")
        return True
    return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_streams_of_changes_an_appender_and_a_compaction_end_exact(tmp_path: Path) -> None:
    DeltaLake(tmp_path)
    ChangeRace(lambda: DeltaLake(tmp_path, creates=False), _appends).run()
