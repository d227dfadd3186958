"""Iceberg tables to be looked after: what they refer to, read by PyIceberg alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalog.upkeep import UpkeepOrder
from tests.catalog.iceberg.lakes import IcebergLake

NOW = UpkeepOrder(retention_seconds=0, is_forced=True)


def on_disk(lake: IcebergLake) -> set[str]:
    """Return every file below the table but for the table metadata."""
    directory = Path(lake.other.location().removeprefix("file://"))
    return {
        f"file://{path}"
        for path in directory.rglob("*")
        if path.is_file() and not path.name.endswith(".metadata.json")
    }


def referred_to(lake: IcebergLake) -> set[str]:
    """Return every file that a snapshot of the table refers to."""
    table = lake.other
    found = {one.statistics_path for one in table.metadata.statistics}
    for snapshot in table.metadata.snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            found.add(manifest.manifest_path)
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                found.add(entry.data_file.file_path)
    return found


def rows_of_all(lake: IcebergLake) -> dict[str, list[object]]:
    """Return the rows of every snapshot."""
    ids = [str(one.snapshot_id) for one in lake.other.metadata.snapshots]
    return {one: list(lake.rows(one)) for one in ids}


def lose_next_reply(lake: IcebergLake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next commit made, and its answer lost."""
    commit = lake.catalog.commit_table

    def lost(*arguments: Any) -> Any:
        commit(*arguments)
        monkeypatch.undo()
        raise ConnectionError("no answer")

    monkeypatch.setattr(lake.catalog, "commit_table", lost)
