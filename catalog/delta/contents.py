"""The content of a commit that replaces files: its actions in their order.  Pure.

Everything that depends on the version before (ids of rows, times, metrics) is computed anew for
each attempt: nothing is carried over from one that lost its race.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#actions
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from catalog.delta.actions import Add
from catalog.delta.clustering import cube_id, cube_marks
from catalog.delta.deletion_vectors import DeletionVector
from catalog.delta.properties import is_set
from catalog.delta.protocol import features_of, has_in_commit_timestamps
from catalog.delta.state import ROW_TRACKING_DOMAIN, TableState
from catalog.delta.stats import loosened, with_record_count
from catalog.errors import CorruptTableError
from catalog.layout import Curve

# What a removed file keeps of what was said when it was added.
_KEPT = ("stats", "tags", "baseRowId", "defaultRowCommitVersion")


@dataclass(frozen=True, slots=True)
class NewFile:
    """An output as the log will name it.

    Attributes:
        path: as stored: URL-encoded, relative to the table.
        size_bytes: its length.
        modified_ms: when it was written, in milliseconds since the epoch.
        row_count: rows stored in it.
        stats: JSON.
        deletion_vector: rows of it that others have deleted while it was written.
    """

    path: str
    size_bytes: int
    modified_ms: int
    row_count: int
    stats: str
    deletion_vector: DeletionVector | None = None

    @property
    def live_rows(self) -> int:
        """The rows that readers see."""
        return self.row_count - _deleted(self.deletion_vector)


@dataclass(frozen=True, slots=True)
class Marked:
    """A file that stays and loses rows.

    Attributes:
        file: as the head has it.
        vector: all rows of it that are deleted, then.
        row_count: rows stored in it; None to leave it to its statistics.
    """

    file: Add
    vector: DeletionVector
    row_count: int | None = None


@dataclass(frozen=True, slots=True)
class Replacement:
    """Files of one group as the head has them, and what takes their place.

    Attributes:
        removed: the inputs.
        added: the outputs.
        live_rows: rows that readers must see in the outputs: those that they see in the inputs,
            but for what a change does to them.
        curve: what the rows of the outputs lie along; None for nothing.
        marked: files that stay and lose rows.
        rows_added: rows that come in.
        rows_removed: rows that go, of the inputs and of the marked files.
        partition: the values of the outputs where there are no other files.
    """

    removed: tuple[Add, ...]
    added: tuple[NewFile, ...]
    live_rows: int
    curve: Curve | None = None
    marked: tuple[Marked, ...] = ()
    rows_added: int = 0
    rows_removed: int = 0
    partition: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def partitions(self) -> tuple[Mapping[str, str | None], ...]:
        """The values of each file that was there before."""
        before = (*self.removed, *(one.file for one in self.marked))
        return tuple(add.partition_values for add in before)

    @property
    def partition_values(self) -> Mapping[str, str | None]:
        """The values that the inputs share: of those that name most of the columns."""
        return max(self.partitions, key=len, default=self.partition)


@dataclass(frozen=True, slots=True)
class Deed:
    """What a commit says that it did.

    Attributes:
        operation: by its name in the history of a table.
        parameters: of the operation.
        metrics: of the operation.
        isolation: what the commit was checked for.
        is_data_change: whether readers see other rows.
        keeps_row_ids: whether all rows that were there before have their ids, if they have others.
        txns: applications whose transactions it is, besides its own.
    """

    operation: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, int]
    isolation: str
    is_data_change: bool
    keeps_row_ids: bool
    txns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Author:
    """Who commits, and what identifies the commit.

    Attributes:
        commit_id: written into the commit, so that it can be found again.
        read_version: the version that was planned from.
        engine_info: the program.
        note: what is kept for people, in JSON; empty for nothing.
    """

    commit_id: str
    read_version: int
    engine_info: str
    note: str = ""


def compose(
    head: TableState,
    replacements: Sequence[Replacement],
    deed: Deed,
    *,
    author: Author,
    now_ms: int,
) -> bytes:
    """Return the commit that follows a version.

    Args:
        head: the version that it follows.
        replacements: what it changes.
        deed: what it says of that.
        author: who commits.
        now_ms: the time, in milliseconds since the epoch.

    Raises:
        CorruptTableError: the outputs of a group would not show the rows that its inputs show, or
            not in the same partition.
    """
    for one in replacements:
        _require_equal_rows(one)
        _require_one_partition(one)
    is_change = deed.is_data_change
    actions = [
        _commit_info(head, deed, author=author, now_ms=now_ms),
        *(
            {"remove": remove_action(add, now_ms, is_data_change=is_change)}
            for one in replacements
            for add in (*one.removed, *(marked.file for marked in one.marked))
        ),
        *({"add": add_marked(marked)} for one in replacements for marked in one.marked),
        *_adds(head, replacements, author, is_data_change=is_change),
        *(
            {"txn": {"appId": name, "version": head.version + 1, "lastUpdated": now_ms}}
            for name in (*deed.txns, app_id(author.commit_id))
        ),
    ]
    return lines(actions)


def lines(actions: Iterable[Mapping[str, Any]]) -> bytes:
    """Return actions as a commit holds them."""
    render = partial(json.dumps, separators=(",", ":"), ensure_ascii=False)
    return "".join(f"{render(action)}\n" for action in actions).encode()


def app_id(commit_id: str) -> str:
    """Return the application whose transaction a commit is: one for each commit."""
    return f"compact:{commit_id}"


def vector_json(vector: DeletionVector) -> dict[str, Any]:
    """Return a deletion vector as actions hold it."""
    offset = {} if vector.offset is None else {"offset": vector.offset}
    return {
        "storageType": vector.storage_type,
        "pathOrInlineDv": vector.path_or_inline,
        **offset,
        "sizeInBytes": vector.size_bytes,
        "cardinality": vector.cardinality,
    }


def commit_timestamp(head: TableState, now_ms: int) -> int | None:
    """Return the in-commit timestamp of the version after a head; None where it has none."""
    if not has_in_commit_timestamps(head.protocol, head.metadata):
        return None
    return max(now_ms, head.timestamp_ms + 1)


def assigns_row_ids(head: TableState) -> bool:
    """Whether every file that is added must be given ids for its rows."""
    is_suspended = is_set(head.metadata.configuration, "delta.rowTrackingSuspended")
    return "rowTracking" in features_of(head.protocol) and not is_suspended


def _commit_info(head: TableState, deed: Deed, *, author: Author, now_ms: int) -> dict[str, Any]:
    stamp = commit_timestamp(head, now_ms)
    info: dict[str, Any] = {} if stamp is None else {"inCommitTimestamp": stamp}
    info |= {
        "timestamp": now_ms,
        "operation": deed.operation,
        "operationParameters": dict(deed.parameters),
        "readVersion": author.read_version,
        "isolationLevel": deed.isolation,
        "isBlindAppend": False,
        "operationMetrics": {name: str(value) for name, value in deed.metrics.items()},
        "engineInfo": author.engine_info,
        "txnId": author.commit_id,
    }
    if author.note:
        info["userMetadata"] = author.note
    if assigns_row_ids(head):
        info["tags"] = {"delta.rowTracking.preserved": str(deed.keeps_row_ids).lower()}
    return {"commitInfo": info}


def remove_action(add: Add, now_ms: int, *, is_data_change: bool) -> dict[str, Any]:
    """Return the action that ends a live file; its deletion vector is part of what it is."""
    action: dict[str, Any] = {
        "path": add.path,
        "deletionTimestamp": now_ms,
        "dataChange": is_data_change,
        "extendedFileMetadata": True,
        "partitionValues": dict(add.partition_values),
        "size": add.size_bytes,
    }
    action |= {name: add.raw[name] for name in _KEPT if add.raw.get(name) is not None}
    if add.deletion_vector is not None:
        action["deletionVector"] = vector_json(add.deletion_vector)
    return action


def add_marked(marked: Marked) -> dict[str, Any]:
    """Return the action by which a file stays and loses rows; all else of it stays as it is."""
    stats = marked.file.stats
    if marked.row_count is not None:
        stats = with_record_count(stats, marked.row_count)
    return {
        **marked.file.raw,
        **({} if stats is None else {"stats": loosened(stats)}),
        "partitionValues": dict(marked.file.partition_values),
        "dataChange": True,
        "deletionVector": vector_json(marked.vector),
    }


def _adds(
    head: TableState, replacements: Sequence[Replacement], author: Author, *, is_data_change: bool
) -> Iterator[dict[str, Any]]:
    """Yield the added files, and how far ids of rows are given out by them."""
    next_row_id = _next_row_id(head) if assigns_row_ids(head) else None
    for one in replacements:
        paths = [file.path for file in one.added]
        marks = cube_marks(head, one.curve, cube_id=cube_id(author.commit_id, paths))
        for file in one.added:
            action = _add(file, one.partition_values) | marks
            action["dataChange"] = is_data_change
            if next_row_id is not None:
                action |= {"baseRowId": next_row_id, "defaultRowCommitVersion": head.version + 1}
                next_row_id += file.row_count
            yield {"add": action}
    if next_row_id is not None and next_row_id != _next_row_id(head):
        mark = json.dumps({"rowIdHighWaterMark": next_row_id - 1})
        domain = {"domain": ROW_TRACKING_DOMAIN, "configuration": mark, "removed": False}
        yield {"domainMetadata": domain}


def _add(file: NewFile, partition_values: Mapping[str, str | None]) -> dict[str, Any]:
    action: dict[str, Any] = {
        "path": file.path,
        "partitionValues": dict(partition_values),
        "size": file.size_bytes,
        "modificationTime": file.modified_ms,
        "stats": file.stats,
    }
    if file.deletion_vector is not None:
        action["deletionVector"] = vector_json(file.deletion_vector)
    return action


def _next_row_id(head: TableState) -> int:
    mark = head.row_id_high_water_mark
    return 0 if mark is None else mark + 1


def _require_equal_rows(replacement: Replacement) -> None:
    shown = sum(file.live_rows for file in replacement.added)
    if shown != replacement.live_rows:
        raise CorruptTableError(
            f"outputs would show {shown} rows where their inputs show {replacement.live_rows}"
        )


def _require_one_partition(replacement: Replacement) -> None:
    """Refuse inputs of several partitions; the log spells null as null, as empty text, or not."""
    found = {
        tuple(sorted((name, value) for name, value in values.items() if value))
        for values in replacement.partitions
    }
    if len(found) > 1:
        raise CorruptTableError(f"files of {len(found)} partitions cannot become files of one")


def _deleted(vector: DeletionVector | None) -> int:
    return 0 if vector is None else vector.cardinality
