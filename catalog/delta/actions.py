"""The actions of commits as values: for the tail of a log and its small facts, never for all files.

What the protocol may add later is kept: every action carries the object that it was read from.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#actions
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from catalog.delta.deletion_vectors import DeletionVector
from catalog.errors import CorruptTableError

Raw = Mapping[str, Any]
_Kind = TypeVar("_Kind", bound=type)


@dataclass(frozen=True, slots=True)
class Add:
    """A data file that is live from here on.

    Attributes:
        path: as stored: URL-encoded, relative to the table or absolute.
        partition_values: by physical column name, as text; None for null.
        size_bytes: its length.
        modified_ms: when it was written, in milliseconds since the epoch.
        is_data_change: False when the table's content stays as it was.
        stats: JSON, as stored.
        deletion_vector: the rows of it that are deleted.
        base_row_id: id of its first row.
        row_version: the version that its rows were last changed in, where they do not say it.
        raw: the whole object.
    """

    path: str
    partition_values: Mapping[str, str | None]
    size_bytes: int
    modified_ms: int
    is_data_change: bool
    stats: str | None = None
    deletion_vector: DeletionVector | None = None
    base_row_id: int | None = None
    row_version: int | None = None
    raw: Raw = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Remove:
    """A data file, told apart by its path and its deletion vector, that is live no longer."""

    path: str
    is_data_change: bool
    deletion_vector: DeletionVector | None = None
    raw: Raw = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the table is.

    Attributes:
        table_id: unique; another table at the same place has another.
        schema_text: its columns, in JSON.
        partition_columns: logical names, in order.
        configuration: table properties.
        file_format: of its data files, in lower case.
        created_ms: when it was made, in milliseconds since the epoch; None where not said.
    """

    table_id: str
    schema_text: str
    partition_columns: tuple[str, ...]
    configuration: Mapping[str, str]
    file_format: str
    created_ms: int | None = None
    raw: Raw = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Protocol:
    """What readers and writers of the table must understand; features None before version 3 / 7."""

    reader_version: int
    writer_version: int
    reader_features: frozenset[str] | None = None
    writer_features: frozenset[str] | None = None
    raw: Raw = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class DomainMetadata:
    """Configuration that belongs to a named feature or user."""

    domain: str
    configuration: str
    is_removed: bool
    raw: Raw = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Txn:
    """How far an application has written."""

    app_id: str
    version: int
    raw: Raw = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """Who committed what.

    Attributes:
        operation: `WRITE`, `OPTIMIZE` and the like; empty when it is not said.
        in_commit_timestamp_ms: the commit's time, where the table keeps it in the commit.
        timestamp_ms: the time by the clock of the writer.
        txn_id: unique to the commit, where it was given one.
        engine_info: the program.
    """

    operation: str = ""
    in_commit_timestamp_ms: int | None = None
    timestamp_ms: int | None = None
    txn_id: str | None = None
    engine_info: str = ""
    raw: Raw = field(default_factory=dict, compare=False, repr=False)


Action = Add | Remove | Metadata | Protocol | DomainMetadata | Txn | CommitInfo


def parse_commit(data: bytes, *, name: str = "a commit") -> tuple[Action, ...]:
    """Read the actions of a commit in their order; kinds that are not known are left out.

    Args:
        data: the file, one JSON object a line.
        name: the file, for messages.

    Raises:
        CorruptTableError: it is cut off, no JSON, or an action lacks what it must have.
    """
    found = (_parse_line(line, name) for line in data.splitlines() if line.strip())
    return tuple(action for action in found if action is not None)


def parse_action(kind: str, raw: Raw) -> Action | None:
    """Return an action of a kind by its name in the log; None when the kind is not known.

    Raises:
        CorruptTableError: it lacks what it must have.
    """
    reader = _READERS.get(kind)
    if reader is None:
        return None
    try:
        return reader({key: value for key, value in raw.items() if value is not None})
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise CorruptTableError(f"malformed {kind}: {type(fault).__name__} {fault}") from fault


