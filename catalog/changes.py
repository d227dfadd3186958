"""What a commit of changes is, alike for every format: all of it or nothing.  Pure.

A change was made by looking for rows in its base. It stands where it would have been made in the
same way on the newer snapshot: its files are as they were, and no row has come in that it might
have found. Rows that others have deleted from other files would not have been found either, and
rewrites bring no rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from catalog.commits import Commit, CommitKind, Conflict, Rewrite


def whole(commit: Commit, conflicts: tuple[Conflict, ...]) -> tuple[Conflict, ...]:
    """Return what conflicts once it is known what does by itself: all of a change or nothing."""
    if commit.kind is not CommitKind.CHANGE or not conflicts:
        return conflicts
    reasons = {one.group_id: one.reason for one in conflicts}
    others = f"it belongs to group {conflicts[0].group_id}: {conflicts[0].reason}"
    groups = (rewrite.group_id for rewrite in commit.rewrites)
    return tuple(Conflict(group, reasons.get(group, others)) for group in groups)


def has_landed(commit: Commit, added: Collection[str]) -> bool:
    """Whether a change is among the data files that were added since its base."""
    return any(output.path in added for one in commit.rewrites for output in one.added)


def operation_of(rewrites: Iterable[Rewrite]) -> str:
    """Return what a change does, in the words of Iceberg."""
    rewrites = tuple(rewrites)
    if not any(one.files.file_count for one in rewrites):
        return "append"
    return "overwrite" if any(one.added for one in rewrites) else "delete"
