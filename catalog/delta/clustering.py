"""Liquid clustering: what a table is clustered by, and what marks the files that are.

Files that were put in order together are a cube. Tags and provider are spelled as the reference
writer spells them: by these it tells what it need not touch, and what belongs together.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#clustered-table
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from catalog.delta.file_columns import CUBE_TAG
from catalog.delta.protocol import features_of
from catalog.delta.state import TableState
from catalog.delta.stats import Path, leaf_columns
from catalog.errors import CorruptTableError
from catalog.layout import Curve, SortField
from catalog.schema import field_id

CLUSTERING_DOMAIN = "delta.clustering"
_FEATURE = "clustering"
_PROVIDER = "liquid"
# What needs no quotes in the reference writer's SQL.
_PLAIN_NAME = re.compile(r"(?!\d+$)\w+", re.ASCII)


def clustering_columns(state: TableState) -> tuple[Path, ...]:
    """Return the physical names of the columns that a table is clustered by; empty for none.

    Raises:
        CorruptTableError: what the table says of them cannot be read.
    """
    text = state.domain_metadata.get(CLUSTERING_DOMAIN)
    if text is None or _FEATURE not in features_of(state.protocol):
        return ()
    try:
        columns = json.loads(text)["clusteringColumns"]
        return tuple(_path(column) for column in columns)
    except (ValueError, KeyError, TypeError, RecursionError) as fault:
        raise CorruptTableError(f"the domain {CLUSTERING_DOMAIN} is malformed") from fault


def wanted_order(state: TableState, schema: pa.Schema) -> tuple[SortField, ...]:
    """Return the columns that a table is clustered by as terms of an order."""
    columns = clustering_columns(state)
    names = _names(state, columns)
    return tuple(
        SortField(_id_of(schema, path), path, known_as=name)
        for path, name in zip(columns, names, strict=True)
    )


def known_names(state: TableState) -> tuple[tuple[Path, Path], ...]:
    """Return the logical and the physical name of each column; nothing where they are the same."""
    pairs = tuple(
        (logical, column.path)
        for logical, column in leaf_columns(json.loads(state.metadata.schema_text)["fields"])
    )
    return pairs if any(logical != physical for logical, physical in pairs) else ()


def cube_id(commit_id: str, paths: Sequence[str]) -> str:
    """Name the cube that a commit makes of some files: however often it is tried, the same."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "\n".join((commit_id, *paths))))


def cube_marks(head: TableState, curve: Curve | None, *, cube_id: str) -> dict[str, Any]:
    """Return what marks an added file as clustered; nothing unless it is as the table wants it.

    Args:
        head: the version that the file is added to.
        curve: what its rows lie along.
        cube_id: of the cube that it belongs to.
    """
    if curve is None or not _is_wanted(head, curve):
        return {}
    tags = {
        CUBE_TAG: cube_id,
        "ZCUBE_ZORDER_BY": _spelled(head, curve),
        "ZCUBE_ZORDER_CURVE": curve.kind,
    }
    return {"tags": tags, "clusteringProvider": _PROVIDER}


def order_parameters(head: TableState, curve: Curve | None) -> Mapping[str, str]:
    """Return how a commit says what its files were ordered by."""
    if curve is not None and _is_wanted(head, curve):
        return {"zOrderBy": "[]", "clusterBy": _spelled(head, curve)}
    names = [] if curve is None else [".".join(name) for name in _names(head, _paths(curve))]
    return {"zOrderBy": _json(names), "clusterBy": "[]"}


def _is_wanted(head: TableState, curve: Curve) -> bool:
    return _paths(curve) == clustering_columns(head)


def _paths(curve: Curve) -> tuple[Path, ...]:
    return tuple(field.path for field in curve.fields)


def _path(column: Any) -> Path:
    if not isinstance(column, list) or not column:
        raise TypeError(f"{column!r} is no column")
    return tuple(map(_text, column))


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is no name")
    return name


def _names(head: TableState, columns: Sequence[Path]) -> list[Path]:
    """Return the logical names of columns."""
    logical = {physical: names for names, physical in known_names(head)}
    return [logical.get(path, path) for path in columns]


def _spelled(head: TableState, curve: Curve) -> str:
    """Return the columns of a curve as a table's clustering columns are spelled: with quotes."""
    return _json([".".join(map(_quoted, name)) for name in _names(head, _paths(curve))])


def _json(names: list[str]) -> str:
    return json.dumps(names, separators=(",", ":"), ensure_ascii=False)


def _quoted(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else "`" + name.replace("`", "``") + "`"


def _id_of(schema: pa.Schema, path: Path) -> int:
    """Return the id of a column; 0 where there is none, which whoever orders by it finds out."""
    fields: Any = schema
    found: Any = None
    for name in path:
        place = -1 if fields is None else fields.get_field_index(name)
        if place < 0:
            return 0
        found = fields.field(place)
        fields = found.type if pa.types.is_struct(found.type) else None
    return field_id(found) or 0
