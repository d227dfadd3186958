"""Commits a snapshot of upkeep: it follows whatever the head is by then, or there is none.

What is proposed is worked out anew for each head that is met, so that nothing of another writer's
is undone. A reply that was lost is looked for in the table before anything is tried again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress

from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate, TableUpdate

from catalog.attempts import attempts
from catalog.commits import Commit
from catalog.errors import CatalogError, CommitConflictError, CommitUnknownError
from catalog.iceberg.commit_properties import pace
from catalog.iceberg.file_io import StorageFileIO
from catalog.iceberg.lookup import referenced_metadata
from catalog.iceberg.metadata import empty_snapshot, snapshot_value
from catalog.iceberg.staging import Staging
from catalog.iceberg.upkeep import Answer, UpkeepTarget, swap

Propose = Callable[[Table, Staging], Snapshot | None]
"""Writes the snapshot that would follow the head of a table; None when nothing is to be done."""


class UpkeepCommit:
    """The attempts of one commit."""

    def __init__(self, target: UpkeepTarget, what: str) -> None:
        """Begin a commit.

        Args:
            target: the table.
            what: is replaced, for messages.
        """
        table = target.load()
        head = table.metadata.current_snapshot()
        base = snapshot_value(head) if head else empty_snapshot(table.metadata)
        self._target, self._what = target, what
        self._io = StorageFileIO(target.storage, target.confinement)
        self._staging = Staging(self._io, Commit(f"upkeep-{uuid.uuid4().hex}", base, ()))
        # The head that a request without an answer was to follow: it may still arrive there.
        self._unanswered_parent: int | None = None

    def run(self, propose: Propose) -> Snapshot | None:
        """Try until the table has the snapshot, or nothing is left to be done.

        Returns:
            The new snapshot; the current one when nothing was to be done.

        Raises:
            CommitConflictError: other writers kept winning; nothing was changed.
            CommitUnknownError: it cannot be told whether it happened.
            CatalogError: the table cannot be read, or its storage refuses.
        """
        try:
            return self._run(propose)
        except CatalogError:
            self._discard_unless_under_way()
            raise

    def _run(self, propose: Propose) -> Snapshot | None:
        table = self._target.load()
        for attempt in attempts(pace(table.metadata.properties)):
            if attempt:
                table = self._target.load()
                if (landed := self._landed(table)) is not None:
                    return landed
            proposed = propose(table, self._staging)
            if proposed is None:
                self._discard_unless_under_way()
                return table.metadata.current_snapshot()
            answer = swap(self._target, table, _updates(table, proposed))
            if answer is Answer.TAKEN:
                self._discard(proposed)
                return proposed
            if answer is Answer.UNKNOWN:
                self._unanswered_parent = proposed.parent_snapshot_id
        return self._give_up()

    def _give_up(self) -> Snapshot:
        if (landed := self._landed(self._target.load())) is not None:
            return landed
        if self._unanswered_parent is not None:
            raise CommitUnknownError(
                f"cannot tell whether the {self._what} of {self._target.name} will be replaced",
                hint="what was written for it is found by orphan-files if nothing comes of it",
            )
        raise CommitConflictError(
            f"the {self._what} of {self._target.name} were not replaced: other writers won",
            hint="try again when the table is less busy, or raise commit.retry.num-retries",
        )

    def _landed(self, table: Table) -> Snapshot | None:
        """Return the snapshot of a request whose answer was lost, when it has arrived."""
        found = table.metadata.snapshot_by_id(self._staging.snapshot_id)
        if found is not None:
            self._discard(found)
        elif table.metadata.current_snapshot_id != self._unanswered_parent:
            # The head has moved on: what is still under way can only be refused.
            self._unanswered_parent = None
        return found

    def _discard_unless_under_way(self) -> None:
        if self._unanswered_parent is None:
            self._discard(None)

    def _discard(self, landed: Snapshot | None) -> None:
        """Remove what was written for attempts that came to nothing."""
        with suppress(CatalogError):
            kept = referenced_metadata([landed] if landed else [], self._io)
            self._staging.discard(kept)


def _updates(table: Table, snapshot: Snapshot) -> tuple[TableUpdate, ...]:
    main = table.metadata.refs[MAIN_BRANCH]
    moved = main.model_copy(update={"snapshot_id": snapshot.snapshot_id})
    reference = {"ref-name": MAIN_BRANCH, **moved.model_dump(by_alias=True)}
    return (
        AddSnapshotUpdate(snapshot=snapshot),
        SetSnapshotRefUpdate.model_validate(reference),
    )
