"""Markers: an empty file for each data file of an instant, written before it exists.

Whoever rolls an instant back, or carries it out again, deletes what has a marker: so a file that a
dead process left is never taken for one that was committed. Direct markers, as Hudi writes them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from catalog.location import Location
from catalog.storage import Storage

_EXTENSION = ".marker"
_KIND = "CREATE"


def mark(storage: Storage, root: Location, instant: str, location: Location) -> None:
    """Note that a data file is about to be written.

    Args:
        storage: where the table is.
        root: its directory.
        instant: that the file belongs to.
        location: of the file.
    """
    path = location.relative_to(root).split("/")
    name = f"{path[-1]}{_EXTENSION}.{_KIND}"
    storage.write(_folder(root, instant).child(*path[:-1], name), b"")


def marked_files(storage: Storage, root: Location, instant: str) -> Iterator[Location]:
    """Yield the data files that have a marker, written or not; logs are not among them."""
    folder = _folder(root, instant)
    for one in storage.list(folder):
        path, extension, kind = one.location.relative_to(folder).rpartition(_EXTENSION)
        if extension and kind in (".CREATE", ".MERGE"):
            yield root.child(*path.split("/"))


def remove_failed(
    storage: Storage, root: Location, instant: str, *, written: Collection[str]
) -> None:
    """Delete base files of an instant that it will not name once it is completed.

    Args:
        storage: where the table is.
        root: its directory.
        instant: it is pending, and nobody writes files of it any more.
        written: names of the files that it will name.
    """
    for location in marked_files(storage, root, instant):
        name = location.name
        if name not in written and not name.startswith(".") and f"_{instant}." in name:
            storage.delete([location])


def remove_markers(storage: Storage, root: Location, instant: str) -> None:
    """Delete the markers of an instant that is completed, or gone."""
    storage.delete([one.location for one in storage.list(_folder(root, instant))])


def _folder(root: Location, instant: str) -> Location:
    return root.child(".hoodie", ".temp", instant)
