"""A table of many snapshots, each of which added some files: the input of the expiry case.

The newest snapshot has lost all files but its own, so that nearly everything is to go. Manifests
and metadata are real, data files are there and empty; what a thousand commits would write is
written at once.
"""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path

import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRef
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.typedef import Record

from benchmarks.tables import TABLE, Prepared, open_catalog

_FIRST_MS = 1_700_000_000_000
FILE_BYTES = 10_000
_CODEC = "gzip"


def prepare_snapshots(directory: Path, snapshots: int, files_per_snapshot: int) -> Prepared:
    """Make a table of `snapshots` appends of `files_per_snapshot` files, and one that clears it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    catalog = open_catalog(directory)
    catalog.create_namespace("ns")
    table = catalog.create_table(TABLE, pa.schema([("id", pa.int64()), ("text", pa.string())]))
    history = _History(table)
    for _ in range(snapshots):
        history.append(files_per_snapshot)
    history.clear()
    location = history.write()
    catalog.drop_table(TABLE)
    catalog.register_table(TABLE, location)
    return Prepared(directory, (), snapshots * files_per_snapshot * FILE_BYTES)


class _History:
    def __init__(self, table: Table) -> None:
        self._table, self._io = table, table.io
        self._place = table.location()
        Path(self._place.removeprefix("file://"), "data").mkdir(parents=True, exist_ok=True)
        self._manifests: list[ManifestFile] = []
        self._snapshots: list[Snapshot] = []
        self._numbers = count()

    def append(self, files: int) -> None:
        number = len(self._snapshots) + 1
        metadata = self._table.metadata
        path = f"{self._place}/metadata/manifest-{number}.avro"
        with write_manifest(
            2, metadata.spec(), metadata.schema(), self._io.new_output(path), number, _CODEC
        ) as writer:
            for _ in range(files):
                writer.add_entry(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=number,
                        sequence_number=None,
                        file_sequence_number=None,
                        data_file=self._file(),
                    )
                )
        self._commit([writer.to_manifest_file(), *self._manifests])

    def clear(self) -> None:
        """Let go of all files but those that were added last."""
        self._commit(self._manifests[:1])

    def write(self) -> str:
        """Write the table metadata; return where they are."""
        head = self._snapshots[-1]
        metadata = self._table.metadata.model_copy(
            update={
                "snapshots": self._snapshots,
                "current_snapshot_id": head.snapshot_id,
                "last_sequence_number": head.sequence_number,
                "last_updated_ms": head.timestamp_ms,
                "refs": {
                    "main": SnapshotRef.model_validate(
                        {"snapshot-id": head.snapshot_id, "type": "branch"}
                    )
                },
            }
        )
        location = (
            f"{self._place}/metadata/00001-00000000-0000-0000-0000-000000000000.metadata.json"
        )
        ToOutputFile.table_metadata(metadata, self._io.new_output(location))
        return location

    def _commit(self, manifests: list[ManifestFile]) -> None:
        number = len(self._snapshots) + 1
        path = f"{self._place}/metadata/snap-{number}.avro"
        parent = self._snapshots[-1].snapshot_id if self._snapshots else None
        _write_list(self._io, path, (number, parent), manifests)
        self._manifests = Snapshot.model_validate(
            {"snapshot-id": number, "manifest-list": path, "timestamp-ms": 0}
        ).manifests(self._io)
        self._snapshots.append(
            Snapshot.model_validate(
                {
                    "snapshot-id": number,
                    "parent-snapshot-id": parent,
                    "sequence-number": number,
                    "timestamp-ms": _FIRST_MS + number,
                    "manifest-list": path,
                    "summary": Summary(Operation.APPEND),
                    "schema-id": 0,
                }
            )
        )

    def _file(self) -> DataFile:
        name = f"00000-{next(self._numbers):08}-0000000000000000.parquet"
        path = f"{self._place}/data/{name}"
        Path(path.removeprefix("file://")).touch()
        ids = (1, 2)
        file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=path,
            file_format=FileFormat.PARQUET,
            partition=Record(),
            record_count=1000,
            file_size_in_bytes=FILE_BYTES,
            column_sizes=dict.fromkeys(ids, 5000),
            value_counts=dict.fromkeys(ids, 1000),
            null_value_counts=dict.fromkeys(ids, 0),
            nan_value_counts={},
            lower_bounds=dict.fromkeys(ids, b"\0" * 8),
            upper_bounds=dict.fromkeys(ids, b"\1" * 8),
            split_offsets=[4],
        )
        file.spec_id = 0
        return file


def _write_list(
    io: FileIO, path: str, numbers: tuple[int, int | None], manifests: list[ManifestFile]
) -> None:
    number, parent = numbers
    with write_manifest_list(
        format_version=2,
        output_file=io.new_output(path),
        snapshot_id=number,
        parent_snapshot_id=parent,
        sequence_number=number,
        avro_compression=_CODEC,
    ) as writer:
        writer.add_manifests(manifests)
