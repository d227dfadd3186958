"""Which rewrites still stand against a newer version, and which do once deletes are carried over.

Pure. An input that has lost more rows since it was planned is no conflict by itself: where the rows
of a rewrite are in order, and the table has deletion vectors, the same rows can be deleted from the
outputs. So can all rows of an input that others have replaced: whatever became of them is in other
files by now. Everything else is judged by the rule that all formats share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from catalog.commits import Conflict, Rewrite
from catalog.conflicts import LiveFile, not_landed, split
from catalog.delta.actions import Add
from catalog.model import FileSlice

# A rewrite of which others have replaced more is not worth it: most of its outputs would be dead.
_REPLACED_SHARE_MAX = 0.5
# Fewer than two files cannot become fewer.
_INPUTS_LEFT_MIN = 2
# Stands for a file whose rows have other ids than were planned with: no time is before the epoch.
_OTHER_ROWS = -1


@dataclass(frozen=True, slots=True)
class Standing:
    """What of a commit can follow a version.

    Attributes:
        rewrites: those that stand.
        conflicts: those that do not; those that are in the table already are in neither.
        grown: inputs of the former that have lost rows since they were planned.
        replaced: inputs of the former that others have replaced.
    """

    rewrites: tuple[Rewrite, ...]
    conflicts: tuple[Conflict, ...]
    grown: frozenset[str]
    replaced: frozenset[str] = frozenset()


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
    carrying = [one for one in rewrites if carries_deletes and one.keeps_order and one.added]
    grown = frozenset(
        slice_.path
        for rewrite in carrying
        for slice_ in rewrite.files.slices()
        if _may_have_grown(slice_, live.get(slice_.path))
    )
    replaced = frozenset(path for one in carrying for path in _replaced(one, live))
    planned = {one.path: one for rewrite in rewrites for one in rewrite.files.slices()}
    found = {
        path: _as_live(planned[path], live.get(path), is_forgiven=path in grown)
        for path in planned
        if path in live or path in replaced
    }
    stand, conflicts = split(rewrites, found)
    inputs = _inputs(stand)
    conflicts = not_landed(conflicts, rewrites, live.keys())
    return Standing(stand, conflicts, grown=grown & inputs, replaced=replaced & inputs)


def _inputs(rewrites: Iterable[Rewrite]) -> frozenset[str]:
    return frozenset(path for one in rewrites for path in one.files.files["path"].to_pylist())


def _replaced(rewrite: Rewrite, live: Mapping[str, Add]) -> frozenset[str]:
    """Return the inputs that others have replaced; none where too little would be left.

    Of a rewrite that is in the table already all inputs are gone: they are no others' work.
    """
    if any(output.path in live for output in rewrite.added):
        return frozenset()
    rows = {one.path: one.row_count - _dropped(one) for one in rewrite.files.slices()}
    gone = rows.keys() - live.keys()
    is_worth_it = len(rows) - len(gone) >= _INPUTS_LEFT_MIN and sum(
        rows[path] for path in gone
    ) <= _REPLACED_SHARE_MAX * sum(rows.values())
    return frozenset(gone) if is_worth_it else frozenset()


def _dropped(slice_: FileSlice) -> int:
    return sum(delete.row_count for delete in slice_.deletes)


def _may_have_grown(planned: FileSlice, add: Add | None) -> bool:
    """Whether a file has another deletion vector with more rows; which ones is seen in it."""
    if add is None or add.deletion_vector is None:
        return False
    is_other = {add.deletion_vector.unique_id} != {delete.path for delete in planned.deletes}
    return is_other and add.deletion_vector.cardinality >= _dropped(planned)


def _as_live(planned: FileSlice, add: Add | None, *, is_forgiven: bool) -> LiveFile:
    """Return a file as the shared rule sees it: one that was replaced, as it was planned."""
    if add is None:
        return _as_planned(planned)
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


def _as_planned(planned: FileSlice) -> LiveFile:
    return LiveFile(
        size_bytes=planned.size_bytes,
        row_count=planned.row_count,
        sequence_number=planned.sequence_number,
        delete_paths=frozenset(delete.path for delete in planned.deletes),
    )
