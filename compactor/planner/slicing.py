"""Cut an inventory into the inventories of its file groups, equal however the rows were ordered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import DATA_FILES, DELETE_FILES, Inventory
from compactor.planner.columns import Ints, one_array

_NO_DELETES = DELETE_FILES.empty_table()


def cut_groups(inventory: Inventory, groups: Sequence[Ints]) -> Iterator[Inventory]:
    """Yield the inventory of each group, its files in the order of the given rows.

    A group shares no memory with the whole: a worker is sent its own rows and not the table's.
    """
    rows = np.concatenate([np.empty(0, dtype=np.int64), *groups])
    taken = inventory.take(rows)
    ordered = _with_ordered_deletes(Inventory(taken.files.combine_chunks(), taken.delete_files))
    ends = np.cumsum([len(group) for group in groups])
    for group, end in zip(groups, ends, strict=True):
        yield _cut(ordered, int(end) - len(group), int(end))


def _with_ordered_deletes(inventory: Inventory) -> Inventory:
    """Number the delete files by (sequence number, path), and list them so for every file."""
    if not inventory.delete_files.num_rows:
        return inventory
    order = pc.sort_indices(
        inventory.delete_files,
        sort_keys=[("sequence_number", "ascending"), ("path", "ascending")],
    ).to_numpy()
    numbers = np.empty(len(order), dtype=np.int32)
    numbers[order] = np.arange(len(order), dtype=np.int32)
    lists = one_array(inventory.files["deletes"])
    entries = numbers[pc.list_flatten(lists).to_numpy()]
    parents = pc.list_parent_indices(lists).to_numpy()
    entries = entries[np.lexsort((entries, parents))]
    ordered = pa.ListArray.from_arrays(
        lists.offsets, pa.array(entries, pa.int32()), type=lists.type
    )
    return Inventory(
        _with_column(inventory.files, "deletes", ordered),
        inventory.delete_files.take(pa.array(order)),
    )


def _cut(inventory: Inventory, start: int, end: int) -> Inventory:
    rows = np.arange(start, end, dtype=np.int64)
    if _has_deletes(inventory, start, end):
        part = inventory.take(rows)
    else:
        part = Inventory(inventory.files.take(pa.array(rows)), _NO_DELETES)
    files = part.files
    for name in ("partition_key", "partition"):
        # One value per group: the dictionary holds those of all the others.
        column = constant_column(files[name][0].as_py(), end - start)
        files = _with_column(files, name, column)
    return Inventory(files, part.delete_files)


def _has_deletes(inventory: Inventory, start: int, end: int) -> bool:
    if not inventory.delete_files.num_rows:
        return False
    return len(pc.list_flatten(one_array(inventory.files["deletes"])[start:end])) > 0


def constant_column(value: str, count: int) -> pa.DictionaryArray:
    """Return a dictionary column that repeats one value."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), [value])


def _with_column(files: pa.Table, name: str, values: pa.Array) -> pa.Table:
    position = DATA_FILES.get_field_index(name)
    return files.set_column(position, DATA_FILES.field(position), values)
