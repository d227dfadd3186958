"""Commits rewrites and changes to an Iceberg table, and answers for what it began.

Each attempt reads the current head, drops the groups that another commit has invalidated, writes a
snapshot for the rest, and asks the catalog to swap it in provided that the head is still the same.
The snapshot id follows from the commit id, so whatever the reply of the catalog was, and also
after a crash, the table itself tells whether the commit is in it.

An unknown outcome is never cleaned up: its files may be live.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Protocol

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRef, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from catalog.attempts import attempts
from catalog.commits import Commit, CommitResult, Conflict
from catalog.conflicts import all_conflict
from catalog.errors import (
    AccessDeniedError,
    CatalogError,
    CommitConflictError,
    CommitUnknownError,
    CorruptTableError,
    TableNotFoundError,
    UnsupportedTableError,
)
from catalog.iceberg.catalogs import catalog_errors
from catalog.iceberg.cleanup import remove_leftovers, remove_old_metadata
from catalog.iceberg.commit_properties import pace
from catalog.iceberg.file_io import StorageFileIO
from catalog.iceberg.files import IcebergFiles
from catalog.iceberg.lookup import find, may_be_recorded, referenced_metadata
from catalog.iceberg.marking import Marker, refuse_marks
from catalog.iceberg.metadata import snapshot_value
from catalog.iceberg.outputs import OutputReader, schemas_since
from catalog.iceberg.proposal import Proposals
from catalog.iceberg.retry_after import retry_after_seconds
from catalog.iceberg.under_way import refuse_while_under_way
from catalog.iceberg.watermarks import as_properties
from catalog.location import Confinement
from catalog.model import Snapshot as SnapshotValue
from catalog.storage import Storage

# What the first snapshot of a table makes of its main branch; the number is not looked at.
_NEW_BRANCH = SnapshotRef.model_validate({"snapshot-id": 0, "type": "branch"})
# What clients that make the new metadata themselves say when another branch has had a commit.
_NUMBER_TAKEN = "Cannot add snapshot with sequence number"
# Answers of the catalog after which nothing is under way and trying again is of no use.
_REFUSALS = (AccessDeniedError, TableNotFoundError, CorruptTableError)


class CommitTarget(Protocol):
    """The table that commits go to.

    Attributes:
        branch: the branch of it.
    """

    branch: str

    @property
    def storage(self) -> Storage:
        """Where its files are."""

    @property
    def confinement(self) -> Confinement:
        """The prefixes that its files may lie below."""

    def load(self) -> Table:
        """Read the table anew from its catalog; raises the errors of `catalog.errors`."""

    def files(self, snapshot: SnapshotValue) -> IcebergFiles:
        """Return the workers' side of a snapshot."""

    def read(self) -> Table:
        """Do the same also where the table has what is not handled: to look, not to change."""


def commit_rewrites(target: CommitTarget, commit: Commit) -> CommitResult:
    """Replace the slices of every rewrite that still stands against the current snapshot.

    Raises:
        CommitConflictError: other writers kept winning until the attempts were used up.
        CommitUnknownError: it cannot be told whether the commit happened, or it did, in a table
            that is not handled by now.
        CorruptTableError: an output is not what was announced; nothing was committed.
    """
    try:
        table = target.load()
    except UnsupportedTableError as error:
        _refuse_unless_absent(target, commit, error)
        return CommitResult(None, (), all_conflict(commit.rewrites, str(error)))
    found = find(table.metadata, _io(target), commit)
    if found is not None:
        return found
    if commit.is_empty:
        return CommitResult(None, (), ())
    metadata = table.metadata
    refuse_marks(commit, metadata)
    schemas = schemas_since(metadata, commit)
    reader = OutputReader(target.storage, target.confinement, schemas, metadata.properties)
    proposals = Proposals(
        target.storage,
        target.confinement,
        marker=_marker(target, commit),
        outputs=reader.read(commit),
        key_types=lambda: target.files(commit.base).key_types(),
    )
    return _Committer(target, commit, proposals).run(table)


def find_commit(target: CommitTarget, commit: Commit) -> CommitResult | None:
    """Return what became of a commit that was begun; None when it never happened and never will.

    Raises:
        CommitUnknownError: the catalog cannot be asked, or a request may still arrive.
    """
    try:
        table = target.load()
        found = find(table.metadata, _io(target), commit)
        if found is None:
            _refuse_while_under_way(target, table, commit)
    except CommitUnknownError:
        raise
    except CatalogError as error:
        raise _unknown(commit, error) from error
    return found


