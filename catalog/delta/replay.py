"""From a log to one version of the table: its small facts, and its files as columns.

What is said last holds: the files of the checkpoint, less those that later commits speak of, and
those that the last word about adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.delta.actions import (
    CommitInfo,
    DomainMetadata,
    Metadata,
    Protocol,
    Raw,
    Txn,
    parse_action,
)
from catalog.delta.checkpoints import (
    Part,
    PartReader,
    reading_checkpoint,
    sidecars,
    small_actions_of,
    top_parts,
)
from catalog.delta.file_columns import FileColumns, newest, superseded
from catalog.delta.gathering import gather
from catalog.delta.json_actions import blocks, file_actions, small_actions
from catalog.delta.log import LogFile, LogSegment
from catalog.delta.protocol import has_in_commit_timestamps
from catalog.delta.state import TableState
from catalog.errors import CorruptTableError, ObjectNotFoundError
from catalog.storage import Storage
from catalog.table import MapFunction


@dataclass(slots=True)
class _Facts:
    """The small facts as they add up, the later ones in place of the earlier."""

    protocol: Protocol | None = None
    metadata: Metadata | None = None
    domains: dict[str, str] = field(default_factory=dict)
    txns: dict[str, int] = field(default_factory=dict)

    def require_all(self, version: int) -> tuple[Protocol, Metadata]:
        """Return what no table does without.

        Raises:
            CorruptTableError: it is missing.
        """
        if self.protocol is None or self.metadata is None:
            missing = "protocol" if self.protocol is None else "metadata"
            raise CorruptTableError(f"the log of version {version} has no {missing}")
        return self.protocol, self.metadata

    def apply(self, kind: str, raw: Raw) -> None:
        match parse_action(kind, raw):
            case Protocol() as protocol:
                self.protocol = protocol
            case Metadata() as metadata:
                self.metadata = metadata
            case DomainMetadata(domain=domain, is_removed=True):
                self.domains.pop(domain, None)
            case DomainMetadata(domain=domain, configuration=configuration):
                self.domains[domain] = configuration
            case Txn(app_id=app_id, version=version):
                self.txns[app_id] = version


def read_state(storage: Storage, segment: LogSegment) -> TableState:
    """Return the small facts of a version.

    Raises:
        CorruptTableError: a file of the log cannot be read, or protocol or metadata are missing.
    """
    facts = _Facts()
    with reading_checkpoint(segment):
        for part in top_parts(segment):
            for kind, raw in small_actions_of(storage, part):
                facts.apply(kind, raw)
        if segment.checkpoint is not None:
            facts.require_all(segment.checkpoint.version)
    return _after_commits(storage, segment, facts)


def advance_state(
    storage: Storage, segment: LogSegment, before: LogSegment, known: TableState
) -> TableState | None:
    """Return the small facts of a version from those of an earlier one.

    Args:
        storage: where the log is.
        segment: what the version is made of.
        before: what the earlier version was made of.
        known: its small facts.

    Returns:
        None when the log is not just longer than it was: it has a new checkpoint, or the table
        was made anew.
    """
    continues = segment.commits[: len(before.commits)] == before.commits
    if segment.checkpoint != before.checkpoint or not continues:
        return None
    facts = _Facts(known.protocol, known.metadata, dict(known.domain_metadata), dict(known.txns))
    return _after_commits(storage, segment, facts, after=known.version)


def read_files(
    storage: Storage, segment: LogSegment, columns: FileColumns, map_function: MapFunction
) -> pa.Table:
    """Return the live files of a version, in the columns of `columns.schema`.

    Args:
        storage: where the log is.
        segment: what the version is made of.
        columns: how actions about files are read.
        map_function: runs the reading of the checkpoint's parts.

    Raises:
        CorruptTableError: a file of the log cannot be read.
        LocationError: a file lies outside of the table's prefixes.
    """
    later, added = _tail(storage, segment, columns)
    parts = [added]
    with reading_checkpoint(segment):
        for files in map_function(PartReader(storage, columns), checkpoint_parts(storage, segment)):
            gone = superseded(files, later) if later.num_rows else None
            parts.append(files if gone is None else files.filter(pc.invert(gone)))
            del files
    parts = [one for one in parts if one.num_rows]
    return parts[0] if len(parts) == 1 else gather(_handed_over(parts), columns.schema)


def _handed_over(tables: list[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables and let go of each, so that none is in memory longer than needed."""
    while tables:
        yield tables.pop(0)


def checkpoint_parts(storage: Storage, segment: LogSegment) -> list[Part]:
    """Return the files of the checkpoint that files may be listed in."""
    top = top_parts(segment)
    named = [raw for part in top for _, raw in small_actions_of(storage, part, ["sidecar"])]
    return [*top, *sidecars(segment.log, named)]


def _tail(storage: Storage, segment: LogSegment, columns: FileColumns) -> tuple[pa.Table, pa.Table]:
    """Return what the commits speak of, each file once, and the files that they leave added."""
    found = [
        file_actions(block, columns, str(segment.locate(commit.file)))
        for commit in segment.commits
        for block in _blocks(storage, segment, commit.file)
    ]
    if not found:
        empty = columns.schema.empty_table()
        return empty.select(["path", "vector"]), empty
    identities = pa.concat_tables([one.identities for one in found]).combine_chunks()
    is_add = np.concatenate([one.is_add.to_numpy(False) for one in found])
    added = gather((one.added for one in found), columns.schema)
    last = newest(identities)
    rows = (np.cumsum(is_add) - 1)[last[is_add[last]]]
    return identities.take(pa.array(last)), added.take(pa.array(rows, pa.int64()))


def _after_commits(
    storage: Storage, segment: LogSegment, facts: _Facts, *, after: int = -1
) -> TableState:
    for commit in segment.commits:
        if commit.last > after:
            for block in _blocks(storage, segment, commit.file):
                for kind, raw in small_actions(block, str(segment.locate(commit.file))):
                    facts.apply(kind, raw)
    protocol, metadata = facts.require_all(segment.version)
    info = _commit_info(storage, segment)
    timestamp_ms = segment.written_ms
    if has_in_commit_timestamps(protocol, metadata):
        timestamp_ms = info.in_commit_timestamp_ms or timestamp_ms
    return TableState(
        version=segment.version,
        timestamp_ms=timestamp_ms,
        protocol=protocol,
        metadata=metadata,
        domain_metadata=facts.domains,
        txns=facts.txns,
        commit_info=info,
    )


def _commit_info(storage: Storage, segment: LogSegment) -> CommitInfo:
    """Return what the commit of the version says of itself."""
    if segment.head is None:
        return CommitInfo()
    for block in _blocks(storage, segment, segment.head):
        for kind, raw in small_actions(block, str(segment.locate(segment.head))):
            action = parse_action(kind, raw) if kind == "commitInfo" else None
            if isinstance(action, CommitInfo):
                return action
    return CommitInfo()


def _blocks(storage: Storage, segment: LogSegment, file: LogFile) -> Iterator[bytes]:
    try:
        yield from blocks(storage, segment.locate(file), file.size_bytes)
    except ObjectNotFoundError as fault:
        raise CorruptTableError(f"a commit was removed while it was read: {fault}") from fault
