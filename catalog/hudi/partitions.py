"""What makes a folder a partition for those who list folders: a small file in it."""

from __future__ import annotations

from catalog.errors import ObjectExistsError
from catalog.location import Location
from catalog.storage import Storage

METADATA = ".hoodie_partition_metadata"


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
