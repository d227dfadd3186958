"""What a table asks of whoever changes its rows, and is refused because we do not do it.  Pure.

A compaction leaves rows as they are, so tables with these features are compacted. New rows would
have to be computed, checked, numbered or reported, which takes an engine that has the features.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from catalog.commits import ChangeScope, Commit, Rewrite
from catalog.delta.actions import Metadata
from catalog.delta.properties import is_set
from catalog.delta.protocol import features_of
from catalog.delta.state import TableState
from catalog.errors import UnsupportedTableError

_CONSTRAINT = "delta.constraints."
_RETENTION = "delta.setTransactionRetentionDuration"
_DEFAULT = "CURRENT_DEFAULT"
# Beginnings of the names of what is said of a column, and what it asks for.
_ASKED: Mapping[str, str] = {
    "delta.generationExpression": "is generated",
    "delta.invariants": "has an invariant",
    "delta.identity.": "is an identity column",
}
_HINT = "merge with an engine that has the feature; the table was not touched"


def can_mark(state: TableState) -> bool:
    """Whether deletion vectors may be written to the table."""
    is_on = is_set(state.metadata.configuration, "delta.enableDeletionVectors")
    return is_on and "deletionVectors" in features_of(state.protocol)


def refuse_change(state: TableState, scope: ChangeScope) -> None:
    """Refuse a change that the table would have to be asked about.

    Raises:
        UnsupportedTableError: naming the property or the column.
    """
    for reason in _reasons(state.metadata, scope):
        raise UnsupportedTableError(f"the table does not take the change: {reason}", hint=_HINT)


def refuse_marks(state: TableState, commit: Commit) -> None:
    """Refuse a change that marks rows of a table without deletion vectors.

    Raises:
        UnsupportedTableError: it does.
    """
    if not can_mark(state) and any(one.marks for one in commit.rewrites):
        raise UnsupportedTableError(
            "the table does not take the change: it marks rows, and deletion vectors"
            " (delta.enableDeletionVectors) are not on"
        )


def scope_of(commit: Commit) -> ChangeScope:
    """Return what a change does."""
    return ChangeScope(
        adds_rows=any(one.rows_added for one in commit.rewrites),
        removes_rows=any(rows_removed(one) for one in commit.rewrites),
    )


def rows_removed(rewrite: Rewrite) -> int:
    """Return how many rows go that readers saw."""
    replaced = rewrite.replaced
    deleted = sum(delete.row_count for one in replaced.slices() for delete in one.deletes)
    return rewrite.rows_dropped - deleted + sum(len(one.dropped) for one in rewrite.marks.values())


def _reasons(metadata: Metadata, scope: ChangeScope) -> Iterator[str]:
    configuration = metadata.configuration
    if configuration.get(_RETENTION):
        yield f"its log forgets how far sources were merged ({_RETENTION})"
    if scope.removes_rows and is_set(configuration, "delta.appendOnly"):
        yield "it only takes new rows (delta.appendOnly)"
    if scope.removes_rows and is_set(configuration, "delta.enableChangeDataFeed"):
        yield "its change data feed would not tell it (delta.enableChangeDataFeed)"
    if scope.adds_rows:
        for name in configuration:
            if name.startswith(_CONSTRAINT):
                yield f"new rows are not checked against its constraint {name}"
        for path, said in _columns(json.loads(metadata.schema_text), ()):
            yield from _asked_of(path, said, scope)


def _asked_of(path: str, said: Mapping[str, Any], scope: ChangeScope) -> Iterator[str]:
    for name in said:
        for beginning, what in _ASKED.items():
            if name.startswith(beginning):
                yield f"its column {path} {what} ({name})"
    if _DEFAULT in said and path in scope.lacking:
        yield f"its column {path} has a default ({_DEFAULT}), which some new rows would need"


def _columns(kind: Any, parents: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the path of each field of a type, and what is said of it."""
    if not isinstance(kind, dict):
        return
    for field in kind.get("fields", ()):
        path = (*parents, field["name"])
        yield ".".join(path), field.get("metadata") or {}
        yield from _columns(field["type"], path)
    for name in ("elementType", "keyType", "valueType"):
        yield from _columns(kind.get(name), (*parents, name.removesuffix("Type")))
