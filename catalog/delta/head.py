"""What a commit must know of the version that it follows, and of those that come in between.

The log is read once; whoever wins a race after that is read alone, one small file per version.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Protocol

from catalog.commits import Commit
from catalog.delta.actions import (
    Action,
    Add,
    CommitInfo,
    DomainMetadata,
    Metadata,
    Txn,
)
from catalog.delta.actions import (
    Protocol as TableProtocol,
)
from catalog.delta.checkpoints import DamagedCheckpointError
from catalog.delta.files import DeltaFiles
from catalog.delta.json_actions import blocks
from catalog.delta.log import LOG_DIRECTORY, CommitFile, LogSegment, commit_name
from catalog.delta.named_adds import NamedAddReader, NamedAdds, only_live
from catalog.delta.paths import Paths
from catalog.delta.state import TableState
from catalog.errors import CorruptTableError, ObjectNotFoundError
from catalog.location import Location
from catalog.model import Snapshot
from catalog.storage import Storage

# Far less than any commit is kept for before it may be cleaned from a log.
_LISTING_SECONDS_MAX = 60.0
# Commits are small and may be far away: a few requests in flight hide the latency.
_READERS = 8


class CommitTarget(Protocol):
    """The table that commits go to."""

    @property
    def storage(self) -> Storage:
        """Where its files are."""

    @property
    def paths(self) -> Paths:
        """Where its files may lie."""

    def load(self, version: int | None = None) -> tuple[LogSegment, TableState]:
        """Read a version anew, the newest by default; raises the errors of `catalog.errors`."""

    def current(self) -> tuple[LogSegment, TableState]:
        """Return the newest version as it was last read."""

    def without_checkpoint(self, segment: LogSegment, error: DamagedCheckpointError) -> LogSegment:
        """Return what a version is made of without the checkpoint that cannot be read."""

    def snapshot(self, snapshot_id: str | None = None) -> Snapshot:
        """Return a version as the model has it."""

    def files(self, snapshot: Snapshot) -> DeltaFiles:
        """Return the workers' side of a version."""


@dataclass(frozen=True, slots=True)
class Head:
    """A version that a commit may follow.

    Attributes:
        state: its small facts.
        adds: the live files among those that the commit names.
        since: what the commits since its checkpoint say of themselves.
    """

    state: TableState
    adds: NamedAdds
    since: tuple[CommitInfo, ...] = field(default=(), repr=False)

    @property
    def live(self) -> Mapping[str, Add]:
        """The live files among those named, by absolute location."""
        return only_live(self.adds)


class Heads:
    """Reads the heads that one commit meets.

    The version after a head is told by its name. A name that is not there stands for the newest
    version only while none can have been cleaned from the log: so the log is listed now and then.
    """

    def __init__(self, target: CommitTarget, names: frozenset[str]) -> None:
        """Look at the files of these absolute locations alone."""
        self._target = target
        self._reader = NamedAddReader(target.storage, target.paths, names)
        self._listed_at = -math.inf

    def read(self, version: int | None = None) -> Head:
        """Read a version from the log, the newest by default.

        Raises:
            SnapshotNotFoundError: no such version, or it has been cleaned from the log.
        """
        now = time.monotonic()
        segment, state = self._target.load(version)
        self._listed_at = now if version is None else self._listed_at
        segment, adds = self._checkpointed(segment)
        infos = list[CommitInfo]()
        with ThreadPoolExecutor(_READERS) as readers:
            for actions in readers.map(partial(self._actions, segment), segment.commits):
                adds = self._reader.follow(adds, actions)
                infos += [one for one in actions if isinstance(one, CommitInfo)]
        return Head(state, adds, tuple(infos))

    def _checkpointed(self, segment: LogSegment) -> tuple[LogSegment, NamedAdds]:
        """Read the checkpoint, or an older one; return what was read with it."""
        while True:
            try:
                return segment, self._reader.checkpointed(segment)
            except DamagedCheckpointError as error:
                segment = self._target.without_checkpoint(segment, error)

    def follow(self, head: Head) -> Head:
        """Return the newest version, read from what was committed after a head."""
        if time.monotonic() - self._listed_at > _LISTING_SECONDS_MAX:
            return self.read()
        while True:
            version = head.state.version + 1
            try:
                data = self._target.storage.read(commit_location(self._target.paths.root, version))
            except ObjectNotFoundError:
                return head
            head = self._after(head, self._reader.actions_in(data, commit_name(version)))

    def _actions(self, segment: LogSegment, commit: CommitFile) -> tuple[Action, ...]:
        location = segment.locate(commit.file)
        some = blocks(self._target.storage, location, commit.file.size_bytes)
        try:
            found = [self._reader.actions_in(block, str(location)) for block in some]
            return tuple(chain.from_iterable(found))
        except ObjectNotFoundError as fault:
            raise CorruptTableError(f"a commit was removed while it was read: {fault}") from fault

    def _after(self, head: Head, actions: tuple[Action, ...]) -> Head:
        infos = tuple(one for one in actions if isinstance(one, CommitInfo))
        return Head(
            state=next_state(head.state, actions),
            adds=self._reader.follow(head.adds, actions),
            since=head.since + infos,
        )


def named_paths(commit: Commit) -> frozenset[str]:
    """Return the inputs and outputs of a commit by their absolute locations."""
    return frozenset(
        path
        for rewrite in commit.rewrites
        for path in (
            *rewrite.files.files["path"].to_pylist(),
            *(output.path for output in rewrite.added),
        )
    )


def commit_location(root: Location, version: int) -> Location:
    """Return the file that commits a version."""
    return root.child(LOG_DIRECTORY, commit_name(version))


def next_state(state: TableState, actions: Iterable[Action]) -> TableState:
    """Return the small facts of the version after one.

    Its time is taken from the commit itself, which is exact only where the table keeps it there.
    """
    info = CommitInfo()
    for action in actions:
        match action:
            case TableProtocol():
                state = replace(state, protocol=action)
            case Metadata():
                state = replace(state, metadata=action)
            case DomainMetadata():
                state = replace(state, domain_metadata=_domains(state.domain_metadata, action))
            case Txn():
                state = replace(state, txns={**state.txns, action.app_id: action.version})
            case CommitInfo():
                info = action
    time_ms = info.in_commit_timestamp_ms or info.timestamp_ms or state.timestamp_ms
    return replace(state, version=state.version + 1, timestamp_ms=time_ms, commit_info=info)


def _domains(before: Mapping[str, str], action: DomainMetadata) -> Mapping[str, str]:
    others = {name: text for name, text in before.items() if name != action.domain}
    return others if action.is_removed else {**others, action.domain: action.configuration}
