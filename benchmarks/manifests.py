"""A partitioned table of very many data files that exist in its manifests alone.

Manifests are written side by side, as the writers of such a table would have; each holds the files
of four days out of a thousand.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pyiceberg.conversions import to_bytes
from pyiceberg.io import load_file_io
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    PartitionFieldSummary,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRef
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import IntegerType, LongType, NestedField

from benchmarks.tables import TABLE, Prepared, open_catalog

COLUMNS = 20
FILE_BYTES = 2_500_000
FILE_ROWS = 75_000
_DAYS, _DAYS_PER_MANIFEST = 1000, 4
_SCHEMA = Schema(
    NestedField(1, "day", IntegerType(), required=False),
    *(
        NestedField(number, f"column_{number:02}", LongType(), required=False)
        for number in range(2, COLUMNS + 1)
    ),
)
_BY_DAY = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "day"), spec_id=0)
_WRITTEN_MS = 1_700_000_000_000
_CODEC: Literal["deflate"] = "deflate"


@dataclass(frozen=True, slots=True)
class _Order:
    location: str
    number: int
    files: int


def prepare_manifests(directory: Path, manifests: int, files_per_manifest: int) -> Prepared:
    """Make the table, unless it is there."""
    prepared = Prepared(directory, (), manifests * files_per_manifest * FILE_BYTES)
    ready = directory / "ready"
    if ready.exists():
        return prepared
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    catalog = open_catalog(directory)
    catalog.create_namespace("ns")
    table = catalog.create_table(TABLE, _SCHEMA, partition_spec=_BY_DAY)
    orders = [_Order(table.location(), one, files_per_manifest) for one in range(manifests)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        written = list(pool.map(_write, orders, chunksize=4))
    location = _commit(table, [_listed(*pair) for pair in zip(orders, written, strict=True)])
    catalog.drop_table(TABLE)
    catalog.register_table(TABLE, location)
    ready.touch()
    return prepared


def append_files(prepared: Prepared, count: int) -> None:
    """Commit some more data files, all at once."""
    table = open_catalog(prepared.directory).load_table(TABLE)
    number = 100_000 + len(table.metadata.snapshots)
    with table.transaction() as change, change.update_snapshot().fast_append() as append:
        for index in range(count):
            append.append_data_file(_file(table.location(), number, index))


def _write(order: _Order) -> int:
    """Write one manifest; return its length."""
    path = _path(order)
    io = load_file_io({}, path)
    with write_manifest(2, _BY_DAY, _SCHEMA, io.new_output(path), order.number + 1, _CODEC) as out:
        for index in range(order.files):
            out.add_entry(
                ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED,
                    snapshot_id=order.number + 1,
                    sequence_number=None,
                    file_sequence_number=None,
                    data_file=_file(order.location, order.number, index),
                )
            )
    return len(io.new_input(path))


def _path(order: _Order) -> str:
    return f"{order.location}/metadata/manifest-{order.number}.avro"


def _days(number: int) -> list[int]:
    first = number * _DAYS_PER_MANIFEST
    return [(first + day) % _DAYS for day in range(_DAYS_PER_MANIFEST)]


def _listed(order: _Order, length: int) -> ManifestFile:
    days = _days(order.number)
    bounds = (to_bytes(IntegerType(), min(days)), to_bytes(IntegerType(), max(days)))
    return ManifestFile.from_args(
        manifest_path=_path(order),
        manifest_length=length,
        partition_spec_id=0,
        content=ManifestContent.DATA,
        sequence_number=order.number + 1,
        min_sequence_number=order.number + 1,
        added_snapshot_id=order.number + 1,
        added_files_count=order.files,
        existing_files_count=0,
        deleted_files_count=0,
        added_rows_count=order.files * FILE_ROWS,
        existing_rows_count=0,
        deleted_rows_count=0,
        partitions=[PartitionFieldSummary(False, False, *bounds)],
        key_metadata=None,
    )


def _commit(table: Table, manifests: Sequence[ManifestFile]) -> str:
    """Write the one snapshot that names them all; return where the table metadata are."""
    number = len(manifests)
    path = f"{table.location()}/metadata/snap-{number}.avro"
    with write_manifest_list(2, table.io.new_output(path), number, None, number, _CODEC) as writer:
        writer.add_manifests(list(manifests))
    snapshot = Snapshot.model_validate(
        {
            "snapshot-id": number,
            "sequence-number": number,
            "timestamp-ms": _WRITTEN_MS,
            "manifest-list": path,
            "summary": Summary(Operation.APPEND),
            "schema-id": 0,
        }
    )
    main = SnapshotRef.model_validate({"snapshot-id": number, "type": "branch"})
    metadata = table.metadata.model_copy(
        update={
            "snapshots": [snapshot],
            "current_snapshot_id": number,
            "last_sequence_number": number,
            "last_updated_ms": _WRITTEN_MS,
            "refs": {"main": main},
        }
    )
    location = (
        f"{table.location()}/metadata/00001-00000000-0000-0000-0000-000000000000.metadata.json"
    )
    ToOutputFile.table_metadata(metadata, table.io.new_output(location))
    return location


def _file(location: str, number: int, index: int) -> DataFile:
    ids = range(1, COLUMNS + 1)
    low = struct.pack("<q", number * 1_000_000 + index)
    high = struct.pack("<q", number * 1_000_000 + index + FILE_ROWS)
    day = _days(number)[index % _DAYS_PER_MANIFEST]
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"{location}/data/day={day}/00000-{number}-{index:08}-0000000000000000.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(day),
        record_count=FILE_ROWS,
        file_size_in_bytes=FILE_BYTES + index,
        column_sizes=dict.fromkeys(ids, FILE_BYTES // COLUMNS),
        value_counts=dict.fromkeys(ids, FILE_ROWS),
        null_value_counts=dict.fromkeys(ids, 0),
        nan_value_counts={},
        lower_bounds=dict.fromkeys(ids, low),
        upper_bounds=dict.fromkeys(ids, high),
        split_offsets=[4],
    )
    file.spec_id = 0
    return file
