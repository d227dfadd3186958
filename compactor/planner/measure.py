"""Measure packed groups, all at once: files, bytes and deletes per group as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from catalog.model import Inventory
from compactor.planner.columns import FileColumns, Ints
from compactor.planner.expect import Expected
from compactor.planner.pack import Packing
from compactor.planner.select import Candidates, Need


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """One entry per group, in packing order.

    Attributes:
        files: data files.
        input_bytes: their bytes.
        kept_bytes: estimate of the bytes of their surviving rows.
        kept_rows: estimate of those rows.
        sequence_number: of the oldest file.
        delete_files: different delete files that apply.
        delete_bytes: their bytes.
        delete_rows: rows in them.
        needs: number of files per kind of need.
        spliced_bytes: estimate of the bytes that are copied as they are.
        composed_bytes: the part of them that the store copies by itself.
    """

    files: Ints
    input_bytes: Ints
    kept_bytes: Ints
    kept_rows: Ints
    sequence_number: Ints
    delete_files: Ints
    delete_bytes: Ints
    delete_rows: Ints
    needs: Mapping[Need, Ints]
    spliced_bytes: Ints
    composed_bytes: Ints


def measure_groups(
    inventory: Inventory,
    columns: FileColumns,
    *,
    candidates: Candidates,
    packing: Packing,
    expected: Expected,
) -> GroupFigures:
    """Measure every group."""
    rows, starts = packing.rows, packing.starts
    needs = candidates.needs[rows]
    groups, deletes = _deletes_by_group(columns, packing)

    def total(delete_column: Ints) -> Ints:
        # Group by group in integers: weights of `bincount` would be rounded beyond 2**53.
        sums = np.zeros(packing.group_count, dtype=np.int64)
        np.add.at(sums, groups, delete_column[deletes])
        return sums

    return GroupFigures(
        files=packing.ends - starts,
        input_bytes=_sums(columns.size_bytes[rows], starts),
        kept_bytes=_sums(np.rint(candidates.kept_bytes[rows]).astype(np.int64), starts),
        kept_rows=_sums(_kept_rows(columns, candidates)[rows], starts),
        sequence_number=_minima(columns.sequence_number[rows], starts),
        delete_files=np.bincount(groups, minlength=packing.group_count),
        delete_bytes=total(inventory.delete_files["size_bytes"].to_numpy()),
        delete_rows=total(inventory.delete_files["row_count"].to_numpy()),
        needs={need: _sums((needs & need > 0).astype(np.int64), starts) for need in Need},
        spliced_bytes=_sums(np.rint(expected.spliced[rows]).astype(np.int64), starts),
        composed_bytes=_sums(np.rint(expected.composed[rows]).astype(np.int64), starts),
    )


def _kept_rows(columns: FileColumns, candidates: Candidates) -> Ints:
    kept = np.rint(columns.row_count - candidates.rows_dropped)
    return np.maximum(kept, 0).astype(np.int64)


def _deletes_by_group(columns: FileColumns, packing: Packing) -> tuple[Ints, Ints]:
    """Return the different (group, row of the delete file) pairs."""
    links = columns.links
    group = packing.group_of_row(links.file_count)[links.file]
    is_grouped = group >= 0
    delete_count = int(links.delete.max(initial=0)) + 1
    pairs = np.unique(group[is_grouped] * delete_count + links.delete[is_grouped])
    return pairs // delete_count, pairs % delete_count


def _sums(values: Ints, starts: Ints) -> Ints:
    return np.add.reduceat(values, starts) if len(starts) else starts


def _minima(values: Ints, starts: Ints) -> Ints:
    return np.minimum.reduceat(values, starts) if len(starts) else starts
