"""The file slices of the metadata table, and which of its instants count.

The metadata table is committed before the table. So what an instant wrote here counts only once
the instant is no longer pending in the table itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from catalog.hudi.metadata_table.table import MetadataTable
from catalog.hudi.open_logs import StoredFile
from catalog.hudi.reading import Source, read_slices
from catalog.hudi.slices import LISTING
from catalog.hudi.timeline import Action, Instant, Timeline


@dataclass(frozen=True, slots=True)
class MetadataSlice:
    """A file slice of the metadata table.

    Attributes:
        partition: which listing or index it is of.
        file_id: its file group.
        instant: at which it begins.
        base: its base file; None for none.
        logs: in the order in which they are merged.
        planned_instant: at which a pending compaction begins the next one; empty for none.
    """

    partition: str
    file_id: str
    instant: str
    base: StoredFile | None
    logs: tuple[StoredFile, ...]
    planned_instant: str = ""


@dataclass(frozen=True, slots=True)
class MetadataView:
    """The metadata table as readers see it.

    Attributes:
        table: what is seen.
        timeline: its own instants.
        unfinished: instants that are pending in the table, or here.
    """

    table: MetadataTable
    timeline: Timeline
    unfinished: frozenset[str]

    @property
    def source(self) -> Source:
        """The metadata table as any other table."""
        return Source(self.table.storage, self.table.root, self.table.config, self.timeline)

    def is_valid(self, instant: str) -> bool:
        """Whether what an instant wrote counts."""
        if instant in self.unfinished:
            return False
        return instant in self.timeline.completion_times or instant < self.timeline.first_write

    def listing(self, partition: str) -> pa.Table:
        """Return the files of a partition, schema `LISTING`."""
        files = list(self.table.storage.list(self.table.root.child(partition)))
        names = [one.location.name for one in files]
        sizes = [one.size_bytes for one in files]
        return pa.table([[partition] * len(files), names, sizes], schema=LISTING)

    def slices(self, partition: str) -> list[MetadataSlice]:
        """Return the latest slice of each file group, in the order of their numbers."""
        found = read_slices(self.source, self.listing(partition))
        logs = [
            self._stored(partition, row["name"], row["size_bytes"])
            for row in found.logs.to_pylist()
        ]
        return [
            MetadataSlice(
                partition,
                row["file_id"],
                row["instant"],
                self._stored(partition, row["base_name"], row["base_size_bytes"])
                if row["base_name"]
                else None,
                tuple(logs[number] for number in row["logs"]),
                row["pending_compaction"] or "",
            )
            for row in found.slices.to_pylist()
        ]

    def _stored(self, partition: str, name: str, size_bytes: int) -> StoredFile:
        return StoredFile(self.table.root.child(partition, name), size_bytes)


def read_view(table: MetadataTable, data: Timeline) -> MetadataView:
    """Look at the metadata table.

    Args:
        table: what to look at.
        data: the instants of the table that it belongs to.
    """
    timeline = table.timeline()
    unfinished = {one.time for one in data.pending()}
    unfinished |= {one.time for one in timeline.pending(Action.DELTACOMMIT)}
    return MetadataView(table, timeline, frozenset(unfinished))


def completed_since_compaction(timeline: Timeline) -> tuple[Instant, ...]:
    """Return the deltacommits since the last compaction, oldest first."""
    last = max((one.time for one in timeline.completed(Action.COMMIT)), default="")
    return tuple(one for one in timeline.completed(Action.DELTACOMMIT) if one.time > last)
