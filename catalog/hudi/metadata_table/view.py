"""The file slices of the metadata table, and which of its instants count.

The metadata table is committed before the table. So what an instant wrote here counts only once
the instant is no longer pending in the table itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from catalog.hudi.archived import completion_times
from catalog.hudi.details import PlannedSlice, read_compaction_plan
from catalog.hudi.metadata_table.table import MetadataTable
from catalog.hudi.slices import LISTING, Pending, View, file_slices, log_instants
from catalog.hudi.timeline import Action, Instant, State, Timeline, read_instant
from catalog.location import Location

EXTENSION = "hfile"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the metadata table.

    Attributes:
        location: where it is.
        size_bytes: its length.
    """

    location: Location
    size_bytes: int

    @property
    def name(self) -> str:
        """Its name without the path."""
        return self.location.name


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
        pending: file groups of compactions that are not carried out.
    """

    table: MetadataTable
    timeline: Timeline
    unfinished: frozenset[str]
    pending: Pending = field(default_factory=Pending)

    def is_valid(self, instant: str) -> bool:
        """Whether what an instant wrote counts."""
        if instant in self.unfinished:
            return False
        return instant in self.timeline.completion_times or instant < self.timeline.first_write

    def slices(self, partition: str) -> list[MetadataSlice]:
        """Return the latest slice of each file group, in the order of their numbers."""
        folder = self.table.root.child(partition)
        files = {one.location.name: one for one in self.table.storage.list(folder)}
        listing = pa.table(
            [
                [partition] * len(files),
                list(files),
                [one.size_bytes for one in files.values()],
            ],
            schema=LISTING,
        )
        view = View(
            self.timeline, self.pending, archived=self._archived(listing), extension=EXTENSION
        )
        found = file_slices(listing, view)
        names = found.logs["name"].to_pylist()
        stored = {name: StoredFile(one.location, one.size_bytes) for name, one in files.items()}
        return [
            MetadataSlice(
                partition,
                row["file_id"],
                row["instant"],
                stored[row["base_name"]] if row["base_name"] else None,
                tuple(stored[names[number]] for number in row["logs"]),
                row["pending_compaction"] or "",
            )
            for row in found.slices.to_pylist()
        ]

    def _archived(self, listing: pa.Table) -> Mapping[str, str]:
        """Return when logs were completed that are older than the timeline."""
        older = {one for one in log_instants(listing) if one < self.timeline.first_write}
        unknown = older - set(self.timeline.completion_times)
        table = self.table
        return completion_times(table.storage, table.root, table.config, unknown)


def read_view(table: MetadataTable, data: Timeline) -> MetadataView:
    """Look at the metadata table.

    Args:
        table: what to look at.
        data: the instants of the table that it belongs to.
    """
    timeline = table.timeline()
    unfinished = {one.time for one in data.pending()}
    unfinished |= {one.time for one in timeline.pending(Action.DELTACOMMIT)}
    return MetadataView(table, timeline, frozenset(unfinished), _pending(table, timeline))


def _pending(table: MetadataTable, timeline: Timeline) -> Pending:
    planned = timeline.pending(Action.COMPACTION)
    return Pending(
        {
            (one.partition_path, one.file_id): instant.time
            for instant in planned
            for one in _plan(table, instant)
        }
    )


def _plan(table: MetadataTable, instant: Instant) -> tuple[PlannedSlice, ...]:
    name = instant.named(State.REQUESTED)
    data = read_instant(table.storage, table.root, table.config, name)
    return read_compaction_plan(name, data).slices


def completed_since_compaction(timeline: Timeline) -> tuple[Instant, ...]:
    """Return the deltacommits since the last compaction, oldest first."""
    last = max((one.time for one in timeline.completed(Action.COMMIT)), default="")
    return tuple(one for one in timeline.completed(Action.DELTACOMMIT) if one.time > last)
