"""Statistics of each partition, as the file of the specification: rows, files and bytes.

They are told for the current snapshot, from its manifests. Who reads them later adds what has
happened since; so they are written anew where somebody has begun to keep them, or when asked for.

Specification: https://iceberg.apache.org/spec/#partition-statistics
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import SetPartitionStatisticsUpdate
from pyiceberg.types import NestedField

from catalog.iceberg.head import schema_for
from catalog.iceberg.manifest import ManifestPart, ManifestReader
from catalog.iceberg.metadata import specs
from catalog.iceberg.partition import Value, decode_key
from catalog.iceberg.schema import arrow_schema
from catalog.iceberg.under_way import metadata_directory
from catalog.iceberg.upkeep import Answer, UpkeepTarget, swap
from catalog.upkeep import UpkeepOrder, UpkeepResult

_NAME = "partition-statistics"
_FIELD_ID = b"PARQUET:field_id"
_ROW_LINEAGE_VERSION = 3
# Name, type and field id of the counts, in the order of the file.
_COUNTS = (
    ("data_record_count", pa.int64(), 3),
    ("data_file_count", pa.int32(), 4),
    ("total_data_file_size_in_bytes", pa.int64(), 5),
    ("position_delete_record_count", pa.int64(), 6),
    ("position_delete_file_count", pa.int32(), 7),
    ("equality_delete_record_count", pa.int64(), 8),
    ("equality_delete_file_count", pa.int32(), 9),
)
# Told of nothing here: what deletes leave takes reading, and files that went leave no time.
_UNTOLD = (
    ("total_record_count", pa.int64(), 10),
    ("last_updated_at", pa.int64(), 11),
    ("last_updated_snapshot_id", pa.int64(), 12),
)
_VECTORS = ("dv_count", pa.int32(), 13)


@dataclass(frozen=True, slots=True)
class PartitionStatistics:
    """Writes the statistics of the current snapshot.

    Attributes:
        target: the table.
    """

    target: UpkeepTarget

    @property
    def name(self) -> str:
        """`partition-statistics`."""
        return _NAME

    @property
    def is_usual(self) -> bool:
        """Where somebody keeps them already."""
        return bool(self.target.current().metadata.partition_statistics)

    def check(self, order: UpkeepOrder) -> None:
        """Take any order: nothing is removed."""

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Write the file and name it in the metadata.

        Raises:
            CatalogError: the table cannot be read, or its storage refuses.
        """
        table = self.target.load()
        reason = _why_not(table.metadata)
        if reason:
            return UpkeepResult(_NAME, 0, 0, reason)
        content = encode(table.metadata, self._parts(table))
        if order.is_dry_run:
            return UpkeepResult(_NAME, 1, len(content))
        head = table.metadata.current_snapshot_id
        directory = metadata_directory(table, self.target.confinement)
        place = directory.child(f"partition-stats-{head}-{uuid.uuid4()}.parquet")
        self.target.storage.write(place, content)
        told = {
            "snapshot-id": head,
            "statistics-path": str(place),
            "file-size-in-bytes": len(content),
        }
        update = SetPartitionStatisticsUpdate.model_validate({"partition-statistics": told})
        answer = swap(self.target, table, (update,))
        if answer is not Answer.TAKEN:  # a refusal may be that of a copy that came second
            named = self.target.load().metadata.partition_statistics
            is_named = any(one.statistics_path == str(place) for one in named)
            answer = Answer.TAKEN if is_named else answer
        if answer is Answer.REFUSED:
            self.target.storage.delete([place])
            return UpkeepResult(_NAME, 0, 0, "the table has changed meanwhile: run again")
        note = "" if answer is Answer.TAKEN else "the catalog has not said that it took them"
        return UpkeepResult(_NAME, 1, len(content), note, (str(place),))

    def _parts(self, table: Table) -> Iterable[ManifestPart]:
        head = table.metadata.current_snapshot()
        assert head is not None, "it was looked for"  # noqa: S101 - for the types
        reader = ManifestReader(self.target.storage, self.target.confinement, specs(table.metadata))
        return map(reader, reader.manifests(str(head.manifest_list)))


def _why_not(metadata: TableMetadata) -> str:
    head = metadata.current_snapshot_id
    if head is None:
        return "the table is empty"
    if all(spec.is_unpartitioned() for spec in metadata.partition_specs):
        return "the table has no partitions"
    if any(one.snapshot_id == head for one in metadata.partition_statistics):
        return "those of the current snapshot are there"
    return ""


