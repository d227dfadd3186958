"""Commits rewrites to an Iceberg table as a `replace` snapshot, and answers for what it began.

Each attempt reads the current head, drops the groups that another commit has invalidated, writes a
snapshot for the rest, and asks the catalog to swap it in provided that the head is still the same.
The snapshot id follows from the commit id, so whatever the reply of the catalog was, and also
after a crash, the table itself tells whether the commit is in it.

An unknown outcome is never cleaned up: its files may be live.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from catalog.conflicts import all_conflict, split
from catalog.errors import (
    AccessDeniedError,
    CatalogError,
    CommitConflictError,
    CommitUnknownError,
    CorruptTableError,
    TableNotFoundError,
    UnsupportedTableError,
)
from catalog.iceberg.attempts import Pace
from catalog.iceberg.catalogs import catalog_errors
from catalog.iceberg.cleanup import remove_leftovers, remove_old_metadata
from catalog.iceberg.delete_targets import DeleteTargets, leaving, live_files
from catalog.iceberg.file_io import StorageFileIO
from catalog.iceberg.head import Head, HeadReader
from catalog.iceberg.lookup import find, is_unbroken, referenced_metadata
from catalog.iceberg.metadata import snapshot_value
from catalog.iceberg.outputs import (
    OutputReader,
    VerifiedOutput,
    require_row_arithmetic,
    schemas_since,
)
from catalog.iceberg.staging import Changes, Staging
from catalog.location import Confinement
from catalog.model import Commit, CommitResult, Conflict, Rewrite
from catalog.storage import Storage

# Answers of the catalog after which nothing is under way and trying again is of no use.
_REFUSALS = (AccessDeniedError, TableNotFoundError, CorruptTableError)


class CommitTarget(Protocol):
    """The table that commits go to."""

    @property
    def storage(self) -> Storage:
        """Where its files are."""

    @property
    def confinement(self) -> Confinement:
        """The prefixes that its files may lie below."""

    def load(self) -> Table:
        """Read the table anew from its catalog; raises the errors of `catalog.errors`."""


def commit_rewrites(target: CommitTarget, commit: Commit) -> CommitResult:
    """Replace the slices of every rewrite that still stands against the current snapshot.

    Raises:
        CommitConflictError: other writers kept winning until the attempts were used up.
        CommitUnknownError: it cannot be told whether the commit happened.
        CorruptTableError: an output is not what was announced; nothing was committed.
    """
    try:
        table = target.load()
    except UnsupportedTableError as error:
        return CommitResult(None, (), all_conflict(commit.rewrites, str(error)))
    found = find(table.metadata, _io(target), commit)
    if found is not None:
        return found
    if not commit.rewrites:
        return CommitResult(None, (), ())
    outputs = _verified_outputs(target, table, commit)
    return _Committer(target, commit, outputs).run(table)


def find_commit(target: CommitTarget, commit: Commit) -> CommitResult | None:
    """Return what became of a commit that was begun; None when it never happened.

    Raises:
        CommitUnknownError: the catalog cannot be asked.
    """
    try:
        return find(target.load().metadata, _io(target), commit)
    except CatalogError as error:
        raise _unknown(commit, error) from error


def clean_commit(target: CommitTarget, commit: Commit) -> None:
    """Remove metadata files that a commit left behind and that no snapshot refers to."""
    table = target.load()
    remove_leftovers(table, target.storage, confinement=target.confinement, commit=commit)


def _io(target: CommitTarget) -> StorageFileIO:
    return StorageFileIO(target.storage, target.confinement)


def _unknown(commit: Commit, cause: Exception) -> CommitUnknownError:
    return CommitUnknownError(
        f"cannot tell whether commit {commit.commit_id} is in the table: {cause}",
        hint="ask again when the catalog answers; until then no file of it may be deleted",
    )


def _verified_outputs(
    target: CommitTarget, table: Table, commit: Commit
) -> dict[str, VerifiedOutput]:
    outputs = [output for rewrite in commit.rewrites for output in rewrite.added]
    paths = {output.path for output in outputs}
    inputs = (
        path for rewrite in commit.rewrites for path in rewrite.files.files["path"].to_pylist()
    )
    if len(paths) != len(outputs) or not paths.isdisjoint(inputs):
        raise CorruptTableError(f"commit {commit.commit_id} names a file twice")
    for rewrite in commit.rewrites:
        require_row_arithmetic(rewrite)
    reader = OutputReader(
        target.storage,
        target.confinement,
        schemas_since(table.metadata, commit),
        table.metadata.properties,
    )
    return reader.read(outputs)


class _Committer:
    """The attempts of one commit."""

    def __init__(
        self, target: CommitTarget, commit: Commit, outputs: dict[str, VerifiedOutput]
    ) -> None:
        self._target = target
        self._commit = commit
        self._outputs = outputs
        self._io = _io(target)
        self._head_reader = HeadReader(self._io, commit)
        self._targets = DeleteTargets(target.storage, target.confinement)
        self._staging = Staging(self._io, commit)
        self._planned = {
            one.path: frozenset(delete.path for delete in one.deletes)
            for rewrite in commit.rewrites
            for one in rewrite.files.slices()
        }
        # The head that a request without an answer was to follow: it may still arrive there.
        self._unanswered_parent: int | None = None
        self._last_fault: CatalogError | None = None
        self._has_failed = False

    def run(self, table: Table) -> CommitResult:
        """Try until the table has the commit, nothing of it is left, or the attempts are used.

        Raises:
            CommitConflictError, CommitUnknownError: see `commit_rewrites`.
        """
        try:
            return self._run(table)
        except CommitUnknownError:
            raise
        except CatalogError as error:
            if self._unanswered_parent is not None:
                raise _unknown(self._commit, error) from error
            self._tidy(None)
            raise

    def _run(self, table: Table) -> CommitResult:
        for attempt in Pace.of(table.metadata.properties).attempts():
            if attempt:
                table = self._target.load()
                if (result := self._outcome(table)) is not None:
                    return result
            snapshot, conflicts = self._propose(table)
            if snapshot is None:
                self._tidy(table)
                return CommitResult(None, (), conflicts)
            if self._send(table, snapshot):
                self._tidy(table, snapshot)
                return self._committed(snapshot, conflicts)
        return self._give_up()

    def _outcome(self, table: Table) -> CommitResult | None:
        """Return what the table says of the attempts so far; None when none has landed."""
        found = find(table.metadata, self._io, self._commit)
        if found is not None:
            self._tidy(table, table.metadata.snapshot_by_id(self._staging.snapshot_id))
            return found
        if table.metadata.current_snapshot_id != self._unanswered_parent:
            # The head has moved on: what is still under way can only be refused.
            self._unanswered_parent = None
        if isinstance(self._last_fault, _REFUSALS):
            raise self._last_fault
        return None

    def _give_up(self) -> CommitResult:
        table = self._target.load()
        if (result := self._outcome(table)) is not None:
            return result
        if self._unanswered_parent is not None:
            cause = self._last_fault or CatalogError("the catalog did not answer")
            raise _unknown(self._commit, cause)
        self._tidy(table)
        raise CommitConflictError(
            f"commit {self._commit.commit_id} lost against other writers in every attempt",
            hint="try again when the table is less busy, or raise commit.retry.num-retries",
        )

    def _tidy(self, table: Table | None, landed: Snapshot | None = None) -> None:
        """Remove what the attempts wrote, but for the one that landed.

        What cannot be removed now is found by `clean_commit` later: it is no failure.
        """
        with suppress(CatalogError):
            self._staging.discard(referenced_metadata([landed] if landed else [], self._io))
            if table is not None and self._has_failed:
                clean_commit(self._target, self._commit)

    def _propose(self, table: Table) -> tuple[Snapshot | None, tuple[Conflict, ...]]:
        """Write the snapshot that would follow the head; None when no group still stands."""
        metadata, rewrites = table.metadata, self._commit.rewrites
        current = metadata.current_snapshot()
        if current is None or not is_unbroken(metadata, self._commit):
            reason = f"the snapshot {self._commit.base.snapshot_id} is no longer in its history"
            return None, all_conflict(rewrites, reason)
        head = self._head_reader.read(metadata, current)
        live = live_files(
            head,
            self._planned,
            targets=self._targets,
            base_sequence_number=self._commit.base.sequence_number,
        )
        standing, conflicts = split(rewrites, live)
        if not standing:
            return None, conflicts
        changes = self._changes(table, head, standing)
        return self._staging.stage(table, head, changes), conflicts

    def _changes(self, table: Table, head: Head, standing: tuple[Rewrite, ...]) -> Changes:
        removed, added = [], []
        for rewrite in standing:
            inputs = [head.files[path] for path in rewrite.files.files["path"].to_pylist()]
            removed += inputs
            added += [
                self._outputs[output.path].data_file(
                    inputs[0].file.partition, inputs[0].file.spec_id
                )
                for output in rewrite.added
            ]
        deletes = leaving(
            head,
            frozenset(one.file.file_path for one in removed),
            targets=self._targets,
            live_paths=self._head_reader.live_paths(table.metadata, head.manifests),
        )
        return Changes(tuple(added), (*removed, *deletes))

    def _send(self, table: Table, snapshot: Snapshot) -> bool:
        """Ask the catalog for the swap; whether it said that it was done."""
        requirements, updates = _request(table, snapshot)
        try:
            response = table.catalog.commit_table(table, requirements, updates)
        except CommitFailedException:
            self._has_failed = True
            return False
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the request may have arrived
            self._has_failed = True
            self._last_fault = _translated(error)
            if not isinstance(self._last_fault, _REFUSALS):
                self._unanswered_parent = snapshot.parent_snapshot_id
            return False
        with suppress(CatalogError):
            remove_old_metadata(table, response.metadata, self._io)
        return True

    def _committed(self, snapshot: Snapshot, conflicts: tuple[Conflict, ...]) -> CommitResult:
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
    table: Table, snapshot: Snapshot
) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
    main = table.metadata.refs[MAIN_BRANCH]
    requirements = (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        AssertRefSnapshotId(  # type: ignore[call-arg]  # names are as good as aliases
            ref=MAIN_BRANCH, snapshot_id=snapshot.parent_snapshot_id
        ),
    )
    updates = (
        AddSnapshotUpdate(snapshot=snapshot),
        SetSnapshotRefUpdate(  # type: ignore[call-arg]
            ref_name=MAIN_BRANCH,
            type=SnapshotRefType.BRANCH,
            snapshot_id=snapshot.snapshot_id,
            # What the branch keeps is its owner's business.
            min_snapshots_to_keep=main.min_snapshots_to_keep,
            max_snapshot_age_ms=main.max_snapshot_age_ms,
            max_ref_age_ms=main.max_ref_age_ms,
        ),
    )
    return requirements, updates
