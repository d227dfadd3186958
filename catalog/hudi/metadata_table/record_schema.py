"""The Avro schema of the records of the metadata table, and what differs in those of others.  Pure.

Declared after "HoodieMetadataRecord" of Hudi's specification. Releases add fields and never move
one, so records of any release are read by the names of the fields in their own schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from catalog.errors import CorruptTableError, UnsupportedTableError

# Readers of Java ask for its own strings by this.
_STRING = {"type": "string", "avro.java.string": "String"}
_WRAPPERS: tuple[tuple[str, Any], ...] = (
    ("Boolean", "boolean"),
    ("Int", "int"),
    ("Long", "long"),
    ("Float", "float"),
    ("Double", "double"),
    ("Bytes", "bytes"),
    ("String", _STRING),
    ("Date", "int"),
    ("Decimal", {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 15}),
    ("TimeMicros", {"type": "long", "logicalType": "time-micros"}),
    ("TimestampMicros", "long"),
    ("LocalDate", "int"),
)
# The branches of a value, in the order of the union: its index is what is stored.
WRAPPERS = ("Null", *(name for name, _ in _WRAPPERS), "Array")
META_FIELDS = (
    "_hoodie_commit_time",
    "_hoodie_commit_seqno",
    "_hoodie_record_key",
    "_hoodie_partition_path",
    "_hoodie_file_name",
)


def _field(name: str, kind: Any) -> dict[str, Any]:
    """A field that may be absent, as nearly all are."""
    return {"name": name, "type": ["null", kind], "default": None}


def _record(name: str, *fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


def _column_stats() -> dict[str, Any]:
    plain = [_record(f"{name}Wrapper", {"name": "value", "type": kind}) for name, kind in _WRAPPERS]
    names = [wrapper["name"] for wrapper in plain]
    array = _record(
        "ArrayWrapper",
        _field("wrappedValues", {"type": "array", "items": ["null", *names]}),
    )
    value_type = _record(
        "HoodieValueTypeInfo",
        {"name": "typeOrdinal", "type": "int"},
        _field("additionalInfo", _STRING),
    )
    return _record(
        "HoodieMetadataColumnStats",
        _field("fileName", _STRING),
        _field("columnName", _STRING),
        {"name": "minValue", "type": ["null", *plain, array], "default": None},
        {"name": "maxValue", "type": ["null", *names, "ArrayWrapper"], "default": None},
        _field("valueCount", "long"),
        _field("nullCount", "long"),
        _field("totalSize", "long"),
        _field("totalUncompressedSize", "long"),
        {"name": "isDeleted", "type": "boolean"},
        {"name": "isTightBound", "type": "boolean", "default": False},
        _field("valueType", value_type),
    )


def _record_index() -> dict[str, Any]:
    return _record(
        "HoodieRecordIndexInfo",
        _field("partitionName", _STRING),
        _field("fileIdHighBits", "long"),
        _field("fileIdLowBits", "long"),
        _field("fileIndex", "int"),
        _field("fileId", _STRING),
        _field("instantTime", "long"),
        {"name": "fileIdEncoding", "type": "int", "default": 0},
        _field("position", "long"),
    )


def _metadata_record(*front: Mapping[str, Any]) -> str:
    """Return the schema of a record with these fields before its own."""
    file_info = _record(
        "HoodieMetadataFileInfo",
        {"name": "size", "type": "long"},
        {"name": "isDeleted", "type": "boolean"},
    )
    bloom = _record(
        "HoodieMetadataBloomFilter",
        {"name": "type", "type": _STRING},
        {"name": "timestamp", "type": _STRING},
        {"name": "bloomFilter", "type": "bytes"},
        {"name": "isDeleted", "type": "boolean"},
    )
    secondary = _record("HoodieSecondaryIndexInfo", {"name": "isDeleted", "type": "boolean"})
    files = {"type": "map", "values": file_info, "avro.java.string": "String"}
    fields = (
        {"name": "key", "type": _STRING},
        {"name": "type", "type": "int"},
        {"name": "filesystemMetadata", "type": ["null", files]},
        _field("BloomFilterMetadata", bloom),
        _field("ColumnStatsMetadata", _column_stats()),
        _field("recordIndexMetadata", _record_index()),
        _field("SecondaryIndexMetadata", secondary),
    )
    schema = _record("HoodieMetadataRecord", *front, *fields)
    return json.dumps({**schema, "namespace": "org.apache.hudi.avro.model"})


# What commits name as the schema of the table, and what records are stored in.
TABLE_SCHEMA = _metadata_record()
RECORD_SCHEMA = _metadata_record(*(_field(name, "string") for name in META_FIELDS))


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """Which fields the records of a file have, in their order.

    Attributes:
        fields: of the record itself.
        column_stats: of the record of a column's statistics.
        record_index: of the record of a row's place.
        wrappers: the kinds of values, by their index.
    """

    fields: tuple[str, ...]
    column_stats: tuple[str, ...]
    record_index: tuple[str, ...]
    wrappers: tuple[str, ...]


@cache
def record_layout(schema: str) -> RecordLayout:
    """Read which fields a schema has.

    Raises:
        CorruptTableError: it is no schema of the metadata table.
        UnsupportedTableError: it has a field that we do not know.
    """
    try:
        parsed = json.loads(schema)
        records = {name: fields for name, fields in _records(parsed) if name}
        fields = records["HoodieMetadataRecord"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptTableError("the schema of the metadata table cannot be read") from error
    found = RecordLayout(
        tuple(fields),
        tuple(records.get("HoodieMetadataColumnStats", ())),
        tuple(records.get("HoodieRecordIndexInfo", ())),
        _wrappers(records.get("HoodieMetadataColumnStats", {})),
    )
    unknown = {*found.fields, *found.column_stats, *found.record_index} - _known_fields()
    if unknown:
        names = ", ".join(sorted(unknown))
        raise UnsupportedTableError(f"records of the metadata table have a field {names}")
    return found


@cache
def _known_fields() -> frozenset[str]:
    parsed = json.loads(RECORD_SCHEMA)
    return frozenset(name for _, fields in _records(parsed) for name in fields)


def _records(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and fields of all records within a schema."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _records(branch)
    elif isinstance(schema, dict):
        if schema.get("type") == "record":
            yield schema["name"], {one["name"]: one["type"] for one in schema["fields"]}
            for one in schema["fields"]:
                yield from _records(one["type"])
        else:
            for part in ("type", "items", "values"):
                yield from _records(schema.get(part))


def _wrappers(column_stats: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the kinds of a minimum, which is the first place where they are declared."""
    branches = column_stats.get("minValue", ())
    names = (one["name"] if isinstance(one, dict) else str(one) for one in branches)
    return tuple(
        name.rpartition(".")[2].removesuffix("Wrapper").replace("null", "Null") for name in names
    )
