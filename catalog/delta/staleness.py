"""Whether a table is still what a plan took it for: its schema, properties and protocol.  Pure."""

from __future__ import annotations

import json
from typing import Any

from catalog.delta.actions import Metadata
from catalog.delta.state import TableState

# Grows with every insert into a table with identity columns; no row that exists depends on it.
_IDENTITY_MARK = "delta.identity.highWaterMark"


def why_stale(base: TableState, head: TableState) -> str:
    """Say what has changed between two versions that makes a plan worthless; empty for nothing."""
    if base.metadata.table_id != head.metadata.table_id:
        return "the table was replaced by another one"
    if base.protocol != head.protocol:
        return "the protocol of the table has changed"
    if base.metadata == head.metadata:
        return ""
    if _comparable(base.metadata) != _comparable(head.metadata):
        return "the schema or the properties of the table have changed"
    return ""


def _comparable(metadata: Metadata) -> tuple[Any, ...]:
    return (
        _without_marks(json.loads(metadata.schema_text)),
        metadata.partition_columns,
        dict(metadata.configuration),
        metadata.file_format,
    )


def _without_marks(schema: dict[str, Any]) -> dict[str, Any]:
    fields = [
        {**field, "metadata": {**(field.get("metadata") or {}), _IDENTITY_MARK: None}}
        for field in schema["fields"]
    ]
    return {**schema, "fields": fields}
