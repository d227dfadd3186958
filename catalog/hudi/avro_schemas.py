"""The Avro schemas of what Hudi keeps in files of its own: instants, plans, deletes, metadata."""

from __future__ import annotations

import json
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any


class Kind(StrEnum):
    """A kind of record, by the name of its schema in Hudi's specification."""

    COMMIT = "HoodieCommitMetadata"
    REPLACE_COMMIT = "HoodieReplaceCommitMetadata"
    COMPACTION_PLAN = "HoodieCompactionPlan"
    CLUSTERING_PLAN = "HoodieRequestedReplaceMetadata"
    CLEAN_PLAN = "HoodieCleanerPlan"
    CLEAN = "HoodieCleanMetadata"
    ROLLBACK_PLAN = "HoodieRollbackPlan"
    ROLLBACK = "HoodieRollbackMetadata"
    DELETES = "HoodieDeleteRecordList"
    METADATA = "HoodieMetadataRecord"
    ARCHIVED = "HoodieArchivedMetaEntry"
    ARCHIVED_2 = "HoodieLSMTimelineInstant"


@cache
def schema_text(kind: Kind) -> str:
    """Return the schema of a kind of record as the header of a file has it."""
    return json.dumps(schema(kind), separators=(",", ":"))


@cache
def schema(kind: Kind) -> Any:
    """Return the schema of a kind of record."""
    return json.loads(files("catalog.hudi").joinpath("schemas", f"{kind}.avsc").read_bytes())
