"""The snapshot that a commit proposes to follow a head: what still stands, and what leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import chain

import pyarrow as pa
from pyiceberg.manifest import DataFileContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.typedef import Record

from catalog.changes import has_landed, operation_of, whole
from catalog.commits import CommitKind, Conflict, OutputFile, Rewrite
from catalog.conflicts import all_conflict, not_landed, split
from catalog.iceberg.data_file import DataFile
from catalog.iceberg.delete_outputs import VerifiedDeletes
from catalog.iceberg.delete_targets import DeleteTargets, leaving, live_files, single_target
from catalog.iceberg.equality_targets import Remaining, dangling, has_equality
from catalog.iceberg.file_io import StorageFileIO
from catalog.iceberg.head import Head, HeadReader, LiveEntry
from catalog.iceberg.lookup import is_unbroken
from catalog.iceberg.marking import LAST_WITHOUT_VECTORS, Marker
from catalog.iceberg.outputs import Verified
from catalog.iceberg.partition import decode_key
from catalog.iceberg.since import SinceReader, why_not
from catalog.iceberg.sort_order import order_id
from catalog.iceberg.staging import Changes, Staging
from catalog.location import Confinement
from catalog.storage import Storage


class Proposals:
    """What one commit proposes to one head after another."""

    def __init__(
        self,
        storage: Storage,
        confinement: Confinement,
        *,
        marker: Marker,
        outputs: Mapping[str, Verified],
        key_types: Callable[[], Mapping[int, pa.DataType]],
    ) -> None:
        io, commit = StorageFileIO(storage, confinement), marker.commit
        self.staging = Staging(io, commit)
        self._commit = commit
        self._marker = marker
        self._outputs = outputs
        self._key_types = key_types
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
        standing, crossed = self._without_crossed(standing, head)
        standing, outdated = self._without_outdated(standing, metadata.format_version)
        conflicts += (*crossed, *outdated)
        if self._commit.kind is CommitKind.CHANGE:
            return self._change(table, head, conflicts)
        if conflicts:
            live_paths = self._heads.young_paths(metadata, head)
            live_paths.update(one.file.file_path for one in head.deletes)
            conflicts = not_landed(conflicts, rewrites, live_paths)
        if not standing:
            return None, conflicts
        return self.staging.stage(table, head, self._changes(table, head, standing)), conflicts

    def _without_crossed(
        self, standing: tuple[Rewrite, ...], head: Head
    ) -> tuple[tuple[Rewrite, ...], tuple[Conflict, ...]]:
        """Take out what changes partitions that keys have been deleted from since the base.

        Deletes by keys apply to one partition of one spec: outputs elsewhere would escape those of
        the old partition, and be hit by those of the new one.
        """
        base = self._commit.base.sequence_number
        crossed = []
        for rewrite in standing:
            if not (new := {one.partition_key for one in rewrite.added} - {""}):
                continue
            keys = {*new, rewrite.target_key}
            crossed += [
                Conflict(rewrite.group_id, f"keys were deleted by {one.file.file_path}")
                for one in head.deletes
                if one.is_equality
                and one.sequence_number > base
                and head.scope(one).partition in keys
            ][:1]
        lost = {one.group_id for one in crossed}
        return tuple(one for one in standing if one.group_id not in lost), tuple(crossed)

    def _without_outdated(
        self, standing: tuple[Rewrite, ...], format_version: int
    ) -> tuple[tuple[Rewrite, ...], tuple[Conflict, ...]]:
        """Take out position delete files from before the table was upgraded: it takes no new ones.

        Specification: https://iceberg.apache.org/spec/#version-3
        """
        lost = {
            one.group_id
            for one in standing
            if format_version > LAST_WITHOUT_VECTORS
            and any(isinstance(self._outputs[out.path], VerifiedDeletes) for out in one.added)
        }
        reason = "the table has deletion vectors by now"
        conflicts = all_conflict((one for one in standing if one.group_id in lost), reason)
        return tuple(one for one in standing if one.group_id not in lost), conflicts

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
        recorded = {
            path
            for one in standing
            if one.records_deletes
            for path in one.files.files["path"].to_pylist()
        }
        deletes = leaving(
            head,
            frozenset(replaced | recorded),
            targets=self._targets,
            live_paths=self._heads.live_paths(table.metadata, head.manifests),
        )
        added = self._added(table, head, standing)
        gone = self._dangling(table, head, added, replaced=replaced, recorded=recorded)
        marks, merged = self._marks(table, head)
        removed = {one.entry.name: one for one in (*deletes, *gone, *merged)}
        return Changes(
            (*added, *marks),
            (*(head.files[path] for path in replaced), *removed.values()),
            self._operation(standing),
        )

    def _operation(self, standing: tuple[Rewrite, ...]) -> Operation:
        if self._commit.kind is CommitKind.CHANGE:
            return Operation(operation_of(standing))
        # A rewrite of others that ignores equality deletes younger than its base, as it may while
        # they are there, has to see that their rows are deleted by position now. It looks for that
        # in snapshots that delete, never in those that replace.
        are_converted = any(
            one.records_deletes and one.files.has_equality_deletes for one in standing
        )
        return Operation.DELETE if are_converted else Operation.REPLACE

    def _dangling(
        self,
        table: Table,
        head: Head,
        added: list[DataFile],
        *,
        replaced: set[str],
        recorded: Set[str],
    ) -> list[LiveEntry]:
        if not has_equality(head.deletes):
            return []
        # Whatever number they get, it is not lower than that of the base.
        age = self._commit.base.sequence_number
        left = (
            Remaining(one.file, one.sequence_number, self._planned[path])
            if (path := one.file.file_path) in recorded
            else Remaining(one.file, one.sequence_number)
            for one in self._heads.outliving(table.metadata, head, replaced)
        )
        new = (Remaining(one, age) for one in added if one.content == DataFileContent.DATA)
        return dangling(head, chain(left, new), kinds=self._key_types())

    def _added(self, table: Table, head: Head, standing: Iterable[Rewrite]) -> list[DataFile]:
        added = []
        for rewrite in standing:
            if not rewrite.added:
                continue
            sort_order_id = order_id(table.metadata, rewrite.sort_order)
            inputs = [head.files[path].file for path in rewrite.files.files["path"].to_pylist()]
            added += [
                self._outputs[one.path].data_file(
                    *_partition(rewrite, inputs, one), sort_order_id=sort_order_id, inputs=inputs
                )
                for one in rewrite.added
            ]
        return added

    def _marks(self, table: Table, head: Head) -> tuple[list[DataFile], list[LiveEntry]]:
        """Return the deletes that mark rows, and those that have been merged into them."""
        marked = [
            (number, rewrite)
            for number, rewrite in enumerate(self._commit.rewrites)
            if rewrite.marks
        ]
        likes = [head.files[next(iter(rewrite.marks))].file for _, rewrite in marked]
        if table.metadata.format_version <= LAST_WITHOUT_VECTORS:
            numbers = (number for number, _ in marked)
            return [self._marker.file(*one) for one in zip(numbers, likes, strict=True)], []
        pairs = zip(marked, likes, strict=True)
        vectors = [one for (number, _), like in pairs for one in self._marker.vectors(number, like)]
        paths = {path for _, rewrite in marked for path in rewrite.marks}
        merged = [
            one for one in head.deletes if not one.is_equality and single_target(one.file) in paths
        ]
        return vectors, merged


def _partition(
    rewrite: Rewrite, inputs: Sequence[DataFile], output: OutputFile
) -> tuple[Record, int]:
    """Return the partition of an output of a group, and the spec that it is of."""
    if output.partition_key:
        spec_id, values = decode_key(output.partition_key)
        return Record(*values), spec_id
    if inputs:
        # All inputs of a group share one partition of one spec, and so do its other outputs.
        return inputs[0].partition, inputs[0].spec_id
    spec_id, values = decode_key(rewrite.target_key)
    return Record(*values), spec_id