def _parse_line(line: bytes, name: str) -> Action | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as fault:
        raise CorruptTableError(f"{name} is cut off or no JSON: {fault}") from fault
    if not isinstance(found, dict):
        raise CorruptTableError(f"{name} has a line that is no action")
    for kind, raw in found.items():
        if isinstance(raw, dict) and (action := _named(kind, raw, name)) is not None:
            return action
    return None


def _named(kind: str, raw: Raw, name: str) -> Action | None:
    try:
        return parse_action(kind, raw)
    except CorruptTableError as fault:
        raise CorruptTableError(f"{name}: {fault}") from fault


def _vector(raw: Raw) -> DeletionVector | None:
    found = raw.get("deletionVector")
    if found is None:
        return None
    return DeletionVector(
        _text(found["storageType"]),
        _text(found["pathOrInlineDv"]),
        _count(found["sizeInBytes"]),
        cardinality=_count(found["cardinality"]),
        offset=None if found.get("offset") is None else _count(found["offset"]),
    )


def _add(raw: Raw) -> Add:
    return Add(
        path=_text(raw["path"]),
        partition_values=dict(raw.get("partitionValues") or {}),
        size_bytes=_count(raw["size"]),
        modified_ms=_number(raw["modificationTime"]),
        is_data_change=bool(raw.get("dataChange", True)),
        stats=raw.get("stats"),
        deletion_vector=_vector(raw),
        base_row_id=_optional(raw.get("baseRowId")),
        row_version=_optional(raw.get("defaultRowCommitVersion")),
        raw=raw,
    )


def _remove(raw: Raw) -> Remove:
    return Remove(_text(raw["path"]), bool(raw.get("dataChange", True)), _vector(raw), raw)


def _metadata(raw: Raw) -> Metadata:
    return Metadata(
        table_id=_text(raw["id"]),
        schema_text=_text(raw["schemaString"]),
        partition_columns=tuple(map(_text, raw.get("partitionColumns") or ())),
        configuration={_text(key): str(value) for key, value in _pairs(raw.get("configuration"))},
        file_format=_text((raw.get("format") or {}).get("provider", "parquet")).lower(),
        created_ms=_optional(raw.get("createdTime")),
        raw=raw,
    )


def _protocol(raw: Raw) -> Protocol:
    return Protocol(
        reader_version=_count(raw["minReaderVersion"]),
        writer_version=_count(raw["minWriterVersion"]),
        reader_features=_names(raw.get("readerFeatures")),
        writer_features=_names(raw.get("writerFeatures")),
        raw=raw,
    )


def _domain(raw: Raw) -> DomainMetadata:
    return DomainMetadata(
        _text(raw["domain"]),
        _text(raw.get("configuration", "")),
        is_removed=bool(raw.get("removed", False)),
        raw=raw,
    )


def _txn(raw: Raw) -> Txn:
    return Txn(_text(raw["appId"]), _number(raw["version"]), raw)


def _commit_info(raw: Raw) -> CommitInfo:
    # Readers take nothing in it for granted: its content is the writer's own.
    stamp = raw.get("timestamp")
    return CommitInfo(
        operation=str(raw.get("operation", "")),
        in_commit_timestamp_ms=_optional(raw.get("inCommitTimestamp")),
        timestamp_ms=stamp if isinstance(stamp, int) else None,
        txn_id=str(raw["txnId"]) if raw.get("txnId") else None,
        engine_info=str(raw.get("engineInfo", "")),
        raw=raw,
    )


_READERS: Mapping[str, Callable[[Raw], Action]] = {
    "add": _add,
    "remove": _remove,
    "metaData": _metadata,
    "protocol": _protocol,
    "domainMetadata": _domain,
    "txn": _txn,
    "commitInfo": _commit_info,
}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _count(value: object) -> int:
    if (number := _number(value)) < 0:
        raise ValueError(f"{number} is negative")
    return number


def _optional(value: object) -> int | None:
    return None if value is None else _number(value)


def _names(value: object) -> frozenset[str] | None:
    return frozenset(map(_text, value)) if isinstance(value, list) else None


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    """Return the entries of a map, also as Arrow hands it out: a list of pairs."""
    if value is None:
        return []
    return list(value.items()) if isinstance(value, Mapping) else list(value)
