"""Columns added to a Delta table, or widened, by a new `metaData` action.

Under column mapping each new field gets the next id and a physical name of its own. A column is
widened only where the table asks for type widening, and its history of types is kept with it.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#column-mapping
and https://github.com/delta-io/delta/blob/master/PROTOCOL.md#type-widening
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from pyarrow import types

from catalog.attempts import attempts
from catalog.delta.commit import PACE
from catalog.delta.contents import commit_timestamp, lines
from catalog.delta.head import commit_location
from catalog.delta.log import LogSegment
from catalog.delta.paths import Paths
from catalog.delta.properties import is_set
from catalog.delta.protocol import features_of
from catalog.delta.state import TableState
from catalog.errors import (
    CommitConflictError,
    ObjectExistsError,
    StorageError,
    UnsupportedTableError,
)
from catalog.evolution import Evolution
from catalog.storage import Storage

_PLAIN = {
    pa.bool_(): "boolean",
    pa.int8(): "byte",
    pa.int16(): "short",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.date32(): "date",
    pa.timestamp("us", "UTC"): "timestamp",
    pa.timestamp("us"): "timestamp_ntz",
    pa.string(): "string",
    pa.binary(): "binary",
}
_INTEGERS = ("byte", "short", "integer", "long")
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_MODE = "delta.columnMapping.mode"
_MAX_ID = "delta.columnMapping.maxColumnId"
# What files cannot be sure to have in a name, unless columns are mapped.
_UNNAMEABLE = re.compile(r"[ ,;{}()\n\t=]")
_FOR_ICEBERG = ("delta.enableIcebergCompatV1", "delta.enableIcebergCompatV2")


class EvolutionTarget(Protocol):
    """The table that evolves."""

    @property
    def name(self) -> str:
        """How messages call it."""

    @property
    def storage(self) -> Storage:
        """Where its log is."""

    @property
    def paths(self) -> Paths:
        """Where its files may lie."""

    def load(self, version: int | None = None) -> tuple[LogSegment, TableState]:
        """Read a version anew, the newest by default."""


def evolve(target: EvolutionTarget, evolution: Evolution) -> None:
    """Add and widen columns; see `catalog.evolution.EvolvableTable`."""
    for _ in attempts(PACE):
        _, head = target.load()
        metadata = evolved(head, evolution)
        if metadata is None:
            return
        content = lines([_commit_info(head, evolution), {"metaData": metadata}])
        try:
            location = commit_location(target.paths.root, head.version + 1)
            target.storage.put_if_absent(location, content)
        except (ObjectExistsError, StorageError):
            continue  # what the log holds by now tells whether it happened
        target.load()
        return
    raise CommitConflictError(
        f"{target.name}: other writers kept winning while columns were added",
        hint="try again when the table is less busy",
    )


def evolved(head: TableState, evolution: Evolution) -> dict[str, Any] | None:
    """Return the `metaData` action by which columns are added and widened; None for no change.

    Raises:
        UnsupportedTableError: the table cannot have such a column.
    """
    metadata = head.metadata
    schema = json.loads(metadata.schema_text)
    known = {field["name"]: field for field in schema["fields"]}
    numbering = _Numbering.of(metadata.configuration)
    is_changed = False
    for field in evolution.added:
        wanted = _Typing(head, field.name).json(field.type)
        if field.name not in known:
            schema["fields"].append(numbering.field(field.name, wanted))
            is_changed = True
        elif isinstance(wanted, str) and known[field.name]["type"] != wanted:
            raise UnsupportedTableError(
                f"another writer has just added {field.name!r} as"
                f" {known[field.name]['type']}, not as {wanted}"
            )
    for field in evolution.widened if _widens(head) else ():
        wide = _Typing(head, field.name).json(field.type)
        place = known.get(field.name)
        if place is not None and field.name not in metadata.partition_columns:
            is_changed |= _widen(place, wide)
    if not is_changed:
        return None
    configuration = dict(metadata.configuration) | numbering.configuration
    return {**metadata.raw, "schemaString": json.dumps(schema), "configuration": configuration}


def _widens(head: TableState) -> bool:
    is_on = is_set(head.metadata.configuration, "delta.enableTypeWidening")
    is_for_iceberg = any(is_set(head.metadata.configuration, one) for one in _FOR_ICEBERG)
    features = features_of(head.protocol) & {"typeWidening", "typeWidening-preview"}
    return is_on and bool(features) and not is_for_iceberg


def _widen(field: dict[str, Any], wide: Any) -> bool:
    """Give a field a wider type, and remember the narrower one; tell whether that was possible."""
    narrow = field["type"]
    if not isinstance(narrow, str) or not isinstance(wide, str) or not _is_wider(narrow, wide):
        return False
    before = field.setdefault("metadata", {}).get("delta.typeChanges") or []
    change = {"fromType": narrow, "toType": wide}
    field["metadata"]["delta.typeChanges"] = [*before, change]
    field["type"] = wide
    return True


def _is_wider(narrow: str, wide: str) -> bool:
    if narrow in _INTEGERS and wide in _INTEGERS:
        return _INTEGERS.index(narrow) < _INTEGERS.index(wide)
    if (one := _DECIMAL.fullmatch(narrow)) and (other := _DECIMAL.fullmatch(wide)):
        return one[2] == other[2] and int(one[1]) < int(other[1])
    return (narrow, wide) == ("float", "double")


@dataclass(slots=True)
class _Numbering:
    """Gives ids and physical names to new fields, where the table maps its columns."""

    is_mapped: bool
    last_id: int

    @staticmethod
    def of(configuration: Mapping[str, str]) -> _Numbering:
        is_mapped = configuration.get(_MODE, "none") != "none"
        return _Numbering(is_mapped, int(configuration.get(_MAX_ID, "0")))

    @property
    def configuration(self) -> dict[str, str]:
        """Properties that say which ids were given out."""
        return {_MAX_ID: str(self.last_id)} if self.is_mapped else {}

    def field(self, name: str, kind: Any) -> dict[str, Any]:
        """Return a new field, and everything in it, as a schema has it."""
        if not self.is_mapped and _UNNAMEABLE.search(name):
            raise UnsupportedTableError(
                f"a column {name!r} cannot be added: its name has characters that the table can"
                " only have with column mapping"
            )
        metadata: dict[str, Any] = {}
        if self.is_mapped:
            self.last_id += 1
            metadata = {
                "delta.columnMapping.id": self.last_id,
                "delta.columnMapping.physicalName": f"col-{uuid.uuid4()}",
            }
        return {
            "name": name,
            "type": _renewed(kind, self.field),
            "nullable": True,
            "metadata": metadata,
        }


def _renewed(kind: Any, new_field: Callable[[str, Any], dict[str, Any]]) -> Any:
    """Return a type, the fields of structs in it made anew."""
    if isinstance(kind, str):
        return kind
    if kind["type"] == "struct":
        fields = [new_field(one["name"], one["type"]) for one in kind["fields"]]
        return {**kind, "fields": fields}
    inner = ("elementType", "keyType", "valueType")
    return {
        name: _renewed(value, new_field) if name in inner else value for name, value in kind.items()
    }


@dataclass(frozen=True, slots=True)
class _Typing:
    """Spells types for one new column of a table."""

    head: TableState
    column: str

    def json(self, kind: pa.DataType) -> Any:
        """Return a type as a schema has it."""
        if types.is_decimal128(kind) and kind.scale >= 0:
            return f"decimal({kind.precision},{kind.scale})"
        if types.is_fixed_size_binary(kind):
            return "binary"
        if types.is_struct(kind):
            fields = [{"name": one.name, "type": self.json(one.type)} for one in kind.fields]
            return {"type": "struct", "fields": fields}
        if types.is_list(kind):
            self._refuse_for_iceberg(kind)
            return {
                "type": "array",
                "elementType": self.json(kind.value_type),
                "containsNull": True,
            }
        if types.is_map(kind):
            self._refuse_for_iceberg(kind)
            key, value = self.json(kind.key_type), self.json(kind.item_type)
            return {
                "type": "map",
                "keyType": key,
                "valueType": value,
                "valueContainsNull": True,
            }
        if kind not in _PLAIN or not self._has_feature(kind):
            raise UnsupportedTableError(f"the table cannot have {self.column!r}, a {kind}")
        return _PLAIN[kind]

    def _has_feature(self, kind: pa.DataType) -> bool:
        return kind != pa.timestamp("us") or "timestampNtz" in features_of(self.head.protocol)

    def _refuse_for_iceberg(self, kind: pa.DataType) -> None:
        if any(is_set(self.head.metadata.configuration, one) for one in _FOR_ICEBERG):
            raise UnsupportedTableError(
                f"{self.column!r}, a {kind}, needs ids for Iceberg's readers, which are not given"
            )


def _commit_info(head: TableState, evolution: Evolution) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    stamp = commit_timestamp(head, now_ms)
    names = [field.name for field in (*evolution.added, *evolution.widened)]
    info: dict[str, Any] = {} if stamp is None else {"inCommitTimestamp": stamp}
    info |= {
        "timestamp": now_ms,
        "operation": "ADD COLUMNS" if len(evolution.added) else "CHANGE COLUMNS",
        "operationParameters": {"columns": json.dumps(names)},
        "readVersion": head.version,
        "isolationLevel": "Serializable",
        "isBlindAppend": True,
        "operationMetrics": {},
        "engineInfo": "compact",
        "txnId": str(uuid.uuid4()),
    }
    return {"commitInfo": info}
