"""Puts the commits since the last checkpoint together into one file, which readers take instead.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#log-compaction-files
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.delta.contents import lines
from catalog.delta.file_columns import FileColumns
from catalog.delta.head import CommitTarget
from catalog.delta.json_actions import blocks
from catalog.delta.log import LogSegment, compacted_name
from catalog.delta.reconciliation import Reconciled
from catalog.errors import ObjectExistsError
from catalog.upkeep import UpkeepOrder, UpkeepResult

# Fewer are read as quickly one by one.
_COMMITS_MIN = 2


@dataclass(frozen=True, slots=True)
class LogCompaction:
    """Writes the compacted commit of the newest versions."""

    target: CommitTarget
    name: str = "log-compaction"
    is_usual: bool = False

    def check(self, order: UpkeepOrder) -> None:
        """Take any order: there is nothing in it that this depends on."""

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Put together what comes after the checkpoint.

        Raises:
            CatalogError: the log cannot be read or written.
        """
        segment, _ = self.target.load()
        if len(segment.commits) < _COMMITS_MIN:
            return UpkeepResult(self.name, 0, 0, "too few commits since the last checkpoint")
        first, last = segment.commits[0].first, segment.commits[-1].last
        content = self._content(segment)
        if not order.is_dry_run:
            location = segment.log.child(compacted_name(first, last))
            try:
                self.target.storage.put_if_absent(location, content)
            except ObjectExistsError:
                return UpkeepResult(self.name, 0, 0, "another writer has just done it")
        note = f"versions {first} to {last} in one file"
        return UpkeepResult(self.name, 1, len(content), note)

    def _content(self, segment: LogSegment) -> bytes:
        found = Reconciled(FileColumns(self.target.paths, ()))
        for commit in segment.commits:
            location = segment.locate(commit.file)
            for block in blocks(self.target.storage, location, commit.file.size_bytes):
                found.apply(block, str(location))
        small = lines({kind: raw} for kind, raw in found.small_actions())
        return small + b"".join(line + b"\n" for line in found.files.values())
