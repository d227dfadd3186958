"""Whether the groups of a plan still are in the table as they were planned; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import Inventory
from compactor.planner.plan import FileGroup

Slices = dict[str, frozenset[str]]
"""Paths of the delete files of each data file, by its path."""


def outdated_groups(groups: Iterable[FileGroup], current: Inventory) -> dict[str, str]:
    """Return why groups no longer fit the table, by their ids; those that fit are left out.

    Args:
        groups: groups of a plan.
        current: all file slices of the table now.
    """
    groups = list(groups)
    wanted = pa.chunked_array([group.files.files["path"].combine_chunks() for group in groups])
    found = _slices(_with_paths(current, wanted)) if groups else {}
    reasons = ((group.group_id, _reason(_slices(group.files), found)) for group in groups)
    return {group_id: reason for group_id, reason in reasons if reason}


def taken_groups(groups: Sequence[FileGroup], current: Inventory) -> dict[str, str]:
    """Return why groups need not be begun, by their ids: data files of theirs are gone.

    Deletes that came meanwhile are left to the commit, which may be able to carry them over.

    Args:
        groups: groups of a plan.
        current: all file slices of the table now.
    """
    if not groups:
        return {}
    planned = [group.files.files["path"].combine_chunks() for group in groups]
    owners = np.repeat(np.arange(len(groups)), [len(paths) for paths in planned])
    paths = pa.concat_arrays(planned)
    is_live = pc.is_in(paths, value_set=current.files["path"].combine_chunks())
    gone = pc.indices_nonzero(pc.invert(is_live)).to_numpy()
    taken, first = np.unique(owners[gone], return_index=True)
    return {
        groups[group].group_id: f"{path} was replaced by another writer before work on it began"
        for group, path in zip(taken, paths.take(pa.array(gone[first])).to_pylist(), strict=True)
    }


def _reason(planned: Slices, found: Slices) -> str:
    for path, deletes in planned.items():
        if path not in found:
            return f"{path} was replaced by another writer"
        if found[path] != deletes:
            return f"{path} lost rows to another writer"
    return ""


def _with_paths(inventory: Inventory, paths: pa.ChunkedArray) -> Inventory:
    mask = pc.is_in(inventory.files["path"], value_set=paths.combine_chunks())
    return inventory.take(pc.indices_nonzero(mask).to_numpy().astype("int64"))


def _slices(inventory: Inventory) -> Slices:
    return {
        file.path: frozenset(delete.path for delete in file.deletes) for file in inventory.slices()
    }
