"""Deletes rows the way merge-on-read writers do: a snapshot that adds position delete files.

PyIceberg reads such files and writes none, so its snapshot producer is extended here.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pyiceberg.manifest import (
    DataFile,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.table.update.snapshot import _SnapshotProducer

from catalog.iceberg.delete_manifests import DeleteManifestWriter
from catalog.iceberg.delete_writing import encode
from catalog.iceberg.marking import data_file


@dataclass(frozen=True, slots=True)
class PositionDeletes:
    """The content of one delete file.

    Attributes:
        like: a data file of the partition that the deletes are scoped to.
        positions: ascending row positions by path of the data file.
    """

    like: DataFile
    positions: Mapping[str, npt.NDArray[np.int64]]


def commit_position_deletes(table: Table, deletes: Sequence[PositionDeletes]) -> None:
    """Write one delete file for each of `deletes` and commit them in one snapshot."""
    commit_row_delta(table, [_write(table, each) for each in deletes])


def commit_row_delta(table: Table, delete_files: Sequence[DataFile]) -> None:
    """Commit delete files that are written, of any kind, in one snapshot."""
    transaction = table.refresh().transaction()
    RowDelta(transaction, table.io, delete_files).commit()
    transaction.commit_transaction()


def _write(table: Table, deletes: PositionDeletes) -> DataFile:
    content = encode(deletes.positions)
    location = f"{table.location()}/data/{uuid.uuid4()}-deletes.parquet"
    with table.io.new_output(location).create() as sink:
        sink.write(content)
    return data_file(location, len(content), deletes.positions, like=deletes.like)


class RowDelta(_SnapshotProducer["RowDelta"]):
    """A snapshot that adds delete files and leaves every other file as it is."""

    def __init__(self, transaction: Any, io: Any, delete_files: Sequence[DataFile]) -> None:
        super().__init__(operation=Operation.DELETE, transaction=transaction, io=io)
        self._delete_files = delete_files

    def _head(self) -> Snapshot | None:
        parent_id = self._parent_snapshot_id
        metadata = self._transaction.table_metadata
        return None if parent_id is None else metadata.snapshot_by_id(parent_id)

    def _deleted_entries(self) -> list[ManifestEntry]:
        return []

    def _existing_manifests(self) -> list[ManifestFile]:
        head = self._head()
        return list(head.manifests(self._io)) if head else []

    def _manifests(self) -> list[ManifestFile]:
        by_spec: dict[int, list[DataFile]] = defaultdict(list)
        for file in self._delete_files:
            by_spec[file.spec_id].append(file)
        added = [self._manifest(spec_id, files) for spec_id, files in by_spec.items()]
        return added + self._existing_manifests()

    def _manifest(self, spec_id: int, files: Sequence[DataFile]) -> ManifestFile:
        output, spec = self.new_manifest_output(), self.spec(spec_id)
        with DeleteManifestWriter(
            spec, self.schema(), output, self._snapshot_id, self._compression
        ) as writer:
            for file in files:
                writer.add(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=self._snapshot_id,
                        sequence_number=None,
                        file_sequence_number=None,
                        data_file=file,
                    )
                )
        return writer.to_manifest_file()

    def _validate_concurrency(self) -> None:
        """Deleting the positions of a file that is gone has no effect: nothing to check."""

    def _summary(self, snapshot_properties: Mapping[str, str] | None = None) -> Summary:
        """Count as for an overwrite, the only operation that the library counts deletes for."""
        metadata = self._transaction.table_metadata
        collector = SnapshotSummaryCollector(0)
        for file in self._delete_files:
            collector.add_file(file, metadata.schema(), metadata.specs()[file.spec_id])
        head = self._head()
        counted = update_snapshot_summaries(
            Summary(operation=Operation.OVERWRITE, **collector.build()),
            head.summary if head else None,
        )
        return Summary(operation=Operation.DELETE, **counted.additional_properties)
