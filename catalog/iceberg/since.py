"""What others have added since the base of a change: whether it would still be made the same way.

The snapshots between base and head are read, those left out that only rewrote files. Rows that they
removed are no matter: either the file is one that the change replaces, and the state of the head
tells, or the change has found nothing in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFileContent, ManifestEntryStatus
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot, ancestors_of

from catalog.commits import Commit
from catalog.iceberg.data_file import DataFile
from catalog.iceberg.entries import all_entries, manifests_of
from catalog.iceberg.head import partition_text
from catalog.iceberg.partition import decode_key
from catalog.iceberg.watermarks import merged_by

# Keys of partitions of these values are spelled alike by all readers of manifests.
_PLAIN = (bool, int, str, type(None))


@dataclass(frozen=True, slots=True)
class AddedFile:
    """A file that was added since: of its entry in the manifest as much as is needed.

    Attributes:
        path: where it is.
        is_data: whether it has rows; else it deletes by equality.
        spec_id: the spec that it is partitioned by.
        partition_key: key of its partition; None where others might spell it in another way.
    """

    path: str
    is_data: bool
    spec_id: int
    partition_key: str | None

    @staticmethod
    def of(file: DataFile) -> AddedFile:
        """Keep what is needed of a file."""
        values = [file.partition[index] for index in range(len(file.partition))]
        is_plain = all(type(one) in _PLAIN for one in values)
        key = partition_text(file) if is_plain else None
        is_data = file.content == DataFileContent.DATA
        return AddedFile(file.file_path, is_data, file.spec_id, key)


@dataclass(frozen=True, slots=True)
class Since:
    """What came after the base of a change.

    Attributes:
        files: those with rows that were added, and equality deletes.
        merged: sources of changes that were merged.
    """

    files: tuple[AddedFile, ...]
    merged: frozenset[str]

    @property
    def paths(self) -> frozenset[str]:
        """The data files among them."""
        return frozenset(one.path for one in self.files if one.is_data)


class SinceReader:
    """Reads what came between the base of one change and one head after another."""

    def __init__(self, io: FileIO, commit: Commit) -> None:
        self._io = io
        self._commit = commit
        self._known: dict[int, tuple[AddedFile, ...]] = {}

    def read(self, metadata: TableMetadata) -> Since:
        """Read what was added up to the current snapshot, of which the base is an ancestor.

        Raises:
            CorruptTableError: a manifest cannot be decoded.
        """
        base = self._commit.base.snapshot_id
        lineage = ancestors_of(metadata.current_snapshot(), metadata)
        later = list(takewhile(lambda one: str(one.snapshot_id) != base, lineage))
        return Since(
            files=tuple(file for snapshot in later for file in self._added_by(snapshot)),
            merged=frozenset().union(*map(merged_by, later)),
        )

    def _added_by(self, snapshot: Snapshot) -> tuple[AddedFile, ...]:
        if snapshot.summary and snapshot.summary.operation == Operation.REPLACE:
            return ()
        if snapshot.snapshot_id not in self._known:
            self._known[snapshot.snapshot_id] = tuple(self._read(snapshot))
        return self._known[snapshot.snapshot_id]

    def _read(self, snapshot: Snapshot) -> Iterator[AddedFile]:
        for manifest in manifests_of(snapshot, self._io):
            if manifest.added_snapshot_id not in (None, snapshot.snapshot_id):
                continue
            for entry in all_entries(manifest, self._io):
                is_added = entry.status == ManifestEntryStatus.ADDED
                is_own = entry.snapshot_id in (None, snapshot.snapshot_id)
                content = entry.data_file.content
                if is_added and is_own and content != DataFileContent.POSITION_DELETES:
                    yield AddedFile.of(entry.data_file)


def why_not(commit: Commit, since: Since) -> str:
    """Say why a change would be made in another way on the head; empty for no reason."""
    for one in commit.watermarks:
        if one.source in since.merged:
            return f"the source {one.source} has been merged by another commit"
    partitions = commit.partitions or frozenset()
    specs = {decode_key(key)[0] for key in partitions}
    for file in since.files:
        if not file.is_data:
            return f"rows may have been deleted by {file.path}"
        # Elsewhere can only be told among partitions of one spec.
        is_known = file.partition_key is not None and specs == {file.spec_id}
        if not is_known or file.partition_key in partitions:
            return f"rows were added in {file.path}"
    return ""
