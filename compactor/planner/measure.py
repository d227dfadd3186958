"""Measure packed groups, all at once: files, bytes and deletes per group as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from catalog.model import Inventory
from compactor.planner.columns import FileColumns, Floats, Ints
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
        delete_rows: rows in them that name positions.
        key_rows: rows in them that name rows by their values.
        needs: number of files per kind of need; none for a need of no file.
        spliced_bytes: estimate of the bytes that are copied as they are.
        composed_bytes: the part of them that the store copies by itself.
        stretch_rows: estimate of the surviving rows of the longest stretch that is encoded, with
            nothing copied in it.
        encoded_file_bytes: the largest file of which rows are encoded.
    """

    files: Ints
    input_bytes: Ints
    kept_bytes: Ints
    kept_rows: Ints
    sequence_number: Ints
    delete_files: Ints
    delete_bytes: Ints
    delete_rows: Ints
    key_rows: Ints
    needs: Mapping[Need, Ints]
    spliced_bytes: Ints
    composed_bytes: Ints
    stretch_rows: Ints
    encoded_file_bytes: Ints


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
    occurring = int(np.bitwise_or.reduce(needs))
    groups, deletes = _deletes_by_group(columns, packing)
    kept_rows, size_bytes = _kept_rows(columns, candidates)[rows], columns.size_bytes[rows]
    spliced = expected.spliced[rows]
    encoded_rows = _encoded_rows(kept_rows, size_bytes, spliced)

    def total(delete_column: Ints) -> Ints:
        # Group by group in integers: weights of `bincount` would be rounded beyond 2**53.
        sums = np.zeros(packing.group_count, dtype=np.int64)
        np.add.at(sums, groups, delete_column[deletes])
        return sums

    delete_rows = inventory.delete_files["row_count"].to_numpy()
    is_by_key = inventory.delete_files["equality_ids"].is_valid().to_numpy()
    return GroupFigures(
        files=packing.ends - starts,
        input_bytes=_sums(size_bytes, starts),
        kept_bytes=_sums(np.rint(candidates.kept_bytes[rows]).astype(np.int64), starts),
        kept_rows=_sums(kept_rows, starts),
        sequence_number=_minima(columns.sequence_number[rows], starts),
        delete_files=np.bincount(groups, minlength=packing.group_count),
        delete_bytes=total(inventory.delete_files["size_bytes"].to_numpy()),
        delete_rows=total(np.where(is_by_key, 0, delete_rows)),
        key_rows=total(np.where(is_by_key, delete_rows, 0)),
        needs={
            need: _sums((needs & need > 0).astype(np.int64), starts)
            for need in Need
            if need & occurring
        },
        spliced_bytes=_sums(np.rint(spliced).astype(np.int64), starts),
        composed_bytes=_sums(np.rint(expected.composed[rows]).astype(np.int64), starts),
        stretch_rows=_longest_stretches(encoded_rows, packing),
        encoded_file_bytes=_maxima(np.where(encoded_rows > 0, size_bytes, 0), starts),
    )


def _kept_rows(columns: FileColumns, candidates: Candidates) -> Ints:
    kept = np.rint(columns.row_count - candidates.rows_dropped)
    return np.maximum(kept, 0).astype(np.int64)


def _encoded_rows(kept_rows: Ints, size_bytes: Ints, spliced: Floats) -> Ints:
    """Return how many rows of each file are encoded."""
    share = 1 - spliced / np.maximum(size_bytes, 1)
    return np.ceil(kept_rows * share).astype(np.int64)


def _longest_stretches(encoded_rows: Ints, packing: Packing) -> Ints:
    """Return the most rows of a group that follow each other in files that are encoded.

    What is copied ends a row group. A file that is copied in part is taken to end none.
    """
    if not len(encoded_rows):
        return encoded_rows
    is_first = encoded_rows == 0
    is_first[packing.starts] = True
    firsts = np.flatnonzero(is_first)
    sums = np.add.reduceat(encoded_rows, firsts)
    return np.maximum.reduceat(
        np.repeat(sums, np.diff(firsts, append=len(is_first))), packing.starts
    )


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


def _maxima(values: Ints, starts: Ints) -> Ints:
    return np.maximum.reduceat(values, starts) if len(starts) else starts


def _minima(values: Ints, starts: Ints) -> Ints:
    return np.minimum.reduceat(values, starts) if len(starts) else starts
