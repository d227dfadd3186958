"""Whatever has happened to a table, upkeep changes no row of a snapshot that it keeps."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.upkeep import UpkeepOrder
from tests.catalog.groups import plan_all
from tests.catalog.iceberg.lakes import IcebergLake
from tests.catalog.iceberg.upkeep_lakes import on_disk, referred_to, rows_of_all
from tests.judges.engines import READERS

FORCED = UpkeepOrder(retention_seconds=0, is_forced=True)
OPERATIONS = (
    "dangling-deletes",
    "merge-manifests",
    "cluster-manifests",
    "expire-snapshots",
    "orphan-files",
)
DEEDS = ("append", "delete", "compact", "remove", "tag", "branch", "roll back", *OPERATIONS)
steps = st.tuples(st.sampled_from(DEEDS), st.integers(0, 99))


def look_after(lake: IcebergLake, name: str, keep_last: int) -> None:
    """Run one operation; all snapshots that are left have their rows."""
    before = rows_of_all(lake)
    table = lake.table
    order = UpkeepOrder(retention_seconds=0, is_forced=True, versions_min=keep_last)
    (operation,) = (one for one in table.upkeep() if one.name == name)
    operation.check(order if name == "expire-snapshots" else FORCED)
    operation.run(order)
    after = rows_of_all(lake)
    head = str(lake.other.metadata.current_snapshot_id)
    assert all(rows == before[one] for one, rows in after.items() if one in before)
    assert head not in after or head in before or after[head] in before.values()
    assert referred_to(lake) <= on_disk(lake)


def do(lake: IcebergLake, deed: str, number: int) -> None:
    """Do something to a table, where it is possible."""
    known = [one.snapshot_id for one in lake.other.metadata.snapshots]
    files = sorted(lake.table.inventory(lake.table.snapshot()).files["path"].to_pylist())
    if deed == "append":
        lake.append(range(number * 10, number * 10 + 5), "abc"[number % 3])
    elif deed in OPERATIONS:
        look_after(lake, deed, number % 3 + 1)
    elif not known or not files:
        return
    elif deed == "delete":
        lake.delete({files[number % len(files)]: [0]})
    elif deed == "compact":
        lake.table.commit(plan_all(lake.table))
    elif deed == "remove":
        lake.remove(files[number % len(files)])
    else:
        refer(lake, deed, number, known)


def refer(lake: IcebergLake, deed: str, number: int, known: Sequence[int]) -> None:
    chosen = known[number % len(known)]
    name = f"{deed}-{number}"
    if name in lake.other.metadata.refs:
        return
    lineage = [one.snapshot_id for one in lake.other.history()]
    with lake.other.manage_snapshots() as manage:
        if deed == "tag":
            manage.create_tag(chosen, name)
        elif deed == "branch":
            manage.create_branch(chosen, name, min_snapshots_to_keep=number % 2 + 1)
        elif chosen in lineage:
            manage.set_current_snapshot(chosen)


def live_history(history: Sequence[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        lake = IcebergLake(Path(directory), 2)
        lake.append(range(5))
        for deed, number in history:
            do(lake, deed, number)
        look_after(lake, "expire-snapshots", 1)
        look_after(lake, "orphan-files", 1)
        assert on_disk(lake) == referred_to(lake)


def test_a_history_with_everything() -> None:
    live_history(
        [
            ("append", 1),
            ("delete", 0),
            ("tag", 1),
            ("compact", 0),
            ("append", 2),
            ("merge-manifests", 0),
            ("branch", 3),
            ("roll back", 1),
            ("append", 4),
            ("expire-snapshots", 1),
        ]
    )


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(steps, min_size=3, max_size=12))
def test_any_history(history: list[tuple[str, int]]) -> None:
    live_history(history)


@pytest.mark.interop
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", sorted(READERS))
def test_other_engines_read_what_is_kept(engine: str, tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path, 2)
    for number in range(6):
        lake.append(range(number * 10, number * 10 + 10), "ab"[number % 2])
    lake.delete({lake.append(range(100, 110)): [0, 3]})
    lake.table.commit(plan_all(lake.table))
    lake.append(range(200, 210))
    for name in OPERATIONS:
        look_after(lake, name, 4)
    kept = rows_of_all(lake)
    assert len(kept) == 4
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for snapshot_id, rows in [*kept.items()][::3]:  # the oldest and the newest
        found: pa.Table = READERS[engine](lake.other.metadata_location, int(snapshot_id), scratch)
        assert (
            sorted(zip(*(found[name].to_pylist() for name in found.column_names), strict=True))
            == rows
        )