def clean_commit(target: CommitTarget, commit: Commit) -> None:
    """Remove what a commit left behind and no snapshot refers to: metadata and delete files.

    Raises:
        CommitUnknownError: a request for it may still arrive; nothing was removed.
    """
    table = target.load()
    remove_leftovers(table, target.storage, confinement=target.confinement, commit=commit)
    if not may_be_recorded(table.metadata, commit):
        _marker(target, commit).remove()


def _marker(target: CommitTarget, commit: Commit) -> Marker:
    return Marker(target.storage, commit, target.files(commit.base))


def _refuse_while_under_way(target: CommitTarget, table: Table, commit: Commit) -> None:
    refuse_while_under_way(table, target.storage, confinement=target.confinement, commit=commit)


def _refuse_unless_absent(target: CommitTarget, commit: Commit, cause: CatalogError) -> None:
    """Make sure that a commit is not in a table that we can no longer handle, and never will be.

    Raises:
        CommitUnknownError: it is, or may be: its files must not be given up.
    """
    try:
        table = target.read()
        if may_be_recorded(table.metadata, commit):
            raise _unknown(commit, cause) from cause
        _refuse_while_under_way(target, table, commit)
    except CommitUnknownError:
        raise
    except CatalogError as error:
        raise _unknown(commit, error) from error


def _io(target: CommitTarget) -> StorageFileIO:
    return StorageFileIO(target.storage, target.confinement)


def _unknown(commit: Commit, cause: Exception) -> CommitUnknownError:
    return CommitUnknownError(
        f"cannot tell whether commit {commit.commit_id} is in the table: {cause}",
        hint="ask again when the catalog answers; until then no file of it may be deleted",
    )


