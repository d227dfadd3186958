"""Which slices have their logs folded into their data files, where a table is told beforehand.

Such a table takes one kind of work at a time: while logs are to be folded, files are not replaced.
Each slice is a group of its own and becomes one file in its place. What stands announced already is
carried out as it is, before anything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.announcing import Announced, Standing, WorkKind
from compactor.planner.columns import FileColumns, Flags, Ints
from compactor.planner.pack import Packing
from compactor.planner.policy import Policy
from compactor.planner.select import Candidates, Need, Needs, Stay, find_barred


@dataclass(frozen=True, slots=True)
class Folding:
    """Slices whose logs are folded.

    Attributes:
        announced: what the table is told.
        candidates: the slices, and why others with enough logs stay.
        packing: a group for each.
    """

    announced: Announced
    candidates: Candidates
    packing: Packing


def find_folding(
    columns: FileColumns, delete_bytes: Ints, standing: Standing, policy: Policy, *, now_ms: int
) -> Folding | None:
    """Choose the slices to be folded; None where there is nothing to fold.

    Args:
        columns: the slices; where work is to be carried out, those of it.
        delete_bytes: the size of each log, in the order of the inventory.
        standing: what is announced.
        policy: what the owner wants.
        now_ms: milliseconds since the epoch.
    """
    log_bytes = _log_bytes(columns, delete_bytes)
    is_due = _is_due(columns, log_bytes, policy)
    stays = np.zeros(len(is_due), dtype=np.uint8)
    if standing.work_id:
        is_chosen = np.ones(len(is_due), dtype=np.bool_)
    else:
        barred = find_barred(columns, policy, now_ms)
        barred[_among(columns, standing.planned)] = Stay.PLANNED
        stays[is_due] = barred[is_due]
        is_chosen = _largest(is_due & (barred == 0), log_bytes, standing.slices_max)
        stays[is_due & (barred == 0) & ~is_chosen] = Stay.LATER
    if not is_chosen.any():
        return None
    rows = np.flatnonzero(is_chosen)
    starts = np.arange(len(rows))
    dropped = np.minimum(
        columns.links.rows_dropped(np.ones(len(is_due), np.bool_)), columns.row_count
    )
    candidates = Candidates(
        needs=(is_due | is_chosen).astype(np.uint8) * np.uint8(Need.LOGS),
        is_selected=is_chosen,
        stays=stays,
        rows_dropped=dropped,
        kept_bytes=np.where(columns.size_bytes > 0, columns.size_bytes, log_bytes).astype(float),
    )
    announced = Announced(WorkKind.FOLD, standing.work_id)
    return Folding(announced, candidates, Packing(rows, starts, starts + 1))


def held_files(columns: FileColumns, standing: Standing) -> Needs:
    """Return why slices may not be replaced by others; 0 where they may."""
    held = np.zeros(len(columns.size_bytes), dtype=np.uint8)
    held[_among(columns, standing.bound)] = Stay.BOUND
    held[_among(columns, standing.planned)] = Stay.PLANNED
    return held


def _is_due(columns: FileColumns, log_bytes: Ints, policy: Policy) -> Flags:
    """Tell which slices have enough logs: many, large ones, or nothing else."""
    logs = columns.links.delete_files()
    is_large = log_bytes >= np.maximum(policy.delete_ratio * columns.size_bytes, 1)
    # Footers of small files outweigh their rows.
    rows = columns.links.rows_dropped(np.ones(len(logs), np.bool_))
    has_many_rows = (rows > 0) & (rows >= policy.delete_ratio * columns.row_count)
    due: Flags = (logs >= policy.delete_files_min) | is_large | has_many_rows
    return due & (logs > 0)


def _log_bytes(columns: FileColumns, delete_bytes: Ints) -> Ints:
    sums = np.zeros(len(columns.size_bytes), dtype=np.int64)
    np.add.at(sums, columns.links.file, delete_bytes[columns.links.delete])
    return sums


def _largest(is_wanted: Flags, log_bytes: Ints, count: int) -> Flags:
    """Return so many of the wanted slices, those with the largest logs."""
    rows = np.flatnonzero(is_wanted)
    order = np.argsort(-log_bytes[rows], kind="stable")
    found = np.zeros(len(is_wanted), dtype=np.bool_)
    found[rows[order[:count]]] = True
    return found


def _among(columns: FileColumns, paths: frozenset[str]) -> Flags:
    if not paths:
        return np.zeros(len(columns.size_bytes), dtype=np.bool_)
    found = pc.is_in(columns.paths, value_set=pa.array(sorted(paths), pa.string()))
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)
