"""Markers: an empty file for each data file of an instant, written before it exists.

Whoever rolls an instant back, or carries it out again, deletes what has a marker: so a file that a
dead process left is never taken for one that was committed. We write direct markers, as Hudi does;
its writers with a timeline server put the names of theirs into a few files, which are read too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from catalog.hudi.file_names import job_of
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
    for one in _markers(storage, root, instant):
        if one.is_data:
            yield root.child(*one.path.split("/"))


def touched_files(storage: Storage, root: Location, instant: str) -> Iterator[str]:
    """Yield the paths below the table of all files, logs too, that have a marker."""
    for one in _markers(storage, root, instant):
        yield one.path


def rivals(storage: Storage, root: Location, instant: str, *, own: Collection[str]) -> list[str]:
    """Return data files that others have begun for an instant since we began.

    Args:
        storage: where the table is.
        root: its directory.
        instant: that we carry out.
        own: what `job_of` says of our files.
    """
    found = [one for one in _markers(storage, root, instant) if one.is_data]
    ours = [one.modified_at for one in found if one.job in own]
    if not ours:
        return []
    # What came before is that of somebody who died, or had nothing left to write.
    return [one.path for one in found if one.job not in own and one.modified_at >= min(ours)]


@dataclass(frozen=True, slots=True)
class _Marker:
    """A marker.

    Attributes:
        path: of the file that it is for, below the table.
        kind: what becomes of the file, with a dot before it.
        modified_at: when it came; of several in a file, when the last of them did.
    """

    path: str
    kind: str
    modified_at: datetime

    @property
    def is_data(self) -> bool:
        """Whether the file is a base file."""
        return self.kind in (".CREATE", ".MERGE")

    @property
    def job(self) -> str:
        """What all outputs of one of our jobs have in their write tokens."""
        return job_of(self.path)


def _markers(storage: Storage, root: Location, instant: str) -> Iterator[_Marker]:
    for name, modified_at in _marker_names(storage, _folder(root, instant)):
        path, extension, kind = name.rpartition(_EXTENSION)
        if extension:
            yield _Marker(path, kind, modified_at)


def _marker_names(storage: Storage, folder: Location) -> Iterator[tuple[str, datetime]]:
    """Yield the paths of markers below their folder, direct or listed in files."""
    for one in storage.list(folder):
        name = one.location.relative_to(folder)
        if not name.startswith(_BATCH):
            yield name, one.modified_at
        elif name != _BATCH_TYPE:
            # A line that a dying writer cut is no marker.
            for line in storage.read(one.location).decode(errors="replace").splitlines():
                yield line, one.modified_at


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
