"""Deletes rows the way merge-on-read writers do: a version that gives files deletion vectors."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from catalog.deletion_vectors import Positions
from catalog.delta.contents import Marked, add_marked, commit_timestamp, lines, remove_action
from catalog.delta.deletion_vectors import (
    DeletionVector,
    file_name,
    file_of_vectors,
    read_vectors,
)
from catalog.delta.head import CommitTarget, Head, Heads, commit_location
from catalog.errors import CommitConflictError

_OPERATION = "DELETE"


def delete_rows(target: CommitTarget, positions: Mapping[str, Positions]) -> int:
    """Delete rows of data files by position; return the version that does it.

    Args:
        target: a table that has deletion vectors.
        positions: ascending positions by path, as the inventory has it.

    Raises:
        CommitConflictError: a file is not in the table: look for the rows anew.
        ObjectExistsError: another writer's version came first: try again.
    """
    head = Heads(target, frozenset(positions)).read()
    gone = positions.keys() - head.live.keys()
    if gone:
        raise CommitConflictError(f"{min(gone)} is no longer in the table")
    vectors = _written_vectors(target, head, positions)
    version = head.state.version + 1
    content = lines(_actions(head, vectors, now_ms=int(time.time() * 1000)))
    target.storage.put_if_absent(commit_location(target.paths.root, version), content)
    return version


def _written_vectors(
    target: CommitTarget, head: Head, positions: Mapping[str, Positions]
) -> Mapping[str, DeletionVector]:
    """Write the vectors of all files together, each with the rows that were deleted before."""
    before = {path: head.live[path].deletion_vector for path in positions}
    known = read_vectors(
        target.storage,
        (one for one in before.values() if one is not None),
        table=target.paths.root,
        confinement=target.paths.confinement,
    )
    merged = [
        some if (vector := before[path]) is None else np.union1d(known[vector], some)
        for path, some in positions.items()
    ]
    identity = uuid.uuid4().bytes
    content, vectors = file_of_vectors(identity, merged)
    target.storage.write(target.paths.root.child(file_name(identity)), content)
    return dict(zip(positions, vectors, strict=True))


def _actions(
    head: Head, vectors: Mapping[str, DeletionVector], *, now_ms: int
) -> Iterator[dict[str, Any]]:
    stamp = commit_timestamp(head.state, now_ms)
    yield {
        "commitInfo": {
            **({} if stamp is None else {"inCommitTimestamp": stamp}),
            "timestamp": now_ms,
            "operation": _OPERATION,
            "operationParameters": {"predicate": "[]"},
            "readVersion": head.state.version,
            "isolationLevel": "WriteSerializable",
            "isBlindAppend": False,
            "txnId": str(uuid.uuid4()),
        }
    }
    for path, vector in vectors.items():
        add = head.live[path]
        yield {"remove": remove_action(add, now_ms, is_data_change=True)}
        yield {"add": add_marked(Marked(add, vector))}
