"""A branch of a table, seen as if it were the whole of it: its newest snapshot is the current one.

Schema, specs and properties are the table's, and so is the count of sequence numbers. What is
committed goes to the branch; no other reference is moved.

Specification: https://iceberg.apache.org/spec/#snapshot-references
"""

from __future__ import annotations

from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType

from catalog.errors import SnapshotNotFoundError, UnsupportedTableError

MAIN = str(MAIN_BRANCH)


def on_branch(table: Table, branch: str) -> Table:
    """Return a table with the newest snapshot of a branch as its current one.

    Raises:
        SnapshotNotFoundError: it has no such reference.
        UnsupportedTableError: the reference is a tag, which stays where it is.
    """
    if branch == MAIN:
        return table
    reference = table.metadata.refs.get(branch)
    if reference is None:
        known = ", ".join(f"`{name}`" for name in table.metadata.refs)
        raise SnapshotNotFoundError(
            f"the table has no branch `{branch}`", hint=f"it has {known or 'none at all'}"
        )
    if reference.snapshot_ref_type is not SnapshotRefType.BRANCH:
        raise UnsupportedTableError(
            f"`{branch}` is a tag: nothing can be committed to it",
            hint="name a branch, or leave it out for the main one",
        )
    seen = table.metadata.model_copy(update={"current_snapshot_id": reference.snapshot_id})
    return Table(table.name(), seen, table.metadata_location, table.io, table.catalog, table.config)


def refuse_branch(branch: str, what: str) -> None:
    """Refuse what is done to a whole table alone.

    Raises:
        UnsupportedTableError: a branch was named.
    """
    if branch != MAIN:
        raise UnsupportedTableError(
            f"{what} on the branch `{branch}` alone is not supported",
            hint="leave the branch out",
        )
