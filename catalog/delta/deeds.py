"""What commits of ours say that they did: their operation, parameters and metrics.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from catalog.commits import Watermark
from catalog.delta.clustering import order_parameters
from catalog.delta.contents import Deed, Replacement
from catalog.delta.protocol import tracks_rows
from catalog.delta.state import TableState
from catalog.delta.watermarks import app_id_of

OPTIMIZE = "OPTIMIZE"


def optimization(head: TableState, replacements: Sequence[Replacement]) -> Deed:
    """Return what is said of a compaction."""
    return Deed(
        operation=OPTIMIZE,
        parameters={
            "predicate": "[]",
            **order_parameters(head, next((one.curve for one in replacements), None)),
            "auto": "false",
        },
        metrics=_optimized(replacements),
        isolation="SnapshotIsolation",
        is_data_change=False,
        keeps_row_ids=tracks_rows(head.protocol, head.metadata),
    )


def change(
    head: TableState, replacements: Sequence[Replacement], watermarks: Sequence[Watermark]
) -> Deed:
    """Return what is said of a change: a merge, or a plain write where nothing goes."""
    is_write = not any(one.removed or one.marked for one in replacements)
    is_update = any(one.rows_added for one in replacements) and any(
        one.rows_removed for one in replacements
    )
    return Deed(
        operation="WRITE" if is_write else "MERGE",
        parameters={"mode": "Append"} if is_write else {"predicate": "[]"},
        metrics=_written(replacements) if is_write else _merged(replacements),
        isolation="Serializable",
        is_data_change=True,
        # A row that takes the place of another one has an id of its own.
        keeps_row_ids=tracks_rows(head.protocol, head.metadata) and not is_update,
        txns=tuple(map(app_id_of, watermarks)),
    )


def _optimized(replacements: Sequence[Replacement]) -> Mapping[str, int]:
    removed = [add for one in replacements for add in one.removed]
    added = [file for one in replacements for file in one.added]
    sizes = sorted(file.size_bytes for file in added)
    counts = {
        "numRemovedFiles": len(removed),
        "numRemovedBytes": sum(add.size_bytes for add in removed),
        "numAddedFiles": len(added),
        "numAddedBytes": sum(sizes),
        "numDeletionVectorsRemoved": sum(add.deletion_vector is not None for add in removed),
    }
    if not sizes:
        return counts
    quartiles = {f"p{25 * one}FileSize": sizes[one * (len(sizes) - 1) // 4] for one in (1, 2, 3)}
    return counts | {"minFileSize": sizes[0], **quartiles, "maxFileSize": sizes[-1]}


def _written(replacements: Sequence[Replacement]) -> Mapping[str, int]:
    added = [file for one in replacements for file in one.added]
    return {
        "numFiles": len(added),
        "numOutputRows": sum(file.row_count for file in added),
        "numOutputBytes": sum(file.size_bytes for file in added),
    }


def _merged(replacements: Sequence[Replacement]) -> Mapping[str, int]:
    """Count an update as what it is here: a row that goes and one that comes."""
    removed = [add for one in replacements for add in one.removed]
    added = [file for one in replacements for file in one.added]
    marked = [marked.file for one in replacements for marked in one.marked]
    rows_added = sum(one.rows_added for one in replacements)
    rows_written = sum(file.row_count for file in added)
    again = sum(file.deletion_vector is not None for file in marked)
    return {
        "numTargetRowsInserted": rows_added,
        "numTargetRowsUpdated": 0,
        "numTargetRowsDeleted": sum(one.rows_removed for one in replacements),
        "numTargetRowsCopied": rows_written - rows_added,
        "numOutputRows": rows_written,
        "numTargetFilesAdded": len(added),
        "numTargetFilesRemoved": len(removed),
        "numTargetBytesAdded": sum(file.size_bytes for file in added),
        "numTargetBytesRemoved": sum(add.size_bytes for add in removed),
        "numTargetDeletionVectorsAdded": len(marked),
        "numTargetDeletionVectorsUpdated": again,
        "numTargetDeletionVectorsRemoved": again
        + sum(add.deletion_vector is not None for add in removed),
    }
