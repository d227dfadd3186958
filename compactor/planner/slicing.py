"""Cut an inventory into the inventories of its file groups, equal however the rows were ordered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import DATA_FILES, Inventory
from compactor.planner.columns import Ints, one_array, take_texts
from compactor.planner.deferred import GroupSizes, deferred


def cut_groups(inventory: Inventory, groups: Sequence[Ints]) -> list[Inventory]:
    """Return the inventory of each group, its files in the order of the given rows.

    They are cut when somebody asks for them. What is cut shares no memory with the whole: a worker
    is sent its own rows and not the table's.
    """
    order = _delete_order(inventory.delete_files)
    counts = np.fromiter(map(len, groups), np.int64, len(groups))
    rows = np.concatenate([np.empty(0, np.int64), *groups])

    def cut(numbers: range) -> list[Inventory]:
        return list(_cut_run(inventory, [groups[number] for number in numbers], order))

    size_bytes = _sums(inventory.files["size_bytes"].to_numpy()[rows], counts)
    deletes = np.zeros_like(counts)
    if inventory.delete_files.num_rows:
        lengths = pc.list_value_length(inventory.files["deletes"]).to_numpy()
        deletes = _sums(lengths[rows].astype(np.int64), counts)
    return deferred(cut, GroupSizes(counts, size_bytes, deletes))


def _take(files: pa.Table, rows: Ints) -> pa.Table:
    place = files.column_names.index("path")
    others = files.drop_columns(["path"]).take(pa.array(rows))
    return others.add_column(place, files.field(place), take_texts(files["path"], rows))


def _sums(values: Ints, counts: Ints) -> Ints:
    """Add up runs of so many values each."""
    sums = np.append(0, np.cumsum(values))
    ends = np.cumsum(counts)
    result: Ints = sums[ends] - sums[ends - counts]
    return result


def _cut_run(inventory: Inventory, run: Sequence[Ints], order: Ints) -> Iterator[Inventory]:
    files = _take(inventory.files, np.concatenate(run)).unify_dictionaries()
    ends = np.cumsum([0, *(len(group) for group in run)])
    own = _with_own_deletes(files.combine_chunks(), inventory.delete_files, ends=ends, order=order)
    files, delete_files, delete_ends = own
    for (start, end), deletes in zip(pairwise(ends), pairwise(delete_ends), strict=True):
        yield Inventory(_cut_files(files, int(start), int(end)), _cut(delete_files, *deletes))


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
        value = part[name][0].as_py() if start < end else ""
        part = _with_column(part, name, constant_column(value, end - start))
    return part


def constant_column(value: str, count: int) -> pa.DictionaryArray:
    """Return a dictionary column that repeats one value."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), [value])


def _with_column(files: pa.Table, name: str, values: pa.Array) -> pa.Table:
    position = DATA_FILES.get_field_index(name)
    return files.set_column(position, DATA_FILES.field(position), values)
