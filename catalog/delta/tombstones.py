"""Files that a log says were removed, and when: readers of older versions may still need them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow.parquet as pq

from catalog.delta.actions import Action, Remove, parse_action, parse_commit
from catalog.delta.checkpoints import Part, batches, opened
from catalog.delta.deletion_vectors import DeletionVector
from catalog.delta.log import LogSegment
from catalog.delta.replay import checkpoint_parts
from catalog.storage import Storage

_FIELDS = ("path", "deletionTimestamp", "dataChange", "deletionVector", "size")


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A file that was removed.

    Attributes:
        path: as stored.
        vector: the deletion vector that it had.
        deleted_ms: when it was removed, in milliseconds since the epoch; 0 where it is not said.
        size_bytes: its length; 0 where it is not said.
    """

    path: str
    vector: DeletionVector | None
    deleted_ms: int
    size_bytes: int


def tombstones(storage: Storage, segment: LogSegment) -> Iterator[Tombstone]:
    """Yield what the checkpoint and the later commits of a version say was removed.

    Raises:
        CorruptTableError: the log cannot be read.
    """
    for part in checkpoint_parts(storage, segment):
        yield from tombstones_of(_checkpointed(storage, part))
    for commit in segment.commits:
        location = segment.locate(commit.file)
        yield from tombstones_of(parse_commit(storage.read(location), name=str(location)))


def tombstones_of(actions: Iterable[Action]) -> Iterator[Tombstone]:
    """Yield what actions remove."""
    for one in actions:
        if isinstance(one, Remove):
            deleted_ms, size_bytes = one.raw.get("deletionTimestamp"), one.raw.get("size")
            yield Tombstone(one.path, one.deletion_vector, deleted_ms or 0, size_bytes or 0)


def _checkpointed(storage: Storage, part: Part) -> Iterator[Action]:
    if part.is_json:
        yield from parse_commit(storage.read(part.location), name=str(part.location))
        return
    with opened(storage, part) as file:
        for batch in batches(file, _present(file), part):
            for raw in batch.column("remove").drop_null().to_pylist():
                action = parse_action("remove", raw)
                if action is not None:
                    yield action


def _present(file: pq.ParquetFile) -> list[str]:
    if "remove" not in file.schema_arrow.names:
        return []
    found = {field.name for field in file.schema_arrow.field("remove").type}
    return [f"remove.{name}" for name in _FIELDS if name in found]