class _Committer:
    """The attempts of one commit, until the table itself says what became of it."""

    def __init__(self, target: CommitTarget, commit: Commit, proposals: Proposals) -> None:
        self._target = target
        self._commit = commit
        self._proposals = proposals
        self._io = _io(target)
        # Whether the table has not been asked since the last request was sent.
        self._is_unchecked = False
        # The head that a request without an answer was to follow: it may still arrive there.
        self._unanswered_parent: int | None = None
        self._last_fault: CatalogError | None = None
        self._has_failed = False
        # How long the catalog has asked to be left alone for.
        self._wait_seconds = 0.0

    def run(self, table: Table) -> CommitResult:
        """Try until the table has the commit, nothing of it is left, or the attempts are used.

        Raises:
            CommitConflictError: see `commit_rewrites`.
            CommitUnknownError: see `commit_rewrites`.
        """
        try:
            return self._run(table)
        except (CommitUnknownError, CommitConflictError):
            raise
        except CatalogError as error:
            self._last_fault = error
            self._give_back()
            raise

    @property
    def _may_be_live(self) -> bool:
        return self._is_unchecked or self._unanswered_parent is not None

    def _run(self, table: Table) -> CommitResult:
        for attempt in attempts(pace(table.metadata.properties)):
            if attempt:
                time.sleep(self._wait_seconds)
                table = self._target.load()
                if (result := self._outcome(table)) is not None:
                    return result
            snapshot, conflicts = self._proposals.make(table)
            if snapshot is None:
                return self._nothing_to_send(table, conflicts)
            if self._send(table, snapshot):
                self._tidy(snapshot)
                return self._result(snapshot, conflicts)
        return self._give_up()

    def _send(self, table: Table, snapshot: Snapshot) -> bool:
        """Ask the catalog for the swap; whether it said that it was done."""
        request = _request(table, snapshot, self._commit, branch=self._target.branch)
        requirements, updates = request
        self._is_unchecked = True
        self._wait_seconds = 0.0
        try:
            response = table.catalog.commit_table(table, requirements, updates)
        except CommitFailedException:
            self._has_failed = True
            return False
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the request may have arrived
            self._has_failed = True
            if isinstance(error, ValueError) and _NUMBER_TAKEN in str(error):
                return False
            self._last_fault = _translated(error)
            self._wait_seconds = retry_after_seconds(error)
            if not isinstance(self._last_fault, _REFUSALS):
                self._unanswered_parent = snapshot.parent_snapshot_id
            return False
        with suppress(CatalogError):
            remove_old_metadata(table, response.metadata, self._io)
        return True

    def _outcome(self, table: Table) -> CommitResult | None:
        """Return what the table says of the requests so far; None when none has landed.

        Raises:
            CatalogError: none has landed, and the last one was refused for good.
        """
        found = find(table.metadata, self._io, self._commit)
        if found is not None:
            landed = table.metadata.snapshot_by_id(self._proposals.staging.snapshot_id)
            if landed is not None:  # else it has been expired, and its manifests may live on
                self._tidy(landed)
            return found
        self._is_unchecked = False
        if table.metadata.current_snapshot_id != self._unanswered_parent:
            # The head has moved on: what is still under way can only be refused.
            self._unanswered_parent = None
        if isinstance(self._last_fault, _REFUSALS):
            raise self._last_fault
        return None

    def _give_up(self) -> CommitResult:
        if (result := self._outcome(self._target.load())) is not None:
            return result
        self._give_back()
        raise CommitConflictError(
            f"commit {self._commit.commit_id} lost against other writers in every attempt",
            hint="try again when the table is less busy, or raise commit.retry.num-retries",
        )

    def _nothing_to_send(self, table: Table, conflicts: tuple[Conflict, ...]) -> CommitResult:
        """Answer for groups of which each is lost, or in the head already."""
        self._give_back()
        head = table.metadata.current_snapshot()
        if head is None or len(conflicts) == len(self._commit.rewrites):
            return CommitResult(None, (), conflicts)
        return self._result(head, conflicts)

    def _give_back(self) -> None:
        """Remove what the attempts wrote, none of which has landed or can land any more.

        Raises:
            CommitUnknownError: a request of this process or of one before it may still arrive.
        """
        if self._may_be_live:
            fault = self._last_fault or CatalogError("no answer came")
            raise _unknown(self._commit, fault) from fault
        self._tidy(None)
        table = self._target.load()
        _refuse_while_under_way(self._target, table, self._commit)
        if not may_be_recorded(table.metadata, self._commit):
            with suppress(CatalogError):
                _marker(self._target, self._commit).remove()

    def _tidy(self, landed: Snapshot | None) -> None:
        """Remove what the attempts wrote, but for the one that landed.

        What cannot be removed now is found by `clean_commit` later: it is no failure.
        """
        with suppress(CatalogError):
            kept = referenced_metadata([landed] if landed else [], self._io)
            self._proposals.staging.discard(kept)
            if self._has_failed:
                clean_commit(self._target, self._commit)

    def _result(self, snapshot: Snapshot, conflicts: tuple[Conflict, ...]) -> CommitResult:
        dropped = {conflict.group_id for conflict in conflicts}
        groups = (rewrite.group_id for rewrite in self._commit.rewrites)
        return CommitResult(
            snapshot_value(snapshot),
            committed=tuple(group for group in groups if group not in dropped),
            conflicts=conflicts,
        )


def _translated(error: Exception) -> CatalogError:
    try:
        with catalog_errors("the catalog"):
            raise error
    except CatalogError as translated:
        return translated


def _request(
    table: Table, snapshot: Snapshot, commit: Commit, *, branch: str
) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
    main = table.metadata.refs.get(branch) or _NEW_BRANCH
    watermarks = as_properties(commit.watermarks, snapshot)
    properties = (SetPropertiesUpdate(updates=watermarks),) if watermarks else ()
    requirements = (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        AssertRefSnapshotId(  # type: ignore[call-arg]  # names are as good as aliases
            ref=branch, snapshot_id=snapshot.parent_snapshot_id
        ),
    )
    updates = (
        *properties,
        AddSnapshotUpdate(snapshot=snapshot),
        SetSnapshotRefUpdate(  # type: ignore[call-arg]  # as above
            ref_name=branch,
            type=SnapshotRefType.BRANCH,
            snapshot_id=snapshot.snapshot_id,
            # What the branch keeps is its owner's business.
            min_snapshots_to_keep=main.min_snapshots_to_keep,
            max_snapshot_age_ms=main.max_snapshot_age_ms,
            max_ref_age_ms=main.max_ref_age_ms,
        ),
    )
    return requirements, updates
