"""The version that a commit proposes to follow a head: what stands, and what is carried over."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from catalog.conflicts import all_conflict
from catalog.delta.actions import Add
from catalog.delta.carrying import CarriedVectors, Carrier, vectors_of
from catalog.delta.contents import Author, NewFile, Replacement, compose
from catalog.delta.deletion_vectors import Positions
from catalog.delta.head import Head
from catalog.delta.staleness import why_stale
from catalog.delta.standing import carries_deletes, standing
from catalog.delta.state import TableState
from catalog.delta.stats import loosened
from catalog.model import Commit, CommitKind, Conflict, Rewrite

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
class Proposals:
    """What one commit proposes to one head after another.

    Attributes:
        commit: the commit.
        base: the version that was planned from.
        outputs: what the log says of its outputs, by path.
        carrier: finds deletes that came meanwhile.
    """

    commit: Commit
    base: TableState
    outputs: Mapping[str, NewFile]
    carrier: Carrier

    def make(self, head: Head) -> Proposal:
        """Return the version that would follow a head.

        Raises:
            CorruptTableError: a deletion vector cannot be read, or rows would be lost or doubled.
        """
        if reason := why_stale(self.base, head.state):
            return _nothing(all_conflict(self.commit.rewrites, reason))
        live = head.live
        is_rewrite = self.commit.kind is CommitKind.REWRITE
        carries = is_rewrite and carries_deletes(head.state)
        found = standing(self.commit.rewrites, live, carries_deletes=carries)
        carried = {one.group_id: self.carrier.carried(one, live, found) for one in found.rewrites}
        restored = (group for group, positions in carried.items() if positions is None)
        conflicts = (*found.conflicts, *(Conflict(group, _RESTORED) for group in restored))
        stand = [one for one in found.rewrites if carried[one.group_id] is not None]
        if not stand:
            return _nothing(conflicts)
        positions = {path: one for some in carried.values() for path, one in (some or {}).items()}
        return self._proposal(head, stand, positions=positions, conflicts=conflicts)

    def _proposal(
        self,
        head: Head,
        stand: list[Rewrite],
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
        live = head.live
        content = compose(
            head.state,
            [self._replacement(one, live, vectors) for one in stand],
            author=self._author(),
            now_ms=int(time.time() * 1000),
        )
        return Proposal(content, vectors, conflicts)

    def _replacement(
        self, rewrite: Rewrite, live: Mapping[str, Add], vectors: CarriedVectors
    ) -> Replacement:
        # What others have replaced is gone already; its rows are deleted from the outputs.
        left = [one for one in rewrite.files.slices() if one.path in live]
        removed = tuple(live[one.path] for one in left)
        deleted = (add.deletion_vector.cardinality for add in removed if add.deletion_vector)
        added = tuple(self._new_file(output.path, vectors) for output in rewrite.added)
        live_rows = sum(one.row_count for one in left) - sum(deleted)
        return Replacement(removed, added, live_rows=live_rows, curve=rewrite.curve)

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
