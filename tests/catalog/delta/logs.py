"""Logs written by hand: every form of commit and checkpoint that the protocol knows."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Action = Mapping[str, Mapping[str, Any]]

_MAP = pa.map_(pa.string(), pa.string())
_VECTOR = pa.struct(
    [
        ("storageType", pa.string()),
        ("pathOrInlineDv", pa.string()),
        ("offset", pa.int32()),
        ("sizeInBytes", pa.int32()),
        ("cardinality", pa.int64()),
    ]
)
ADD = pa.struct(
    [
        ("path", pa.string()),
        ("partitionValues", _MAP),
        ("size", pa.int64()),
        ("modificationTime", pa.int64()),
        ("dataChange", pa.bool_()),
        ("stats", pa.string()),
        ("tags", _MAP),
        ("deletionVector", _VECTOR),
        ("baseRowId", pa.int64()),
        ("defaultRowCommitVersion", pa.int64()),
    ]
)
CHECKPOINT = pa.schema(
    [
        ("add", ADD),
        ("remove", pa.struct([("path", pa.string()), ("deletionVector", _VECTOR)])),
        (
            "metaData",
            pa.struct(
                [
                    ("id", pa.string()),
                    ("format", pa.struct([("provider", pa.string()), ("options", _MAP)])),
                    ("schemaString", pa.string()),
                    ("partitionColumns", pa.list_(pa.string())),
                    ("configuration", _MAP),
                    ("createdTime", pa.int64()),
                ]
            ),
        ),
        (
            "protocol",
            pa.struct(
                [
                    ("minReaderVersion", pa.int32()),
                    ("minWriterVersion", pa.int32()),
                    ("readerFeatures", pa.list_(pa.string())),
                    ("writerFeatures", pa.list_(pa.string())),
                ]
            ),
        ),
        (
            "domainMetadata",
            pa.struct(
                [("domain", pa.string()), ("configuration", pa.string()), ("removed", pa.bool_())]
            ),
        ),
        ("txn", pa.struct([("appId", pa.string()), ("version", pa.int64())])),
    ]
)
_SIDECAR = pa.struct(
    [("path", pa.string()), ("sizeInBytes", pa.int64()), ("modificationTime", pa.int64())]
)
_V2 = pa.schema(
    [
        *CHECKPOINT,
        pa.field("sidecar", _SIDECAR),
        pa.field("checkpointMetadata", pa.struct([("version", pa.int64())])),
    ]
)

PROTOCOL = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}


def column(name: str, kind: Any = "long", **metadata: Any) -> dict[str, Any]:
    """Return a column of a schema; keyword arguments go to its metadata, `_` for `.`."""
    named = {key.replace("_", "."): value for key, value in metadata.items()}
    return {"name": name, "type": kind, "nullable": True, "metadata": named}


def metadata(
    *columns: Mapping[str, Any],
    partitions: Sequence[str] = (),
    configuration: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a `metaData` action."""
    schema = {"type": "struct", "fields": list(columns or [column("id")])}
    return {
        "metaData": {
            "id": "00000000-0000-0000-0000-000000000001",
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps(schema),
            "partitionColumns": list(partitions),
            "configuration": dict(configuration or {}),
            "createdTime": 1,
        }
    }


def features(*names: str, readers: Sequence[str] = ()) -> dict[str, Any]:
    """Return a `protocol` action that asks for features by name."""
    return {
        "protocol": {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": list(readers),
            "writerFeatures": [*names, *readers],
        }
    }


def add(path: str, *, rows: int | None = 10, **fields: Any) -> dict[str, Any]:
    """Return an `add` action with statistics, or without for `rows=None`."""
    stats = {} if rows is None else {"stats": json.dumps({"numRecords": rows})}
    plain = {"partitionValues": {}, "size": 100, "modificationTime": 1000, "dataChange": True}
    return {"add": {"path": path, **plain, **stats, **fields}}


def remove(path: str, **fields: Any) -> dict[str, Any]:
    """Return a `remove` action."""
    return {"remove": {"path": path, "deletionTimestamp": 1, "dataChange": True, **fields}}


class HandWritten:
    """A table whose log is written action by action."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "_delta_log"
        self.log.mkdir(parents=True, exist_ok=True)

    def commit(self, version: int, *actions: Action) -> Path:
        """Write the commit of a version."""
        return self.write(f"{version:020}.json", *actions)

    def compacted(self, first: int, last: int, *actions: Action) -> Path:
        """Write the actions of several versions as one."""
        return self.write(f"{first:020}.{last:020}.compacted.json", *actions)

    def write(self, name: str, *actions: Action) -> Path:
        """Write actions in lines of JSON."""
        path = self.log / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(one) + "\n" for one in actions), encoding="utf-8")
        return path

    def checkpoint(self, version: int, *actions: Action, parts: int | None = None) -> list[Path]:
        """Write a classic checkpoint, in one file or in parts."""
        if parts is None:
            return [self.parquet(f"{version:020}.checkpoint.parquet", actions)]
        return [
            self.parquet(
                f"{version:020}.checkpoint.{part + 1:010}.{parts:010}.parquet",
                actions[part::parts],
            )
            for part in range(parts)
        ]

    def v2_checkpoint(
        self, version: int, *actions: Action, form: str = "parquet", sidecars: int = 2
    ) -> Path:
        """Write a checkpoint named by a UUID, its files in sidecars (0: right in it)."""
        files = [one for one in actions if "add" in one or "remove" in one]
        others = [one for one in actions if one not in files]
        names = [self._sidecar(files[at::sidecars]) for at in range(sidecars)]
        top = [{"checkpointMetadata": {"version": version}}, *others, *names]
        top += [] if sidecars else files
        name = f"{version:020}.checkpoint.{uuid.uuid4()}.{form}"
        return self.parquet(name, top, _V2) if form == "parquet" else self.write(name, *top)

    def parquet(self, name: str, actions: Sequence[Action], schema: pa.Schema = CHECKPOINT) -> Path:
        """Write actions as the rows of a checkpoint."""
        path = self.log / name
        path.parent.mkdir(exist_ok=True)
        rows = [{field.name: _plain(one.get(field.name)) for field in schema} for one in actions]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=3)
        return path

    def _sidecar(self, actions: Sequence[Action]) -> dict[str, Any]:
        path = self.parquet(f"_sidecars/{uuid.uuid4()}.parquet", actions)
        size_bytes = path.stat().st_size
        return {"sidecar": {"path": path.name, "sizeInBytes": size_bytes, "modificationTime": 1}}


def _plain(action: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return an action as Arrow takes it: maps as pairs."""
    if action is None:
        return None
    maps = ("partitionValues", "configuration", "tags")
    found = {
        key: list(value.items()) if key in maps and isinstance(value, Mapping) else value
        for key, value in action.items()
    }
    if "format" in found:
        found["format"] = {"provider": found["format"]["provider"], "options": []}
    return found
