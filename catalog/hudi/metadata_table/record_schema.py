"""The Avro schema of the records of the metadata table, and what differs in those of others.  Pure.

Releases add fields and never move one, so records of any release are read by the names of the
fields in their own schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.avro_schemas import Kind, schema

META_FIELDS = (
    "_hoodie_commit_time",
    "_hoodie_commit_seqno",
    "_hoodie_record_key",
    "_hoodie_partition_path",
    "_hoodie_file_name",
)


def _with_meta_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    meta = [{"name": name, "type": ["null", "string"], "default": None} for name in META_FIELDS]
    return {**record, "fields": [*meta, *record["fields"]]}


# What records are stored in; commits name the schema without the meta fields.
RECORD_SCHEMA = json.dumps(_with_meta_fields(schema(Kind.METADATA)), separators=(",", ":"))


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
def record_layout(schema_text: str) -> RecordLayout:
    """Read which fields a schema has.

    Raises:
        CorruptTableError: it is no schema of the metadata table.
        UnsupportedTableError: it has a field that we do not know.
    """
    try:
        parsed = json.loads(schema_text)
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


def _records(kind: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and fields of all records within a schema."""
    if isinstance(kind, list):
        for branch in kind:
            yield from _records(branch)
    elif isinstance(kind, dict):
        if kind.get("type") == "record":
            yield kind["name"], {one["name"]: one["type"] for one in kind["fields"]}
            for one in kind["fields"]:
                yield from _records(one["type"])
        else:
            for part in ("type", "items", "values"):
                yield from _records(kind.get(part))


def _wrappers(column_stats: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the kinds of a minimum, which is the first place where they are declared."""
    branches = column_stats.get("minValue", ())
    names = (one["name"] if isinstance(one, dict) else str(one) for one in branches)
    return tuple(
        name.rpartition(".")[2].removesuffix("Wrapper").replace("null", "Null") for name in names
    )


# The kinds of values in the order of their index.
WRAPPERS = record_layout(RECORD_SCHEMA).wrappers
