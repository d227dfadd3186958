"""Entries of the archive of layout 1: one for each state of an instant, with what it says.  Pure.

Commits, which are JSON on the timeline, are Avro there; plans and cleanings are Avro in both.
Behaviour: `MetadataConversionUtils` of Hudi 1.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.errors import CorruptTableError
from catalog.hudi.avro_schemas import Kind
from catalog.hudi.avro_writing import record_body
from catalog.hudi.details import instant_record
from catalog.hudi.timeline import Action, Instant, State

# Where an entry holds what the file of a state says; what is not named here says nothing more.
_FIELDS: Mapping[tuple[Action, State], str] = {
    (Action.CLEAN, State.REQUESTED): "hoodieCleanerPlan",
    (Action.CLEAN, State.INFLIGHT): "hoodieCleanerPlan",
    (Action.CLEAN, State.COMPLETED): "hoodieCleanMetadata",
    (Action.ROLLBACK, State.COMPLETED): "hoodieRollbackMetadata",
    (Action.COMPACTION, State.REQUESTED): "hoodieCompactionPlan",
    (Action.LOGCOMPACTION, State.REQUESTED): "hoodieCompactionPlan",
    (Action.REPLACECOMMIT, State.REQUESTED): "hoodieRequestedReplaceMetadata",
    (Action.REPLACECOMMIT, State.INFLIGHT): "HoodieInflightReplaceMetadata",
    (Action.REPLACECOMMIT, State.COMPLETED): "hoodieReplaceCommitMetadata",
    **{
        (action, state): "hoodieCommitMetadata"
        for action in (Action.COMMIT, Action.DELTACOMMIT)
        for state in State
    },
}
# Fields that hold what a state says, at the places that entries have for it.
ENTRY_FIELDS = frozenset(
    (*_FIELDS.values(), "hoodieSavePointMetadata", "hoodieIndexCommitMetadata")
)


def archive_entry(instant: Instant, content: bytes, reached_at: str) -> bytes:
    """Return the encoded entry of a state.

    Args:
        instant: in that state.
        content: of its file.
        reached_at: when the file was written, as instants are named.

    Raises:
        CorruptTableError: the content is not what such a file holds.
    """
    entry: dict[str, Any] = {
        "commitTime": instant.time,
        "actionType": str(instant.action),
        "actionState": instant.state.name,
        "stateTransitionTime": reached_at,
    }
    field = _FIELDS.get((instant.action, instant.state))
    if field is not None and content:
        entry[field] = _without_nulls(instant_record(instant.file_name, content))
    try:
        return record_body(Kind.ARCHIVED, entry)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as fault:
        raise CorruptTableError(f"{instant.file_name} says what no archive holds") from fault


def _without_nulls(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record whose maps hold no nulls, which JSON has and Avro has not."""
    return {
        name: {key: value for key, value in found.items() if value is not None}
        if name in _MAPS and found
        else found
        for name, found in record.items()
    }


_MAPS = frozenset(("partitionToWriteStats", "partitionToReplaceFileIds", "extraMetadata"))
