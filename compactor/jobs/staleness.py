"""Whether the groups of a plan still are in the table as they were planned; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from catalog.model import Inventory
from compactor.planner.columns import Ints
from compactor.planner.places import Places
from compactor.planner.plan import FileGroup
from compactor.planner.slicing import cut_groups

Slices = dict[str, frozenset[str]]
"""Paths of the delete files of each data file, by its path."""


def outdated_groups(groups: Iterable[FileGroup], current: Inventory) -> dict[str, str]:
    """Return why groups no longer fit the table, by their ids; those that fit are left out.

    Args:
        groups: groups of a plan.
        current: all file slices of the table now.
    """
    groups = list(groups)
    places = list(Places.of(current.files["path"]).find_groups(group.files for group in groups))
    found = cut_groups(current, [rows[rows >= 0] for rows in places])
    reasons = (
        (group.group_id, _outdated(group.files, rows, there))
        for group, rows, there in zip(groups, places, found, strict=True)
    )
    return {group_id: reason for group_id, reason in reasons if reason}


def taken_groups(groups: Sequence[FileGroup], current: Inventory) -> dict[str, str]:
    """Return why groups need not be begun, by their ids: data files of theirs are gone.

    Deletes that came meanwhile are left to the commit, which may be able to carry them over.

    Args:
        groups: groups of a plan.
        current: all file slices of the table now.
    """
    places = Places.of(current.files["path"]).find_groups(group.files for group in groups)
    paths = (
        (group.group_id, _missing(group.files, rows))
        for group, rows in zip(groups, places, strict=True)
    )
    return {
        group_id: f"{path} was replaced by another writer before work on it began"
        for group_id, path in paths
        if path
    }


def _outdated(planned: Inventory, rows: Ints, found: Inventory) -> str:
    missing = _missing(planned, rows)
    if missing:
        return f"{missing} was replaced by another writer"
    if not planned.delete_files.num_rows and not found.delete_files.num_rows:
        return ""
    before, after = _slices(planned), _slices(found)
    changed = (path for path, deletes in before.items() if after[path] != deletes)
    path = next(changed, "")
    return f"{path} lost rows to another writer" if path else ""


def _missing(planned: Inventory, rows: Ints) -> str:
    """Return a data file that is not there; empty when all are."""
    gone = np.flatnonzero(rows < 0)
    return str(planned.files["path"][int(gone[0])].as_py()) if len(gone) else ""


def _slices(inventory: Inventory) -> Slices:
    return {
        file.path: frozenset(delete.path for delete in file.deletes) for file in inventory.slices()
    }
