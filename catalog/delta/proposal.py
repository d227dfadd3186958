"""The version that a commit proposes to follow a head: what stands, and what is carried over."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from catalog.changes import has_landed, whole
from catalog.commits import Commit, CommitKind, Conflict, Rewrite
from catalog.conflicts import all_conflict
from catalog.deletion_vectors import Positions
from catalog.delta.actions import Add
from catalog.delta.carrying import CarriedVectors, Carrier, vectors_of
from catalog.delta.change_rules import can_mark, rows_removed
from catalog.delta.contents import Author, Marked, NewFile, Replacement, compose
from catalog.delta.deeds import change, optimization
from catalog.delta.head import Head
from catalog.delta.partition import Partition, PartitionColumn
from catalog.delta.since import SinceReader
from catalog.delta.staleness import why_stale
from catalog.delta.standing import standing
from catalog.delta.state import TableState
from catalog.delta.stats import loosened
from catalog.delta.watermarks import latest

_VERSION_PROPERTY = "compactor.version"
_RESTORED = "rows that were deleted when it was planned are back"


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one attempt puts.

    Attributes:
        content: the next version; empty when there is nothing to put.
        vectors: deletion vectors that it refers to.
        conflicts: groups that are not in it; those that are in the table already are in neither.
    """

    content: bytes
    vectors: CarriedVectors
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True)
class Changing:
    """What only a change needs to be proposed.

    Attributes:
        since: tells who has added rows since its base.
        marked: all rows that are deleted of the files that it marks, by path.
        partitions: the columns that the table is partitioned by.
    """

    since: SinceReader
    marked: Mapping[str, Positions]
    partitions: tuple[PartitionColumn, ...]


@dataclass(frozen=True, slots=True)
class Proposals:
    """What one commit proposes to one head after another.

    Attributes:
        commit: the commit.
        base: the version that was planned from.
        outputs: what the log says of its outputs, by path.
        carrier: finds deletes that came meanwhile.
        changing: what it needs to know besides if it is a change.
    """

    commit: Commit
    base: TableState
    outputs: Mapping[str, NewFile]
    carrier: Carrier
    changing: Changing

    def make(self, head: Head) -> Proposal:
        """Return the version that would follow a head.

        Raises:
            CorruptTableError: a deletion vector cannot be read, or rows would be lost or doubled.
        """
        if reason := why_stale(self.base, head.state):
            return _nothing(all_conflict(self.commit.rewrites, reason))
        if self.commit.kind is CommitKind.CHANGE:
            return self._change(head)
        live = head.live
        found = standing(self.commit.rewrites, live, carries_deletes=can_mark(head.state))
        carried = {one.group_id: self.carrier.carried(one, live, found) for one in found.rewrites}
        restored = (group for group, positions in carried.items() if positions is None)
        conflicts = (*found.conflicts, *(Conflict(group, _RESTORED) for group in restored))
        stand = [one for one in found.rewrites if carried[one.group_id] is not None]
        if not stand:
            return _nothing(conflicts)
        positions = {path: one for some in carried.values() for path, one in (some or {}).items()}
        return self._proposal(head, stand, positions=positions, conflicts=conflicts)

    def _change(self, head: Head) -> Proposal:
        rewrites, live = self.commit.rewrites, head.live
        if has_landed(self.commit, live.keys()):
            return _nothing(())
        found = standing(rewrites, live, carries_deletes=False)
        if found.conflicts:
            return _nothing(whole(self.commit, found.conflicts))
        if reason := self._why_not(head):
            return _nothing(all_conflict(rewrites, reason))
        return self._proposal(head, rewrites, positions=self.changing.marked, conflicts=())

    def _why_not(self, head: Head) -> str:
        for one in self.commit.watermarks:
            if latest(head.state.txns, one.source)[0] > self.base.version:
                return f"the source {one.source} has been merged by another commit"
        return self.changing.since.why_not(head.state.version)

    def _proposal(
        self,
        head: Head,
        stand: Sequence[Rewrite],
        *,
        positions: Mapping[str, Positions],
        conflicts: tuple[Conflict, ...],
    ) -> Proposal:
        vectors = vectors_of(
            positions,
            self.carrier.paths.root,
            commit_id=self.commit.commit_id,
            version=head.state.version + 1,
        )
        live, state = head.live, head.state
        replacements = [self._replacement(one, live, vectors) for one in stand]
        if self.commit.kind is CommitKind.CHANGE:
            deed = change(state, replacements, self.commit.watermarks)
        else:
            deed = optimization(state, replacements)
        content = compose(
            state,
            replacements,
            deed,
            author=self._author(),
            now_ms=int(time.time() * 1000),
        )
        return Proposal(content, vectors, conflicts)

    def _replacement(
        self, rewrite: Rewrite, live: Mapping[str, Add], vectors: CarriedVectors
    ) -> Replacement:
        # What others have replaced is gone already; its rows are deleted from the outputs.
        left = [one for one in rewrite.replaced.slices() if one.path in live]
        removed = tuple(live[one.path] for one in left)
        deleted = (add.deletion_vector.cardinality for add in removed if add.deletion_vector)
        marks = [one for one in rewrite.files.slices() if one.path in rewrite.marks]
        marked = sum(len(one.dropped) for one in rewrite.marks.values())
        gone = rows_removed(rewrite) if self.commit.kind is CommitKind.CHANGE else 0
        kept = sum(one.row_count for one in left) - sum(deleted) - (gone - marked)
        return Replacement(
            removed=removed,
            added=tuple(self._new_file(output.path, vectors) for output in rewrite.added),
            live_rows=kept + rewrite.rows_added,
            curve=rewrite.curve,
            marked=tuple(
                Marked(live[one.path], vectors.by_path[one.path], one.row_count) for one in marks
            ),
            rows_added=rewrite.rows_added,
            rows_removed=gone,
            partition=self._partition(rewrite),
        )

    def _partition(self, rewrite: Rewrite) -> Mapping[str, str | None]:
        """Return the values of a group without files, as the log has them."""
        if rewrite.files.file_count or not rewrite.added:
            return {}
        values = Partition.of(rewrite.target_key).values
        names = (column.physical_name for column in self.changing.partitions)
        return dict(zip(names, values, strict=True))

    def _new_file(self, path: str, vectors: CarriedVectors) -> NewFile:
        file, vector = self.outputs[path], vectors.by_path.get(path)
        if vector is None:
            return file
        return replace(file, stats=loosened(file.stats), deletion_vector=vector)

    def _author(self) -> Author:
        properties = dict(self.commit.properties)
        return Author(
            commit_id=self.commit.commit_id,
            read_version=int(self.commit.base.snapshot_id),
            engine_info=f"compact/{properties.get(_VERSION_PROPERTY, 'unknown')}",
            note=json.dumps(properties, sort_keys=True) if properties else "",
        )


def _nothing(conflicts: tuple[Conflict, ...]) -> Proposal:
    return Proposal(b"", CarriedVectors({}), conflicts)
