"""Finds out what became of a commit: the log is asked, never the reply that may be lost.

A commit records a transaction of its own, and with it the version that it became. Checkpoints keep
that, so it is found long after the commit itself has been cleaned from the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from catalog.commits import Commit, CommitKind, CommitResult, Conflict, Rewrite
from catalog.delta.actions import Add, Remove, parse_commit
from catalog.delta.contents import app_id
from catalog.delta.head import CommitTarget, Head, Heads, commit_location, named_paths
from catalog.delta.log import list_segment
from catalog.delta.paths import Paths
from catalog.delta.replay import read_state
from catalog.errors import (
    CatalogError,
    CommitUnknownError,
    ObjectNotFoundError,
    SnapshotNotFoundError,
)
from catalog.model import Snapshot

_DROPPED = "it was dropped when the others were committed"


def find(target: CommitTarget, head: Head, commit: Commit) -> CommitResult | None:
    """Return what became of a commit; None when it is not in the history of a head."""
    version = head.state.txns.get(app_id(commit.commit_id))
    if version is None:
        return None
    if commit.kind is CommitKind.CHANGE:
        return _result(target, commit, version, groups={one.group_id for one in commit.rewrites})
    try:
        data = target.storage.read(commit_location(target.paths.root, version))
    except ObjectNotFoundError:
        # Cleaned from the log: what the table holds by now must tell.
        return _result(target, commit, head.state.version, groups=_groups_in(head, commit.rewrites))
    groups = _groups_of(data, target.paths, commit)
    others = [one for one in commit.rewrites if one.group_id not in groups]
    if others:
        groups |= _landed_by(target, commit, version, others, head)
    return _result(target, commit, version, groups=groups)


def is_recorded(target: CommitTarget, commit: Commit) -> bool:
    """Whether the log has a commit, also when the table asks for what is not handled by now.

    Raises:
        CommitUnknownError: the log cannot be read.
    """
    try:
        segment = list_segment(target.storage, target.paths.root)
        return app_id(commit.commit_id) in read_state(target.storage, segment).txns
    except CatalogError as error:
        raise CommitUnknownError(
            f"cannot tell whether commit {commit.commit_id} is in the table: {error}"
        ) from error


def _groups_of(data: bytes, paths: Paths, commit: Commit) -> set[str]:
    """Return the groups that the commit itself replaced.

    Outputs tell, for no other commit adds them: inputs may have been replaced by others before.
    """
    actions = parse_commit(data)
    added = set(paths.resolve_all(one.path for one in actions if isinstance(one, Add)))
    removed = set(paths.resolve_all(one.path for one in actions if isinstance(one, Remove)))
    return {
        one.group_id
        for one in commit.rewrites
        if (_outputs(one) <= added if one.added else _inputs(one) <= removed)
    }


def _landed_by(
    target: CommitTarget, commit: Commit, version: int, others: Iterable[Rewrite], head: Head
) -> set[str]:
    """Return the groups whose outputs were in the table already when the commit was made."""
    with suppress(SnapshotNotFoundError):  # then the newest version is all there is to ask
        head = Heads(target, named_paths(commit)).read(version)
    live = head.live.keys()
    return {one.group_id for one in others if _outputs(one) & live}


def _groups_in(head: Head, rewrites: Iterable[Rewrite]) -> set[str]:
    """Judge groups by their outputs, and where they have none by their inputs."""
    live = head.live.keys()
    return {
        one.group_id
        for one in rewrites
        if (_outputs(one) & live if one.added else not _inputs(one) & live)
    }


def _result(
    target: CommitTarget, commit: Commit, version: int, *, groups: set[str]
) -> CommitResult:
    order = [rewrite.group_id for rewrite in commit.rewrites]
    return CommitResult(
        snapshot_of(target, version),
        committed=tuple(group for group in order if group in groups),
        conflicts=tuple(Conflict(group, _DROPPED) for group in order if group not in groups),
    )


def snapshot_of(target: CommitTarget, version: int) -> Snapshot:
    """Return a version, or the newest when that is gone from the log."""
    newest = target.snapshot()
    if newest.snapshot_id != str(version):
        with suppress(SnapshotNotFoundError):
            return target.snapshot(str(version))
    return newest


def _inputs(rewrite: Rewrite) -> frozenset[str]:
    return frozenset(rewrite.files.files["path"].to_pylist())


def _outputs(rewrite: Rewrite) -> frozenset[str]:
    return frozenset(output.path for output in rewrite.added)
