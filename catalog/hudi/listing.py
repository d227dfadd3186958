"""The files of a table's partitions, found by listing its storage.

A partition is a directory with a file `.hoodie_partition_metadata`; what lies below one is no
partition, and what lies elsewhere is no data. Tables with a metadata table need no listing.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from catalog.hudi.slices import LISTING
from catalog.location import Location
from catalog.storage import Storage

_META_FOLDER = ".hoodie"
_PARTITION_METADATA = ".hoodie_partition_metadata"


def list_files(storage: Storage, root: Location) -> pa.Table:
    """Return the files of all partitions, schema `LISTING`."""
    depth = len(root.segments)
    found = (
        (one.location.segments[depth:], one.size_bytes)
        for one in storage.list(root)
        if one.location.segments[depth] != _META_FOLDER
    )
    return partition_files(("/".join(path[:-1]), path[-1], size) for path, size in found)


def partition_files(files: Iterable[tuple[str, str, int]]) -> pa.Table:
    """Return those of the files, as (directory, name, size), that are in partitions.  Pure."""
    folders: dict[str, tuple[list[str], list[int]]] = {}
    partitions = set()
    for folder, name, size_bytes in files:
        names, sizes = folders.setdefault(folder, ([], []))
        names.append(name)
        sizes.append(size_bytes)
        if name.startswith(_PARTITION_METADATA):
            partitions.add(folder)
    columns: tuple[list[str], list[str], list[int]] = ([], [], [])
    for folder in sorted(partitions):
        if not _is_below(folder, partitions):
            names, sizes = folders[folder]
            columns[0].extend([folder] * len(names))
            columns[1].extend(names)
            columns[2].extend(sizes)
    return pa.table(list(columns), schema=LISTING)


def _is_below(folder: str, partitions: set[str]) -> bool:
    parts = folder.split("/")
    above = ("/".join(parts[:count]) for count in range(len(parts)))
    return bool(folder) and any(one in partitions for one in above)
