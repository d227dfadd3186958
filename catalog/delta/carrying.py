"""Gives the outputs of rewrites the deletes that came while they were written.

Vectors of a few rows stand in the log itself; larger ones share a file that is named after the
commit and the version, so that what an attempt left behind is found again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from catalog.commits import Rewrite
from catalog.deletion_vectors import Positions, encode
from catalog.delta.actions import Add
from catalog.delta.deletion_vectors import (
    DeletionVector,
    file_name,
    file_of_vectors,
    inline_vector,
    read_vectors,
)
from catalog.delta.paths import Paths
from catalog.delta.remap import RewrittenFile, has_only_grown, remap
from catalog.delta.standing import Standing
from catalog.errors import CorruptTableError
from catalog.location import Location
from catalog.model import KEEP_ALL, FileSlice
from catalog.storage import Storage
from catalog.table import TableFiles

# A vector of this size takes no more of the log than the statistics of a file do.
_INLINE_BYTES_MAX = 1024
_NAMESPACE = uuid.UUID("5cb4bb0c-6ab7-43f1-a5ae-83b95d9ab6ea")


@dataclass(frozen=True, slots=True)
class Carrier:
    """Reads what was deleted since rewrites were planned, and where it is in their outputs.

    Attributes:
        storage: where the files are.
        paths: where files of the table may lie.
        planned: the workers' side of the version that was planned from.
    """

    storage: Storage
    paths: Paths
    planned: TableFiles

    def carried(
        self, rewrite: Rewrite, live: Mapping[str, Add], found: Standing
    ) -> dict[str, Positions] | None:
        """Return the rows to be deleted from the outputs of a rewrite, by path.

        None when rows that were deleted at the time of the plan are back: they are in no output.

        Args:
            rewrite: its outputs keep the order of rows.
            live: its inputs by absolute location, as the head has them.
            found: which of them may have lost rows, or have been replaced.

        Raises:
            CorruptTableError: a deletion vector cannot be read.
        """
        slices = list(rewrite.files.slices())
        touched = [row for row, one in enumerate(slices) if one.path in found.grown]
        if not touched and not any(one.path in found.replaced for one in slices):
            return {}
        before = self.planned.selections(rewrite.files.take(np.array(touched)))
        now = self._deleted([live[slices[row].path] for row in touched])
        inputs = [
            _replaced(one)
            if one.path in found.replaced
            else _rewritten(one, before.get(one.path, KEEP_ALL).dropped, now.get(one.path))
            for one in slices
        ]
        if not all(map(has_only_grown, inputs)):
            return None
        positions = remap(inputs, [output.row_count for output in rewrite.added])
        pairs = zip(rewrite.added, positions, strict=True)
        return {output.path: some for output, some in pairs if len(some)}

    def _deleted(self, adds: Iterable[Add]) -> dict[str, Positions]:
        vectors = {
            self.paths.resolve_one(add.path): add.deletion_vector
            for add in adds
            if add.deletion_vector is not None
        }
        found = read_vectors(
            self.storage,
            vectors.values(),
            table=self.paths.root,
            confinement=self.paths.confinement,
        )
        return {path: found[vector] for path, vector in vectors.items()}


@dataclass(frozen=True, slots=True)
class CarriedVectors:
    """Deletion vectors of outputs, and the file that those which are not inline are kept in.

    Attributes:
        by_path: the vector of each output that has one.
        location: where the file belongs; None when none is needed.
        content: of the file.
    """

    by_path: Mapping[str, DeletionVector]
    location: Location | None = None
    content: bytes = b""


def vectors_of(
    positions: Mapping[str, Positions], root: Location, *, commit_id: str, version: int
) -> CarriedVectors:
    """Return the deletion vectors of outputs; equal arguments, equal result.

    Args:
        positions: rows to be deleted, by the path of the output.
        root: directory of the table.
        commit_id: the commit.
        version: that it is to become.
    """
    large = {path: one for path, one in positions.items() if len(encode(one)) > _INLINE_BYTES_MAX}
    small = {path: inline_vector(one) for path, one in positions.items() if path not in large}
    if not large:
        return CarriedVectors(small)
    identity = _identity(commit_id, version)
    content, vectors = file_of_vectors(identity, list(large.values()))
    together = small | dict(zip(large, vectors, strict=True))
    return CarriedVectors(together, vector_file(root, commit_id, version), content)


def vector_file(root: Location, commit_id: str, version: int) -> Location:
    """Return where the deletion vectors of a commit would be kept if it became a version."""
    return root.child(file_name(_identity(commit_id, version)))


def _identity(commit_id: str, version: int) -> bytes:
    return uuid.uuid5(_NAMESPACE, f"{commit_id}/{version}").bytes


def _replaced(slice_: FileSlice) -> RewrittenFile:
    """Return a file as if it held nothing but the rows it was planned with, all deleted now."""
    rows = slice_.row_count - sum(delete.row_count for delete in slice_.deletes)
    return RewrittenFile(rows, 0, np.empty(0, np.int64), np.arange(rows))


def _rewritten(slice_: FileSlice, dropped: Positions, deleted: Positions | None) -> RewrittenFile:
    dropped_count = sum(delete.row_count for delete in slice_.deletes)
    if deleted is None:
        return RewrittenFile(slice_.row_count, dropped_count)
    if len(deleted) and deleted[-1] >= slice_.row_count:
        raise CorruptTableError(f"a deletion vector names rows that {slice_.path} does not have")
    return RewrittenFile(slice_.row_count, dropped_count, dropped, deleted)
