"""Finds out what became of a commit: the table is asked, never the reply that may be lost."""

from __future__ import annotations

from collections.abc import Iterable

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestContent, ManifestEntryStatus
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot
from pyiceberg.table.snapshots import ancestors_of

from catalog.commits import Commit, CommitKind, CommitResult, Conflict, Rewrite
from catalog.iceberg.entries import all_entries, live_entries, manifests_of
from catalog.iceberg.metadata import is_first, snapshot_value
from catalog.iceberg.staging import committed_by, snapshot_id_of
from catalog.iceberg.watermarks import watermark_of

_DROPPED = "it was dropped when the others were committed"


def find(metadata: TableMetadata, io: FileIO, commit: Commit) -> CommitResult | None:
    """Return what became of a commit; None when it never happened.

    The snapshot of the commit tells. When it has been expired since, the commit is known by the
    outputs of it that a later snapshot still holds.
    """
    snapshot = _own_snapshot(metadata, commit)
    if snapshot is not None:
        return _result(commit, snapshot, _groups_in(snapshot, io, commit))
    if is_unbroken(metadata, commit):
        return None
    return _find_outputs(metadata, io, commit) or _find_watermarks(metadata, commit)


def may_be_recorded(metadata: TableMetadata, commit: Commit) -> bool:
    """Whether a commit is in a table, or could have been before its history was cut.

    Told from the metadata alone: the manifests of the table may be of a kind that we cannot read.
    """
    return _own_snapshot(metadata, commit) is not None or not is_unbroken(metadata, commit)


def _groups_in(snapshot: IcebergSnapshot, io: FileIO, commit: Commit) -> set[str]:
    """Return the groups that the commit's own snapshot replaced, or found replaced already."""
    if commit.kind is CommitKind.CHANGE:
        return {one.group_id for one in commit.rewrites}
    removed = _removed_by(snapshot, io)
    groups = {one.group_id for one in commit.rewrites if _is_done(one, removed)}
    others = [one for one in commit.rewrites if one.group_id not in groups]
    if others:
        live = _live_in(snapshot, io, named=_named(others), seen={})
        groups |= {one.group_id for one in others if _outputs(one) & live}
    return groups


def _is_done(rewrite: Rewrite, removed: frozenset[str]) -> bool:
    """Whether a snapshot that removed some files has a group, as far as these tell."""
    if rewrite.records_deletes:
        # Without outputs it left nothing to be told by, and nothing that could be lost.
        return not rewrite.added
    return _inputs(rewrite) <= removed


def _own_snapshot(metadata: TableMetadata, commit: Commit) -> IcebergSnapshot | None:
    found = metadata.snapshot_by_id(snapshot_id_of(commit.commit_id))
    return found if found is not None and committed_by(found) == commit.commit_id else None


def is_unbroken(metadata: TableMetadata, commit: Commit) -> bool:
    """Whether the base is the current snapshot or an ancestor of it, with all between present."""
    wanted = commit.base.snapshot_id
    lineage = list(ancestors_of(metadata.current_snapshot(), metadata))
    if not wanted:  # the base is the table before its first snapshot
        return not lineage or is_first(lineage[-1])
    return any(str(snapshot.snapshot_id) == wanted for snapshot in lineage)


def _find_outputs(metadata: TableMetadata, io: FileIO, commit: Commit) -> CommitResult | None:
    later = [
        snapshot
        for snapshot in metadata.snapshots
        if (snapshot.sequence_number or 0) >= commit.base.sequence_number
    ]
    named = _named(commit.rewrites)
    seen: dict[str, frozenset[str]] = {}
    # The newest state that holds an output speaks for the commit.
    for snapshot in sorted(later, key=lambda one: one.timestamp_ms, reverse=True):
        live = _live_in(snapshot, io, named=named, seen=seen)
        if any(_outputs(rewrite) & live for rewrite in commit.rewrites):
            is_whole = commit.kind is CommitKind.CHANGE
            groups = {
                one.group_id for one in commit.rewrites if is_whole or _seems_committed(one, live)
            }
            return _result(commit, snapshot, groups)
    return None


def _find_watermarks(metadata: TableMetadata, commit: Commit) -> CommitResult | None:
    """Judge a change without outputs by its watermarks: they came into the table with it."""
    head = metadata.current_snapshot()
    is_recorded = bool(commit.watermarks) and all(
        watermark_of(metadata, head, one.source) == one.value for one in commit.watermarks
    )
    if head is None or not is_recorded or any(one.added for one in commit.rewrites):
        return None
    return _result(commit, head, {one.group_id for one in commit.rewrites})


def _named(rewrites: Iterable[Rewrite]) -> frozenset[str]:
    return frozenset().union(*(_inputs(one) | _outputs(one) for one in rewrites))


def _seems_committed(rewrite: Rewrite, live: frozenset[str]) -> bool:
    """Judge a group by its outputs, and where it has none by its inputs."""
    if rewrite.added:
        return bool(_outputs(rewrite) & live)
    return rewrite.records_deletes or not _inputs(rewrite) & live


def _inputs(rewrite: Rewrite) -> frozenset[str]:
    return frozenset(rewrite.files.files["path"].to_pylist())


def _outputs(rewrite: Rewrite) -> frozenset[str]:
    return frozenset(output.path for output in rewrite.added)


def _removed_by(snapshot: IcebergSnapshot, io: FileIO) -> frozenset[str]:
    return frozenset(
        entry.path
        for manifest in manifests_of(snapshot, io)
        if manifest.content == ManifestContent.DATA
        and manifest.added_snapshot_id == snapshot.snapshot_id
        for entry in all_entries(manifest, io)
        if entry.status == ManifestEntryStatus.DELETED
    )


def _live_in(
    snapshot: IcebergSnapshot,
    io: FileIO,
    *,
    named: frozenset[str],
    seen: dict[str, frozenset[str]],
) -> frozenset[str]:
    """Return which of the named files a snapshot holds; a manifest seen before is not reread."""
    live: frozenset[str] = frozenset()
    for manifest in manifests_of(snapshot, io):
        path = manifest.manifest_path
        if path not in seen:
            entries = live_entries(manifest, io)
            seen[path] = named.intersection(entry.path for entry in entries)
        live |= seen[path]
    return live


def _result(commit: Commit, snapshot: IcebergSnapshot, committed: set[str]) -> CommitResult:
    groups = [rewrite.group_id for rewrite in commit.rewrites]
    return CommitResult(
        snapshot_value(snapshot),
        committed=tuple(group for group in groups if group in committed),
        conflicts=tuple(Conflict(group, _DROPPED) for group in groups if group not in committed),
    )


def referenced_metadata(snapshots: Iterable[IcebergSnapshot], io: FileIO) -> set[str]:
    """Return the manifest lists of snapshots and every manifest that they name."""
    paths: set[str] = set()
    for snapshot in snapshots:
        paths.add(snapshot.manifest_list)
        paths.update(manifest.manifest_path for manifest in manifests_of(snapshot, io))
    return paths
