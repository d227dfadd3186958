"""Puts the files of many manifests into few, by partition: a `replace` snapshot of the same files.

Every file keeps its snapshot, its sequence numbers and all that is said of it. Manifests of delete
files are left as they are, and so is what another writer commits meanwhile: the new snapshot
follows whatever the head is, or there is none.

Specification: https://iceberg.apache.org/spec/#manifests
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from catalog.errors import UnsupportedTableError
from catalog.iceberg.commit_properties import manifest_size_bytes
from catalog.iceberg.entries import manifests_of
from catalog.iceberg.file_io import StorageFileIO
from catalog.iceberg.manifest_lists import ListedManifest
from catalog.iceberg.staging import Staging
from catalog.iceberg.upkeep import UpkeepTarget
from catalog.iceberg.upkeep_commit import UpkeepCommit
from catalog.upkeep import UpkeepOrder, UpkeepResult

# Fewer small manifests than this are not worth a snapshot.
_SMALL_MIN = 4
# Entries are some kilobytes each in memory.
_ENTRIES_MAX = 50_000
_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class _Layout:
    """What is put together, and what stays."""

    merged: tuple[tuple[ListedManifest, ...], ...]
    kept: tuple[ListedManifest, ...]

    @property
    def replaced(self) -> list[ListedManifest]:
        return [one for some in self.merged for one in some]


@dataclass(frozen=True, slots=True)
class RewriteManifests:
    """Puts small manifests together, or all of them.

    Attributes:
        target: the table.
        is_whole: whether manifests of a good size are put in order as well.
    """

    target: UpkeepTarget
    is_whole: bool = False

    @property
    def name(self) -> str:
        """`cluster-manifests` for all, `merge-manifests` for the small ones."""
        return "cluster-manifests" if self.is_whole else "merge-manifests"

    @property
    def is_usual(self) -> bool:
        """That of small ones: it comes to an end."""
        return not self.is_whole

    def check(self, order: UpkeepOrder) -> None:
        """Take any order: nothing is removed."""

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Write the manifests and commit them.

        Raises:
            CommitConflictError: other writers kept winning; nothing was changed.
            CommitUnknownError: it cannot be told whether it happened.
            CatalogError: the table cannot be read, or its storage refuses.
        """
        table = self.target.load()
        io = StorageFileIO(self.target.storage, self.target.confinement)
        layout = self.layout(table, io)
        if not layout.merged:
            return UpkeepResult(self.name, 0, 0, "the manifests are few and large enough")
        if order.is_dry_run:
            return self._result(layout, len(layout.replaced) + len(layout.kept))
        snapshot = UpkeepCommit(self.target, "manifests").run(partial(self._proposed, io))
        left = len(manifests_of(snapshot, io)) if snapshot else 0
        return self._result(layout, left)

    def _proposed(self, io: StorageFileIO, table: Table, staging: Staging) -> Snapshot | None:
        layout = self.layout(table, io)
        if not layout.merged:  # somebody else has done it
            return None
        return staging.rearrange(table, layout.kept, layout.merged)

    def layout(self, table: Table, io: StorageFileIO) -> _Layout:
        """Return what is to be put together in the current snapshot."""
        head = table.metadata.current_snapshot()
        listed = manifests_of(head, io) if head else []
        if any(one.key_metadata for one in listed):
            raise UnsupportedTableError("the table has encrypted manifests")
        size_bytes_max = manifest_size_bytes(table.metadata.properties) // 2
        by_spec: dict[int, list[ListedManifest]] = {}
        for one in listed:
            is_small = self.is_whole or one.manifest_length < size_bytes_max
            if one.content == ManifestContent.DATA and is_small and _live_files(one):
                by_spec.setdefault(one.partition_spec_id, []).append(one)
        least = 2 if self.is_whole else _SMALL_MIN
        merged = [
            batch
            for _, some in sorted(by_spec.items())
            if len(some) >= least
            for batch in _batches(some)
        ]
        going = {one.manifest_path for some in merged for one in some}
        kept = tuple(one for one in listed if one.manifest_path not in going)
        return _Layout(tuple(merged), kept)

    def _result(self, layout: _Layout, left: int) -> UpkeepResult:
        gone = layout.replaced
        return UpkeepResult(
            self.name,
            len(gone),
            sum(one.manifest_length for one in gone),
            f"the snapshot lists {left:,} manifests",
            tuple(one.manifest_path.rpartition("/")[2] for one in gone[:_EXAMPLES]),
        )


def _live_files(one: ListedManifest) -> int:
    return (one.added_files_count or 0) + (one.existing_files_count or 0)


def _batches(manifests: Iterable[ListedManifest]) -> list[tuple[ListedManifest, ...]]:
    """Return manifests by the bunch, the oldest first, no bunch too much for the memory.

    What is new comes last, so that bunches are the same beside a writer who appends.
    """
    found: list[list[ListedManifest]] = [[]]
    entries = 0
    for one in sorted(manifests, key=_age):
        if found[-1] and entries + _live_files(one) > _ENTRIES_MAX:
            found.append([])
            entries = 0
        found[-1].append(one)
        entries += _live_files(one)
    return [tuple(some) for some in found if len(some) > 1]


def _age(one: ListedManifest) -> tuple[int, str]:
    return one.sequence_number or 0, one.manifest_path
