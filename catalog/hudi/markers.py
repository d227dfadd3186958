"""Markers: an empty file for each data file of an instant, written before it exists.

Whoever rolls an instant back, or carries it out again, deletes what has a marker: so a file that a
dead process left is never taken for one that was committed. We write direct markers, as Hudi does;
its writers with a timeline server put the names of theirs into a few files, which are read too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from catalog.location import Location
from catalog.storage import Storage

_EXTENSION = ".marker"
_KIND = "CREATE"
# Files of markers, a name in each line; `MARKERS.type` is no such file.
_BATCH = "MARKERS"
_BATCH_TYPE = "MARKERS.type"


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
    for path, kind in _markers(storage, root, instant):
        if kind in (".CREATE", ".MERGE"):
            yield root.child(*path.split("/"))


def touched_files(storage: Storage, root: Location, instant: str) -> Iterator[str]:
    """Yield the paths below the table of all files, logs too, that have a marker."""
    for path, _ in _markers(storage, root, instant):
        yield path


def _markers(storage: Storage, root: Location, instant: str) -> Iterator[tuple[str, str]]:
    """Yield the path that each marker is for, and its kind."""
    for name in _marker_names(storage, _folder(root, instant)):
        path, extension, kind = name.rpartition(_EXTENSION)
        if extension:
            yield path, kind


def _marker_names(storage: Storage, folder: Location) -> Iterator[str]:
    """Yield the paths of markers below their folder, direct or listed in files."""
    for one in storage.list(folder):
        name = one.location.relative_to(folder)
        if not name.startswith(_BATCH):
            yield name
        elif name != _BATCH_TYPE:
            # A line that a dying writer cut is no marker.
            yield from storage.read(one.location).decode(errors="replace").splitlines()


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
