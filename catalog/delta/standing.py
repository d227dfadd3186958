"""Which rewrites still stand against a newer version, and which do once deletes are carried over.

Pure. An input that has lost more rows since it was planned is no conflict by itself: where the rows
of a rewrite are in order, and the table has deletion vectors, the same rows can be deleted from the
outputs. Everything else is judged by the rule that all formats share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from catalog.conflicts import LiveFile, not_landed, split
from catalog.delta.actions import Add
from catalog.delta.properties import is_set
from catalog.delta.protocol import features_of
from catalog.delta.state import TableState
from catalog.model import Conflict, FileSlice, Rewrite

# Stands for a file whose rows have other ids than were planned with: no time is before the epoch.
_OTHER_ROWS = -1


@dataclass(frozen=True, slots=True)
class Standing:
    """What of a commit can follow a version.

    Attributes:
        rewrites: those that stand.
        conflicts: those that do not; those that are in the table already are in neither.
        grown: inputs of the former that have lost rows since they were planned.
    """

    rewrites: tuple[Rewrite, ...]
    conflicts: tuple[Conflict, ...]
    grown: frozenset[str]


def standing(
    rewrites: Iterable[Rewrite], live: Mapping[str, Add], *, carries_deletes: bool
) -> Standing:
    """Judge rewrites by a newer version.

    Args:
        rewrites: what is to be committed.
        live: files of the newer version by absolute location, at least those the rewrites name.
        carries_deletes: whether outputs can be given deletion vectors.
    """
    rewrites = tuple(rewrites)
    grown = frozenset(
        slice_.path
        for rewrite in rewrites
        if carries_deletes and rewrite.keeps_order and rewrite.added
        for slice_ in rewrite.files.slices()
        if _may_have_grown(slice_, live.get(slice_.path))
    )
    planned = {one.path: one for rewrite in rewrites for one in rewrite.files.slices()}
    found = {
        path: _as_live(planned[path], live[path], is_forgiven=path in grown)
        for path in planned
        if path in live
    }
    stand, conflicts = split(rewrites, found)
    return Standing(stand, not_landed(conflicts, rewrites, live.keys()), grown & _inputs(stand))


def carries_deletes(state: TableState) -> bool:
    """Whether deletion vectors may be written to the table."""
    is_on = is_set(state.metadata.configuration, "delta.enableDeletionVectors")
    return is_on and "deletionVectors" in features_of(state.protocol)


def _inputs(rewrites: Iterable[Rewrite]) -> frozenset[str]:
    return frozenset(path for one in rewrites for path in one.files.files["path"].to_pylist())


def _may_have_grown(planned: FileSlice, add: Add | None) -> bool:
    """Whether a file has another deletion vector with more rows; which ones is seen in it."""
    if add is None or add.deletion_vector is None:
        return False
    before = sum(delete.row_count for delete in planned.deletes)
    is_other = {add.deletion_vector.unique_id} != {delete.path for delete in planned.deletes}
    return is_other and add.deletion_vector.cardinality >= before


def _as_live(planned: FileSlice, add: Add, *, is_forgiven: bool) -> LiveFile:
    ids = (add.base_row_id, add.row_version)
    has_same_rows = ids == (planned.first_row_id, planned.row_version)
    vectors = [] if add.deletion_vector is None else [add.deletion_vector.unique_id]
    return LiveFile(
        size_bytes=add.size_bytes,
        # Not all logs count rows; the size and the name of a file stand for its content.
        row_count=planned.row_count,
        sequence_number=planned.sequence_number if has_same_rows else _OTHER_ROWS,
        delete_paths=frozenset(
            (delete.path for delete in planned.deletes) if is_forgiven else vectors
        ),
    )
