"""The snapshot that a commit proposes to follow a head: what still stands, and what leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.typedef import Record

from catalog.changes import has_landed, operation_of, whole
from catalog.conflicts import all_conflict, not_landed, split
from catalog.iceberg.delete_targets import DeleteTargets, dangling, leaving, live_files
from catalog.iceberg.file_io import StorageFileIO
from catalog.iceberg.head import Head, HeadReader, LiveEntry, partition_text
from catalog.iceberg.lookup import is_unbroken
from catalog.iceberg.marking import Marker
from catalog.iceberg.outputs import VerifiedOutput
from catalog.iceberg.partition import decode_key
from catalog.iceberg.since import SinceReader, why_not
from catalog.iceberg.sort_order import order_id
from catalog.iceberg.staging import Changes, Staging
from catalog.location import Confinement
from catalog.model import CommitKind, Conflict, Rewrite
from catalog.storage import Storage


class Proposals:
    """What one commit proposes to one head after another."""

    def __init__(
        self,
        storage: Storage,
        confinement: Confinement,
        *,
        marker: Marker,
        outputs: Mapping[str, VerifiedOutput],
    ) -> None:
        io, commit = StorageFileIO(storage, confinement), marker.commit
        self.staging = Staging(io, commit)
        self._commit = commit
        self._marker = marker
        self._outputs = outputs
        self._heads = HeadReader(io, commit)
        self._since = SinceReader(io, commit)
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
        if not is_unbroken(metadata, self._commit):
            reason = f"the snapshot {self._commit.base.snapshot_id} is no longer in its history"
            return None, all_conflict(rewrites, reason)
        head = self._heads.read(metadata, metadata.current_snapshot())
        live = live_files(
            head,
            self._planned,
            targets=self._targets,
            base_sequence_number=self._commit.base.sequence_number,
        )
        standing, conflicts = split(rewrites, live)
        if self._commit.kind is CommitKind.CHANGE:
            return self._change(table, head, conflicts)
        if conflicts:
            conflicts = not_landed(conflicts, rewrites, self._heads.young_paths(metadata, head))
        if not standing:
            return None, conflicts
        return self.staging.stage(table, head, self._changes(table, head, standing)), conflicts

    def _change(
        self, table: Table, head: Head, conflicts: tuple[Conflict, ...]
    ) -> tuple[Snapshot | None, tuple[Conflict, ...]]:
        since = self._since.read(table.metadata)
        if has_landed(self._commit, since.paths):
            return None, ()
        if conflicts:
            return None, whole(self._commit, conflicts)
        if reason := why_not(self._commit, since):
            return None, all_conflict(self._commit.rewrites, reason)
        changes = self._changes(table, head, self._commit.rewrites)
        return self.staging.stage(table, head, changes), ()

    def _changes(self, table: Table, head: Head, standing: tuple[Rewrite, ...]) -> Changes:
        replaced = {path for one in standing for path in one.replaced.files["path"].to_pylist()}
        deletes = leaving(
            head,
            frozenset(replaced),
            targets=self._targets,
            live_paths=self._heads.live_paths(table.metadata, head.manifests),
        )
        added = self._added(table, head, standing)
        deletes += self._dangling(table, head, added, replaced=replaced)
        operation = Operation.REPLACE
        if self._commit.kind is CommitKind.CHANGE:
            operation = Operation(operation_of(standing))
        return Changes(
            (*added, *self._marks(head)),
            (*(head.files[path] for path in replaced), *deletes),
            operation,
        )

    def _dangling(
        self, table: Table, head: Head, added: list[DataFile], *, replaced: set[str]
    ) -> list[LiveEntry]:
        if not any(one.is_equality for one in head.deletes):
            return []
        # Whatever number they get, it is not lower than that of the base.
        age = self._commit.base.sequence_number
        left = self._heads.outliving(table.metadata, head, replaced)
        return dangling(head, chain(left, ((partition_text(one), age) for one in added)))

    def _added(self, table: Table, head: Head, standing: Iterable[Rewrite]) -> list[DataFile]:
        added = []
        for rewrite in standing:
            if not rewrite.added:
                continue
            partition, spec_id = _partition(rewrite, head)
            sort_order_id = order_id(table.metadata, rewrite.sort_order)
            added += [
                self._outputs[one.path].data_file(partition, spec_id, sort_order_id=sort_order_id)
                for one in rewrite.added
            ]
        return added

    def _marks(self, head: Head) -> list[DataFile]:
        return [
            self._marker.file(number, head.files[next(iter(rewrite.marks))].file)
            for number, rewrite in enumerate(self._commit.rewrites)
            if rewrite.marks
        ]


def _partition(rewrite: Rewrite, head: Head) -> tuple[Record, int]:
    """Return the partition of the outputs of a group, and the spec that it is of."""
    paths = rewrite.files.files["path"].to_pylist()
    if paths:
        # All inputs of a group share one partition of one spec, and so do its outputs.
        first = head.files[paths[0]].file
        return first.partition, first.spec_id
    spec_id, values = decode_key(rewrite.target_key)
    return Record(*values), spec_id