def encode(metadata: TableMetadata, parts: Iterable[ManifestPart]) -> bytes:
    """Return the content of the file for what the manifests of a snapshot hold."""
    fields = _partition_fields(metadata)
    counts = _counted(parts)
    rows = sorted(counts, key=lambda key: _order(_values(key, metadata, fields)))
    partitions = [_values(key, metadata, fields) for key in rows]
    columns = {
        field.name: pa.array([_plain(one[at]) for one in partitions], field.type)
        for at, field in enumerate(fields)
    }
    struct = pa.StructArray.from_arrays(list(columns.values()), fields=list(fields))
    is_v3 = metadata.format_version >= _ROW_LINEAGE_VERSION
    told = (*_COUNTS, *_UNTOLD, *((_VECTORS,) if is_v3 else ()))
    arrays = [struct, pa.array([decode_key(key)[0] for key in rows], pa.int32())]
    arrays += [pa.array([counts[key].get(name) for key in rows], kind) for name, kind, _ in told]
    schema = pa.schema(
        [
            _field("partition", struct.type, 1, is_required=True),
            _field("spec_id", pa.int32(), 2, is_required=True),
            *(
                _field(name, kind, number, is_required=is_v3 and name not in _names(_UNTOLD))
                if number > 5
                else _field(name, kind, number, is_required=True)
                for name, kind, number in told
            ),
        ]
    )
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, schema=schema), sink, compression="zstd", store_schema=False)
    return bytes(sink.getvalue().to_pybytes())


def _names(fields: Sequence[tuple[str, pa.DataType, int]]) -> set[str]:
    return {name for name, _, _ in fields}


def _field(name: str, kind: pa.DataType, number: int, *, is_required: bool) -> pa.Field:
    return pa.field(name, kind, not is_required, {_FIELD_ID: str(number).encode()})


def _partition_fields(metadata: TableMetadata) -> pa.Schema:
    """Return the fields of all specs, by their ids; a name is that of the newest spec."""
    found: dict[int, NestedField] = {}
    for spec in sorted(metadata.partition_specs, key=lambda one: -one.spec_id):
        kinds = spec.partition_type(schema_for(metadata, spec)).fields
        for field, kind in zip(spec.fields, kinds, strict=True):
            if str(field.transform) != "void":
                found.setdefault(
                    field.field_id,
                    NestedField(field.field_id, field.name, kind.field_type, required=False),
                )
    return arrow_schema(Schema(*(found[number] for number in sorted(found))))


def _counted(parts: Iterable[ManifestPart]) -> dict[str, dict[str, int]]:
    """Add up files by the keys of their partitions."""
    counts: dict[str, dict[str, int]] = {}
    for part in parts:
        _count(counts, part.files, ("data_record_count", "data_file_count"))
        deletes = part.delete_files
        is_equality = deletes["equality_ids"].is_valid()
        is_vector = pc.match_substring(deletes["path"], ".puffin")
        names = ("position_delete_record_count", "position_delete_file_count")
        positions = pc.and_(pc.invert(is_equality), pc.invert(is_vector))
        _count(counts, deletes.filter(positions), names)
        _count(counts, deletes.filter(is_vector), (names[0], _VECTORS[0]))
        names = ("equality_delete_record_count", "equality_delete_file_count")
        _count(counts, deletes.filter(is_equality), names)
    return counts


def _count(counts: dict[str, dict[str, int]], files: pa.Table, names: tuple[str, str]) -> None:
    plain = files.set_column(
        files.column_names.index("partition_key"),
        "partition_key",
        files["partition_key"].cast(pa.string()),
    )
    summed = plain.group_by("partition_key").aggregate(
        [("row_count", "sum"), ("path", "count"), ("size_bytes", "sum")]
    )
    told = (*names, "total_data_file_size_in_bytes")[: 3 if names[0].startswith("data") else 2]
    for row in summed.to_pylist():
        own = counts.setdefault(
            row["partition_key"], dict.fromkeys([*_names(_COUNTS), _VECTORS[0]], 0)
        )
        sums = (row["row_count_sum"], row["path_count"], row["size_bytes_sum"])
        for name, value in zip(told, sums, strict=False):
            own[name] += value


def _values(key: str, metadata: TableMetadata, fields: pa.Schema) -> list[Value]:
    """Return the values of a partition for the fields of all specs; null where it has none."""
    spec_id, values = decode_key(key)
    own = dict(zip((one.field_id for one in metadata.specs()[spec_id].fields), values, strict=True))
    return [own.get(int((field.metadata or {})[_FIELD_ID])) for field in fields]


def _order(values: Sequence[Value]) -> list[tuple[bool, Any]]:
    """Sort nulls first, and a NaN last of all numbers."""
    return [
        (value is not None, (value != value, value) if value is not None else (False, 0))
        for value in values
    ]


def _plain(value: Value) -> object:
    return value.bytes if isinstance(value, uuid.UUID) else value
