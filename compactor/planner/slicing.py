"""Cut an inventory into the inventories of its file groups, equal however the rows were ordered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import DATA_FILES, Inventory
from compactor.planner.columns import Ints, one_array

_RUN_ROWS = 64 << 10


def cut_groups(inventory: Inventory, groups: Sequence[Ints]) -> Iterator[Inventory]:
    """Yield the inventory of each group, its files in the order of the given rows.

    A group shares no memory with the whole: a worker is sent its own rows and not the table's.
    """
    order = _delete_order(inventory.delete_files)
    for run in _runs(groups):
        files = inventory.files.take(pa.array(np.concatenate(run))).combine_chunks()
        ends = np.cumsum([0, *(len(group) for group in run)])
        own = _with_own_deletes(files, inventory.delete_files, ends=ends, order=order)
        files, delete_files, delete_ends = own
        for (start, end), deletes in zip(pairwise(ends), pairwise(delete_ends), strict=True):
            yield Inventory(_cut_files(files, int(start), int(end)), _cut(delete_files, *deletes))


def _runs(groups: Sequence[Ints]) -> Iterator[Sequence[Ints]]:
    """Divide the groups, so that not all of their files are copied twice at a time."""
    ends = np.cumsum([len(group) for group in groups], dtype=np.int64)
    cuts = np.flatnonzero(np.diff(ends // _RUN_ROWS)) + 1
    for first, last in pairwise([0, *cuts.tolist(), len(groups)]):
        if first < last:
            yield groups[first:last]


def _with_own_deletes(
    files: pa.Table, delete_files: pa.Table, *, ends: Ints, order: Ints
) -> tuple[pa.Table, pa.Table, Ints]:
    """Give every group delete files of its own, numbered from 0 in `order`.

    Returns:
        The files with the new numbers, ascending for each file; the delete files group by group;
        and where those of each group end.
    """
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    lists = one_array(files["deletes"])
    file = pc.list_parent_indices(lists).to_numpy()
    group = np.searchsorted(ends, file, side="right") - 1
    pairs = group * len(order) + ranks[pc.list_flatten(lists).to_numpy()]
    kinds, numbers = np.unique(pairs, return_inverse=True)
    delete_ends = np.searchsorted(kinds, np.arange(len(ends)) * len(order))
    numbers = (numbers - delete_ends[group])[np.lexsort((numbers, file))].astype(np.int32)
    offsets = np.cumsum(np.append(0, pc.list_value_length(lists).to_numpy()), dtype=np.int32)
    own = pa.ListArray.from_arrays(pa.array(offsets), pa.array(numbers), type=lists.type)
    taken = delete_files.take(pa.array(order[kinds % max(len(order), 1)])).combine_chunks()
    return _with_column(files, "deletes", own), taken, delete_ends


def _delete_order(delete_files: pa.Table) -> Ints:
    """Order delete files by (sequence number, path)."""
    keys = [("sequence_number", "ascending"), ("path", "ascending")]
    order: Ints = pc.sort_indices(delete_files, sort_keys=keys).to_numpy().astype(np.int64)
    return order


def _cut(table: pa.Table, start: int, end: int) -> pa.Table:
    """Copy some rows: a slice would be sent to workers with the memory of the whole table."""
    return table.take(pa.array(np.arange(start, end)))


def _cut_files(files: pa.Table, start: int, end: int) -> pa.Table:
    part = _cut(files, start, end)
    for name in ("partition_key", "partition"):
        # One value per group, while the dictionary holds those of all the others.
        part = _with_column(part, name, constant_column(part[name][0].as_py(), end - start))
    return part


def constant_column(value: str, count: int) -> pa.DictionaryArray:
    """Return a dictionary column that repeats one value."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), [value])


def _with_column(files: pa.Table, name: str, values: pa.Array) -> pa.Table:
    position = DATA_FILES.get_field_index(name)
    return files.set_column(position, DATA_FILES.field(position), values)
