"""Partitions as folders: a small file makes one, and not every name of one can be a place."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import ObjectExistsError
from catalog.location import Location
from catalog.storage import Storage

METADATA = ".hoodie_partition_metadata"
# What `catalog.location` refuses, in local paths and in URIs.
_NOWHERE = r"[\x00-\x1f\x7f\x{80}-\x{9f}]|^[A-Za-z][A-Za-z0-9+.-]*:.*[?#]"


def is_named(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Tell which paths of files, as the metadata table has them, are places that can be opened."""
    return pc.invert(pc.match_substring_regex(paths, _NOWHERE))


def mark_partition(storage: Storage, root: Location, file: Location, instant: str) -> None:
    """Say that the folder of a data file is a partition, unless it has been said before.

    Args:
        storage: where the table is.
        root: its directory.
        file: of the partition.
        instant: that brings the first file.
    """
    folders = file.relative_to(root).split("/")[:-1]
    pairs = {"commitTime": instant, "partitionDepth": len(folders)}
    text = "#partition metadata\n" + "".join(f"{name}={value}\n" for name, value in pairs.items())
    try:
        storage.put_if_absent(root.child(*folders, METADATA), text.encode())
    except ObjectExistsError:
        return
