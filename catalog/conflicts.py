"""Which rewrites still stand against a newer snapshot: the rule that every table format shares.

The check compares states, never histories: a replaced slice must be in the newer snapshot exactly
as it was planned, with exactly the deletes it was planned with. So it does not matter how many
commits came between, what they called themselves, or in which order they did what they did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from catalog.commits import Conflict, Rewrite
from catalog.model import FileSlice


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A data file of the newer snapshot.

    Attributes:
        size_bytes: its length by the metadata.
        row_count: its stored rows by the metadata.
        sequence_number: its data sequence number.
        delete_paths: the delete files that drop rows of it.
        first_row_id: the id of its first row, where the format tells rows apart by this.
    """

    size_bytes: int
    row_count: int
    sequence_number: int
    delete_paths: frozenset[str]
    first_row_id: int | None = None


def split(
    rewrites: Iterable[Rewrite], live: Mapping[str, LiveFile]
) -> tuple[tuple[Rewrite, ...], tuple[Conflict, ...]]:
    """Separate the rewrites that still stand from those that another commit has invalidated.

    Args:
        rewrites: what is to be committed.
        live: the files of the newer snapshot by path, at least those that `rewrites` replace.
    """
    standing: list[Rewrite] = []
    conflicts: list[Conflict] = []
    taken: set[str] = set()
    for rewrite in rewrites:
        reason = _why_not(rewrite, live, taken)
        if reason is None:
            standing.append(rewrite)
            taken.update(rewrite.files.files["path"].to_pylist())
        else:
            conflicts.append(Conflict(rewrite.group_id, reason))
    return tuple(standing), tuple(conflicts)


def not_landed(
    conflicts: Iterable[Conflict], rewrites: Iterable[Rewrite], live_paths: Collection[str]
) -> tuple[Conflict, ...]:
    """Return the conflicts less those of groups whose outputs are in the newer snapshot.

    The inputs of such a group are gone because the group itself is committed already, by a request
    that was taken for lost. To call it a conflict would be to have live files deleted.

    Args:
        conflicts: what `split` returned.
        rewrites: what is to be committed.
        live_paths: the data files of the newer snapshot, at least the outputs among them.
    """
    landed = {
        rewrite.group_id
        for rewrite in rewrites
        if any(output.path in live_paths for output in rewrite.added)
    }
    return tuple(conflict for conflict in conflicts if conflict.group_id not in landed)


def all_conflict(rewrites: Iterable[Rewrite], reason: str) -> tuple[Conflict, ...]:
    """Return a conflict for every rewrite, for one reason that concerns them all."""
    return tuple(Conflict(rewrite.group_id, reason) for rewrite in rewrites)


def _why_not(rewrite: Rewrite, live: Mapping[str, LiveFile], taken: set[str]) -> str | None:
    for planned in rewrite.files.slices():
        if planned.path in taken:
            return f"{planned.path} is replaced by another group of the same commit"
        reason = _change(planned, live.get(planned.path))
        if reason is not None:
            return reason
    return None


def _change(planned: FileSlice, found: LiveFile | None) -> str | None:
    if found is None:
        return f"{planned.path} is no longer in the table"
    before = (planned.size_bytes, planned.row_count, planned.sequence_number)
    if before != (found.size_bytes, found.row_count, found.sequence_number):
        return f"{planned.path} was replaced by a file of the same name"
    if found.first_row_id not in (None, planned.first_row_id):
        return f"the rows of {planned.path} were given ids"
    planned_deletes = frozenset(delete.path for delete in planned.deletes)
    if added := found.delete_paths - planned_deletes:
        return f"rows of {planned.path} were deleted by {min(added)}"
    if gone := planned_deletes - found.delete_paths:
        return f"the deletes in {min(gone)} no longer apply to {planned.path}"
    return None
