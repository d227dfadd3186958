"""Takes delete files out of a table that no data file needs: they cost readers, and delete nothing.

A position delete file dangles when all data files that it names are gone; an equality delete file
when no data file in its scope is older, or none can hold one of its keys. Whether that is so is
asked anew of every head that the commit meets: a rewrite may bring back files of old numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow.compute as pc
from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from catalog.iceberg.delete_targets import DeleteTargets
from catalog.iceberg.entries import live_entries, manifests_of
from catalog.iceberg.file_io import StorageFileIO
from catalog.iceberg.head import Head, LiveEntry, has_live_files
from catalog.iceberg.manifest_lists import ListedManifest
from catalog.iceberg.staging import Changes, Staging
from catalog.iceberg.upkeep import UpkeepTarget
from catalog.iceberg.upkeep_commit import UpkeepCommit
from catalog.model import Inventory
from catalog.model import Snapshot as SnapshotValue
from catalog.upkeep import UpkeepOrder, UpkeepResult

_EXAMPLES = 20
# Delete files of whole partitions that are opened to see what they name; others stay.
_OPENED_MAX = 10_000


class DanglingTarget(UpkeepTarget, Protocol):
    """The table that is looked after, with its files."""

    def snapshot(self, snapshot_id: str | None = None) -> SnapshotValue:
        """Return the current snapshot, read anew."""

    def inventory(self, snapshot: SnapshotValue) -> Inventory:
        """Return every file slice of a snapshot."""


@dataclass(frozen=True, slots=True)
class DanglingDeletes:
    """Removes the entries of dangling delete files; the files go when their snapshots expire.

    Attributes:
        target: the table.
    """

    target: DanglingTarget

    @property
    def name(self) -> str:
        """A word to choose it by."""
        return "dangling-deletes"

    @property
    def is_usual(self) -> bool:
        """Whether it is done when nothing is chosen."""
        return True

    def check(self, order: UpkeepOrder) -> None:
        """Take any order: no file is removed."""

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Commit a snapshot without them.

        Raises:
            CommitConflictError: other writers kept winning; nothing was changed.
            CommitUnknownError: it cannot be told whether it happened.
            CatalogError: the table or a delete file cannot be read.
        """
        io = StorageFileIO(self.target.storage, self.target.confinement)
        targets = DeleteTargets(self.target.storage, self.target.confinement)
        found = self._dangling(io, targets, self.target.load())
        if found.removed and not order.is_dry_run:
            UpkeepCommit(self.target, "delete files").run(partial(self._proposed, io, targets))
        return self._result(found.removed)

    def _proposed(
        self, io: StorageFileIO, targets: DeleteTargets, table: Table, staging: Staging
    ) -> Snapshot | None:
        found = self._dangling(io, targets, table)
        if not found.removed:
            return None
        head = Head(found.manifests, {}, (), frozenset())
        return staging.stage(table, head, Changes((), found.removed))

    def _dangling(self, io: StorageFileIO, targets: DeleteTargets, table: Table) -> _Found:
        head = table.metadata.current_snapshot()
        if head is None:
            return _Found((), ())
        inventory = self.target.inventory(self.target.snapshot(str(head.snapshot_id)))
        manifests = tuple(one for one in manifests_of(head, io) if has_live_files(one))
        unused, doubtful = _unused(inventory)
        entries = {
            entry.name: LiveEntry(manifest, entry)
            for manifest in manifests
            if manifest.content == ManifestContent.DELETES and (unused or doubtful)
            for entry in live_entries(manifest, io)
        }
        live = frozenset(inventory.files["path"].to_pylist()) if doubtful else frozenset()
        gone = [path for path in doubtful if not targets.of(entries[path].file) & live]
        return _Found(manifests, tuple(_chosen(entries, [*unused, *gone])))

    def _result(self, removed: Sequence[LiveEntry]) -> UpkeepResult:
        paths = sorted(one.file.file_path.rpartition("/")[2] for one in removed)
        return UpkeepResult(
            self.name,
            len(removed),
            sum(one.file.file_size_in_bytes for one in removed),
            "delete files that deleted nothing" if removed else "every delete file is needed",
            tuple(paths[:_EXAMPLES]),
        )


@dataclass(frozen=True, slots=True)
class _Found:
    manifests: tuple[ListedManifest, ...]
    removed: tuple[LiveEntry, ...]


def _chosen(entries: Mapping[str, LiveEntry], paths: Sequence[str]) -> list[LiveEntry]:
    return [entries[path] for path in sorted(paths) if path in entries]


def _unused(inventory: Inventory) -> tuple[list[str], list[str]]:
    """Return delete files that apply to nothing, and those that only their content can tell of."""
    deletes = inventory.delete_files
    is_used = np.zeros(deletes.num_rows, np.bool_)
    is_used[pc.list_flatten(inventory.files["deletes"]).to_numpy()] = True
    is_wide = pc.and_(deletes["target"].is_null(), deletes["equality_ids"].is_null()).to_numpy()
    paths = deletes["path"].to_numpy()
    # One file may hold what is needed, and what is not.
    shared = set(paths[is_used].tolist())
    return (
        [path for path in paths[~is_used].tolist() if path not in shared],
        paths[is_used & is_wide][:_OPENED_MAX].tolist(),
    )
