"""Deletion vectors of Iceberg: which blob of which Puffin file, and the positions in it.

Several vectors share a file. So each is known by a name of its own, made of its place and its file:
nothing of a table has such a path.

Specification: https://iceberg.apache.org/spec/#deletion-vectors
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from catalog.deletion_vectors import FRAME_BYTES, Positions, decode, unframed
from catalog.errors import CorruptTableError
from catalog.iceberg.vector_files import ENDING, the_vector_in
from catalog.location import Location
from catalog.model import DeleteFile
from catalog.storage import Storage
from catalog.storage.values import ByteRange

_NAME = re.compile(r"vector:(\d+)\+(\d+):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class VectorPlace:
    """Where a deletion vector is.

    Attributes:
        path: its file.
        offset: where it begins there.
        size_bytes: its length.
    """

    path: str
    offset: int
    size_bytes: int

    @property
    def name(self) -> str:
        """What tells it from all files of the table, and from all other vectors."""
        return f"vector:{self.offset}+{self.size_bytes}:{self.path}"

    @staticmethod
    def of(name: str) -> VectorPlace | None:
        """Return the place that a name tells of; None where it is the path of a delete file."""
        found = _NAME.fullmatch(name)
        return VectorPlace(found[3], int(found[1]), int(found[2])) if found else None


def file_name(path: str, offset: int | None, size_bytes: int | None) -> str:
    """Return what tells a file from all others, by its path and by the place of a vector in it.

    Raises:
        CorruptTableError: it cannot be a place.
    """
    if offset is None:
        return path
    if size_bytes is None or offset < 0 or size_bytes < FRAME_BYTES:
        raise CorruptTableError(f"a deletion vector of {path} is at {offset}, {size_bytes} bytes")
    return VectorPlace(path, offset, size_bytes).name


def read_vectors(
    vectors: Iterable[DeleteFile], storage: Storage, locate: Callable[[str], Location]
) -> Mapping[str, Positions]:
    """Read vectors, those of one file together; positions are ascending.

    Raises:
        CorruptTableError: one is damaged, or deletes another number of rows than announced.
        ObjectNotFoundError: the file of one does not exist.
        LocationError: one lies outside of the table's prefixes.
    """
    by_file: dict[str, list[tuple[DeleteFile, VectorPlace]]] = {}
    for vector in vectors:
        place = VectorPlace.of(vector.path)
        if place is None and vector.path.endswith(ENDING):
            # Not in a table yet, so that there is but one in the file.
            blob = the_vector_in(locate(vector.path), storage)
            place = VectorPlace(vector.path, *blob.place)
        if place is not None:
            by_file.setdefault(place.path, []).append((vector, place))
    found: dict[str, Positions] = {}
    for path, inside in by_file.items():
        ranges = [ByteRange(place.offset, place.size_bytes) for _, place in inside]
        frames = storage.read_ranges(locate(path), ranges)
        for (vector, _), frame in zip(inside, frames, strict=True):
            payload = unframed(bytes(frame), vector.path)
            found[vector.path] = decode(payload, cardinality=vector.row_count)
    return found
