"""Removes versions from the log that are older than the table wants its history to be.

What is kept begins with a checkpoint that has been read from end to end: what follows it can be
read without anything before.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#metadata-cleanup
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from catalog.delta.checkpoints import Part, small_actions_of
from catalog.delta.file_columns import FileColumns
from catalog.delta.head import CommitTarget
from catalog.delta.intervals import interval_seconds
from catalog.delta.log import LOG_DIRECTORY, SIDECARS_DIRECTORY, commit_version, list_segment
from catalog.delta.properties import is_set
from catalog.delta.protocol import features_of
from catalog.delta.replay import read_files, read_state
from catalog.delta.state import TableState
from catalog.errors import SnapshotNotFoundError
from catalog.location import Location
from catalog.storage.values import ObjectInfo
from catalog.upkeep import UpkeepOrder, UpkeepResult, refuse_counting

_RETENTION = "delta.logRetentionDuration"
_RETENTION_DEFAULT_SECONDS = 30 * 24 * 3600.0
_ENABLED = "delta.enableExpiredLogCleanup"
_PROTECTION = "checkpointProtection"
# Commits, checkpoints, compacted commits and checksums; nothing else is touched.
_VERSIONED = re.compile(r"(\d{20})\.(?:json|crc|\d{20}\.compacted\.json|checkpoint\..+)")
_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class LogCleanup:
    """Removes what the log has of versions before its retention."""

    target: CommitTarget
    name: str = "log-cleanup"
    is_usual: bool = True

    def check(self, order: UpkeepOrder) -> None:
        """Refuse to keep a number of versions; nothing else in an order matters."""
        refuse_counting(order)

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Remove them; how long versions are kept is up to the table alone.

        Raises:
            CatalogError: the log cannot be read, or its storage refuses.
        """
        _, state = self.target.load()
        if reason := _why_not(state):
            return UpkeepResult(self.name, 0, 0, reason)
        found = [info for info in self.target.storage.list(self._log) if self._is_top(info)]
        first = self._first_kept(found, _cutoff_ms(state))
        if first is None:
            return UpkeepResult(self.name, 0, 0, "no version is older than the table wants")
        gone = [info for info in found if _is_before(info, first)]
        gone.sort(key=lambda info: info.location.name)
        gone += self._unused_sidecars(gone, found)
        if not order.is_dry_run:
            self.target.storage.delete(info.location for info in gone)
        examples = tuple(info.location.name for info in gone[:_EXAMPLES])
        size_bytes = sum(info.size_bytes for info in gone)
        return UpkeepResult(
            self.name, len(gone), size_bytes, f"kept from version {first}", examples
        )

    @property
    def _log(self) -> Location:
        return self.target.paths.root.child(LOG_DIRECTORY)

    def _is_top(self, info: ObjectInfo) -> bool:
        return info.location.parent == self._log

    def _first_kept(self, found: Iterable[ObjectInfo], cutoff_ms: int) -> int | None:
        """Return the newest version whose checkpoint makes all that is outdated dispensable.

        Raises:
            CorruptTableError: that checkpoint cannot be read: then nothing may go.
        """
        storage, root = self.target.storage, self.target.paths.root
        outdated = _outdated(found, cutoff_ms)
        if outdated is None:
            return None
        try:
            checkpoint = list_segment(storage, root, outdated).checkpoint
        except SnapshotNotFoundError:
            return None
        if checkpoint is None:
            return None
        segment = list_segment(storage, root, checkpoint.version)
        read_state(storage, segment)
        read_files(storage, segment, FileColumns(self.target.paths, ()), map)
        return checkpoint.version

    def _unused_sidecars(
        self, gone: Sequence[ObjectInfo], found: Sequence[ObjectInfo]
    ) -> list[ObjectInfo]:
        """Return the sidecars that only checkpoints name which are to go."""
        storage = self.target.storage
        kept = (one for one in found if one not in gone)
        named = self._sidecars_of(gone) - self._sidecars_of(kept)
        return [
            info
            for info in (storage.list(self._log.child(SIDECARS_DIRECTORY)) if named else ())
            if info.location.name in named
        ]

    def _sidecars_of(self, files: Iterable[ObjectInfo]) -> set[str]:
        """Return the names of the sidecars of checkpoints."""
        parts = (
            Part(one.location, one.size_bytes)
            for one in files
            if _VERSIONED.fullmatch(one.location.name) and ".checkpoint." in one.location.name
        )
        return {
            str(raw.get("path")).rpartition("/")[2]
            for part in parts
            for kind, raw in small_actions_of(self.target.storage, part)
            if kind == "sidecar"
        }


def _why_not(state: TableState) -> str:
    configuration = {_ENABLED: "true", **state.metadata.configuration}
    if not is_set(configuration, _ENABLED):
        return f"the table keeps all versions ({_ENABLED})"
    if _PROTECTION in features_of(state.protocol):
        return f"the table protects its checkpoints ({_PROTECTION})"
    return ""


def _cutoff_ms(state: TableState) -> int:
    configuration = state.metadata.configuration
    seconds = interval_seconds(configuration, _RETENTION, _RETENTION_DEFAULT_SECONDS)
    return int((time.time() - seconds) * 1000)


def _outdated(found: Iterable[ObjectInfo], cutoff_ms: int) -> int | None:
    """Return the last of the versions, from the oldest on, that were committed before a time."""
    last = None
    commits = ((commit_version(info.location.name), info.modified_at) for info in found)
    for version, modified_at in sorted((v, at) for v, at in commits if v is not None):
        if modified_at.timestamp() * 1000 >= cutoff_ms:
            break
        last = version
    return last


def _is_before(info: ObjectInfo, version: int) -> bool:
    found = _VERSIONED.fullmatch(info.location.name)
    return found is not None and int(found[1]) < version
