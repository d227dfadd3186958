"""The snapshot that a commit proposes to follow a head: what still stands, and what leaves."""

from __future__ import annotations

from collections.abc import Mapping

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from catalog.conflicts import all_conflict, not_landed, split
from catalog.iceberg.delete_targets import DeleteTargets, leaving, live_files
from catalog.iceberg.file_io import StorageFileIO
from catalog.iceberg.head import Head, HeadReader
from catalog.iceberg.lookup import is_unbroken
from catalog.iceberg.outputs import VerifiedOutput
from catalog.iceberg.sort_order import order_id
from catalog.iceberg.staging import Changes, Staging
from catalog.location import Confinement
from catalog.model import Commit, Conflict, Rewrite
from catalog.storage import Storage


class Proposals:
    """What one commit proposes to one head after another."""

    def __init__(
        self,
        storage: Storage,
        confinement: Confinement,
        *,
        commit: Commit,
        outputs: Mapping[str, VerifiedOutput],
    ) -> None:
        io = StorageFileIO(storage, confinement)
        self.staging = Staging(io, commit)
        self._commit = commit
        self._outputs = outputs
        self._heads = HeadReader(io, commit)
        self._targets = DeleteTargets(storage, confinement)
        self._planned = {
            one.path: frozenset(delete.path for delete in one.deletes)
            for rewrite in commit.rewrites
            for one in rewrite.files.slices()
        }

    def make(self, table: Table) -> tuple[Snapshot | None, tuple[Conflict, ...]]:
        """Write the snapshot that would follow the head; None when there is nothing to change.

        A group that is neither in the snapshot nor a conflict is in the head already.
        """
        metadata, rewrites = table.metadata, self._commit.rewrites
        current = metadata.current_snapshot()
        if current is None or not is_unbroken(metadata, self._commit):
            reason = f"the snapshot {self._commit.base.snapshot_id} is no longer in its history"
            return None, all_conflict(rewrites, reason)
        head = self._heads.read(metadata, current)
        live = live_files(
            head,
            self._planned,
            targets=self._targets,
            base_sequence_number=self._commit.base.sequence_number,
        )
        standing, conflicts = split(rewrites, live)
        if conflicts:
            conflicts = not_landed(conflicts, rewrites, self._heads.young_paths(metadata, head))
        if not standing:
            return None, conflicts
        return self.staging.stage(table, head, self._changes(table, head, standing)), conflicts

    def _changes(self, table: Table, head: Head, standing: tuple[Rewrite, ...]) -> Changes:
        removed, added = [], []
        for rewrite in standing:
            inputs = [head.files[path] for path in rewrite.files.files["path"].to_pylist()]
            # All inputs of a group share one partition of one spec, and so do its outputs.
            partition, spec_id = inputs[0].file.partition, inputs[0].file.spec_id
            removed += inputs
            sort_order_id = order_id(table.metadata, rewrite.sort_order)
            added += [
                self._outputs[one.path].data_file(partition, spec_id, sort_order_id=sort_order_id)
                for one in rewrite.added
            ]
        deletes = leaving(
            head,
            frozenset(one.file.file_path for one in removed),
            targets=self._targets,
            live_paths=self._heads.live_paths(table.metadata, head.manifests),
        )
        return Changes(tuple(added), (*removed, *deletes))
