"""Commits rewrites and changes to a Delta table, and answers for what it began.

Each attempt looks at the newest version, drops the groups that another commit has invalidated,
carries deletes that came meanwhile over to the outputs of the others, and puts the next version
where there is none. Whoever puts it first has won; the loser reads what won, and tries again.

A commit records the version it becomes under its own id, so whatever the reply of the store was,
and also after a crash, the log itself tells whether the commit is in it. A request whose sender has
died can only arrive at the very next version: to commit again under the same id settles it.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from catalog.attempts import Pace, attempts
from catalog.commits import Commit, CommitKind, CommitResult, Conflict
from catalog.conflicts import all_conflict
from catalog.deletion_vectors import Positions
from catalog.delta.carrying import Carrier, vector_file
from catalog.delta.change_rules import refuse_change, refuse_marks, scope_of
from catalog.delta.checkpoint import checkpoint_if_due
from catalog.delta.contents import app_id
from catalog.delta.head import CommitTarget, Head, Heads, commit_location, named_paths
from catalog.delta.lookup import find, is_recorded, snapshot_of
from catalog.delta.outputs import OutputDescriber
from catalog.delta.peers import warnings
from catalog.delta.proposal import Changing, Proposal, Proposals
from catalog.delta.since import SinceReader
from catalog.delta.staleness import why_stale
from catalog.errors import (
    CatalogError,
    CommitConflictError,
    CommitUnknownError,
    CorruptTableError,
    ObjectExistsError,
    SnapshotNotFoundError,
    StorageError,
    UnsupportedTableError,
)
from catalog.model import KEEP_ALL
from catalog.outputs import read_outputs
from catalog.table import TableFiles

# A version takes a few milliseconds to make; writers of a busy table make one after the other.
PACE = Pace(retries_max=100, wait_min_seconds=0.01, wait_max_seconds=2.0, timeout_seconds=600.0)


def commit_rewrites(target: CommitTarget, commit: Commit) -> CommitResult:
    """Replace the slices of every rewrite that still stands against the newest version.

    Raises:
        CommitConflictError: other writers kept winning until the attempts were used up.
        CommitUnknownError: it cannot be told whether the commit happened.
        CorruptTableError: an output is not what was announced; nothing was committed.
    """
    heads = Heads(target, named_paths(commit))
    try:
        head = heads.read()
    except UnsupportedTableError as error:
        if is_recorded(target, commit):
            raise _unknown(commit, error) from error
        return CommitResult(None, (), all_conflict(commit.rewrites, str(error)))
    found = find(target, head, commit)
    if found is not None:
        return found
    if commit.is_empty:
        return CommitResult(None, (), ())
    if commit.kind is CommitKind.CHANGE:
        refuse_change(head.state, scope_of(commit))
        refuse_marks(head.state, commit)
    try:
        proposals = _proposals(target, commit, head)
    except SnapshotNotFoundError:
        reason = f"the version {commit.base.snapshot_id} is no longer in its history"
        return CommitResult(None, (), all_conflict(commit.rewrites, reason))
    return _Committer(target, commit, heads, proposals).run(head)


def find_commit(target: CommitTarget, commit: Commit) -> CommitResult | None:
    """Return what became of a commit that was begun; None when it is not in the table.

    Raises:
        CommitUnknownError: the log cannot be read.
    """
    try:
        return find(target, Heads(target, named_paths(commit)).read(), commit)
    except UnsupportedTableError as error:
        if is_recorded(target, commit):
            raise _unknown(commit, error) from error
        return None
    except CatalogError as error:
        raise _unknown(commit, error) from error


def clean_commit(target: CommitTarget, commit: Commit) -> None:
    """Remove deletion vectors that attempts at a commit wrote and that no version refers to."""
    _, state = target.load()
    landed = state.txns.get(app_id(commit.commit_id))
    first = int(commit.base.snapshot_id) + 1
    target.storage.delete(
        vector_file(target.paths.root, commit.commit_id, version)
        for version in range(first, state.version + 2)
        if version != landed
    )


def _proposals(target: CommitTarget, commit: Commit, head: Head) -> Proposals:
    """Read back the outputs, unless it is clear that nothing stands.

    Raises:
        SnapshotNotFoundError: the version that was planned from is gone.
        CorruptTableError: an output is not what was announced.
    """
    version = int(commit.base.snapshot_id)
    base = head.state if version == head.state.version else target.load(version)[1]
    files = target.files(commit.base)
    since = SinceReader(target.storage, target.paths.root, version)
    outputs, marked = {}, dict[str, Positions]()
    if not why_stale(base, head.state):
        outputs = read_outputs(
            commit,
            target.storage,
            confinement=target.paths.confinement,
            describe=OutputDescriber.of(base, files.schema, target.paths),
        )
        marked = _marked_rows(files, commit)
    carrier = Carrier(target.storage, target.paths, files)
    changing = Changing(since, marked, files.partitions)
    return Proposals(commit, base, outputs, carrier=carrier, changing=changing)


def _marked_rows(files: TableFiles, commit: Commit) -> dict[str, Positions]:
    """Return all rows of the marked files that are deleted once the change is made.

    Raises:
        CorruptTableError: a deletion vector cannot be read, or has some of the rows already.
    """
    found = {}
    for rewrite in commit.rewrites:
        before = files.selections(rewrite.files) if rewrite.marks else {}
        for path, selection in rewrite.marks.items():
            deleted = before.get(path, KEEP_ALL).dropped
            if np.isin(selection.dropped, deleted, assume_unique=True).any():
                raise CorruptTableError(f"rows of {path} are marked that are deleted already")
            found[path] = np.union1d(deleted, selection.dropped)
    return found


def _unknown(commit: Commit, cause: Exception) -> CommitUnknownError:
    return CommitUnknownError(
        f"cannot tell whether commit {commit.commit_id} is in the table: {cause}",
        hint="run the same command again when the storage answers; until then its files must stay",
    )


class _Committer:
    """The attempts of one commit, until the log itself says what became of it."""

    def __init__(
        self, target: CommitTarget, commit: Commit, heads: Heads, proposals: Proposals
    ) -> None:
        self._target = target
        self._commit = commit
        self._heads = heads
        self._proposals = proposals
        # Versions that deletion vectors were written for.
        self._staged: set[int] = set()
        # The version that this commit may have become, or still become: nothing of it may go.
        self._unanswered: int | None = None

    def run(self, head: Head) -> CommitResult:
        """Try until the log has the commit, nothing of it is left, or the attempts are used.

        Raises:
            CommitConflictError: see `commit_rewrites`.
            CommitUnknownError: see `commit_rewrites`.
        """
        try:
            for _ in attempts(PACE):
                head = self._follow(head)
                if self._has_landed(head):
                    return self._found(head)
                proposal = self._proposals.make(head)
                if not proposal.content:
                    return self._nothing_to_put(head, proposal.conflicts)
                if self._put(head.state.version + 1, proposal):
                    if self._is_in_log():
                        return self._landed(head, proposal.conflicts)
                    head = self._heads.read()
            return self._give_up(head)
        except CommitUnknownError:
            raise
        except CatalogError as error:
            if self._unanswered is not None:
                raise _unknown(self._commit, error) from error
            self._tidy(None)
            raise

    def _follow(self, head: Head) -> Head:
        head = self._heads.follow(head)
        if self._unanswered is not None and head.state.version >= self._unanswered:
            # Somebody has become that version: if it was not this commit, it never will be.
            self._unanswered = None
        return head

    def _put(self, version: int, proposal: Proposal) -> bool:
        """Put the next version; whether the store says so.

        Whatever it says, the version may be this commit's until the log has been read again.
        """
        storage, is_put = self._target.storage, False
        if proposal.vectors.location is not None:
            self._staged.add(version)
            storage.write(proposal.vectors.location, proposal.vectors.content)
        location = commit_location(self._target.paths.root, version)
        with suppress(ObjectExistsError, StorageError):
            storage.put_if_absent(location, proposal.content)
            is_put = True
        self._unanswered = version
        return is_put

    def _is_in_log(self) -> bool:
        """Whether a version that was put is part of the table.

        It is not where others have committed this very version meanwhile, and more, and have
        cleaned it from the log: then it lies before a checkpoint, and nobody reads it.
        """
        return app_id(self._commit.commit_id) in self._target.load()[1].txns

    def _has_landed(self, head: Head) -> bool:
        return app_id(self._commit.commit_id) in head.state.txns

    def _found(self, head: Head) -> CommitResult:
        """Answer for a commit of which the reply was lost."""
        found = find(self._target, head, self._commit)
        if found is None:
            raise AssertionError("a head that has the commit does not say so")
        self._tidy(head.state.txns[app_id(self._commit.commit_id)])
        return found

    def _landed(self, head: Head, conflicts: tuple[Conflict, ...]) -> CommitResult:
        version = head.state.version + 1
        self._tidy(version)
        result = self._result(version, conflicts, head)
        checkpoint_if_due(self._target)
        return result

    def _nothing_to_put(self, head: Head, conflicts: tuple[Conflict, ...]) -> CommitResult:
        """Answer for groups of which each is lost, or in the head already."""
        if self._unanswered is not None:
            fault = CatalogError("no answer came")
            raise _unknown(self._commit, fault)
        self._tidy(None)
        if len(conflicts) == len(self._commit.rewrites):
            return CommitResult(None, (), conflicts, warnings(head.since))
        return self._result(head.state.version, conflicts, head)

    def _give_up(self, head: Head) -> CommitResult:
        head = self._follow(head)
        if self._has_landed(head):
            return self._found(head)
        raise CommitConflictError(
            f"commit {self._commit.commit_id} lost against other writers in every attempt",
            hint="try again when the table is less busy",
        )

    def _tidy(self, landed: int | None) -> None:
        """Remove the deletion vectors of attempts that came to nothing.

        What cannot be removed now is found by `clean_commit` later: it is no failure.
        """
        root, commit_id = self._target.paths.root, self._commit.commit_id
        with suppress(CatalogError):
            self._target.storage.delete(
                vector_file(root, commit_id, version) for version in self._staged - {landed}
            )

    def _result(self, version: int, conflicts: tuple[Conflict, ...], head: Head) -> CommitResult:
        dropped = {conflict.group_id for conflict in conflicts}
        groups = (rewrite.group_id for rewrite in self._commit.rewrites)
        return CommitResult(
            snapshot_of(self._target, version),
            committed=tuple(group for group in groups if group not in dropped),
            conflicts=conflicts,
            warnings=warnings(head.since),
        )
