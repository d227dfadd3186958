"""Cut an inventory into the inventories of its file groups, equal however the rows were ordered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import DATA_FILES, Inventory
from compactor.planner.columns import Ints, one_array


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
    part = inventory.take(np.arange(start, end, dtype=np.int64))
    files = part.files
    for name in ("partition_key", "partition"):
        files = _with_column(files, name, _compacted(files[name]))
    return Inventory(files, part.delete_files)


def _compacted(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Drop the dictionary values that only other groups use."""
    return one_array(column).dictionary_decode().dictionary_encode()


def _with_column(files: pa.Table, name: str, values: pa.Array) -> pa.Table:
    position = DATA_FILES.get_field_index(name)
    return files.set_column(position, DATA_FILES.field(position), values)
