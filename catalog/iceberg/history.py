"""What happened to an Iceberg table after a snapshot: the files that later snapshots appended.

The snapshots between are found by their parents, from the head backwards. Those that only rewrote
files are passed over; one that removed or replaced rows ends it, for nothing tells which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow.compute as pc

from catalog.errors import CorruptTableError, HistoryError
from catalog.history import Happening, History, Step
from catalog.iceberg.files import IcebergFiles
from catalog.iceberg.inventory import assemble
from catalog.iceberg.manifest import DATA, Manifest, ManifestPart, ManifestReader
from catalog.iceberg.metadata import specs
from catalog.location import Confinement
from catalog.model import Inventory, Snapshot
from catalog.storage import Storage
from catalog.table import MapFunction

if TYPE_CHECKING:
    from pyiceberg.table import Table as PyIcebergTable
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

_APPEND, _REPLACE = "append", "replace"


class HistoryTarget(Protocol):
    """The table whose history is read."""

    @property
    def name(self) -> str:
        """How messages call it."""

    @property
    def storage(self) -> Storage:
        """Where its files are."""

    @property
    def confinement(self) -> Confinement:
        """The prefixes that its files may lie below."""

    def current(self) -> PyIcebergTable:
        """Return the table as it was last read."""

    def snapshot(self, snapshot_id: str | None = None) -> Snapshot:
        """Return a snapshot as the model has it, the current one read anew."""

    def files(self, snapshot: Snapshot) -> IcebergFiles:
        """Return the workers' side of a snapshot."""

    def inventory(self, snapshot: Snapshot, *, map_function: MapFunction = map) -> Inventory:
        """Return every file slice of a snapshot."""


def read_history(
    target: HistoryTarget, watermark: str | None, map_function: MapFunction
) -> History:
    """Return what happened after a watermark, which is the id of a snapshot.

    An empty one stands for a table without snapshots.

    Raises:
        HistoryError: a snapshot between removed or replaced rows, or is gone.
    """
    head = target.snapshot()
    # Changes have no ids of rows.
    files = target.files(head).without_lineage()
    if watermark is None:
        inventory = target.inventory(head, map_function=map_function)
        steps = [_came(0, inventory)] if inventory.file_count else []
    else:
        between = _between(target, watermark)
        steps = [
            _came(at, _appended(target, one, map_function))
            for at, one in enumerate(between)
            if _operation(one) == _APPEND
        ]
    return History(head.snapshot_id, tuple(steps), files, files.schema)


def _came(position: int, files: Inventory) -> Step:
    return Step(position, Happening.CAME, files, Inventory.empty())


def _between(target: HistoryTarget, watermark: str) -> list[IcebergSnapshot]:
    """Return the snapshots after a watermark, oldest first."""
    metadata = target.current().metadata
    by_id = {one.snapshot_id: one for one in metadata.snapshots}
    found: list[IcebergSnapshot] = []
    number = metadata.current_snapshot_id
    while str("" if number is None else number) != watermark:
        snapshot = None if number is None else by_id.get(number)
        if snapshot is None:
            raise HistoryError(
                f"{target.name}: snapshot {watermark or 'zero'} is not, or no longer, among those"
                " that led to the current one",
                hint="merge the whole table under another watermark, or keep snapshots for longer",
            )
        found.append(snapshot)
        number = snapshot.parent_snapshot_id
    found.reverse()
    for snapshot in found:
        _refuse_removals(target.name, snapshot)
    return found


def _refuse_removals(name: str, snapshot: IcebergSnapshot) -> None:
    operation = _operation(snapshot)
    if operation not in (_APPEND, _REPLACE):
        raise HistoryError(
            f"{name}: snapshot {snapshot.snapshot_id} removed or replaced rows ({operation}),"
            " and the table has no feed of its changes",
            hint="read changes from a table that is only appended to, or from a change feed",
        )


def _operation(snapshot: IcebergSnapshot) -> str:
    return "" if snapshot.summary is None else str(snapshot.summary.operation.value)


def _appended(
    target: HistoryTarget, snapshot: IcebergSnapshot, map_function: MapFunction
) -> Inventory:
    """Return the files that a snapshot appended."""
    metadata = target.current().metadata
    reader = ManifestReader(target.storage, target.confinement, specs(metadata))
    own = _manifests(target.name, reader, snapshot)
    parts = list(map_function(_AddedBy(reader, snapshot.snapshot_id), own))
    return assemble(parts, {snapshot.snapshot_id: snapshot.timestamp_ms})


def _manifests(name: str, reader: ManifestReader, snapshot: IcebergSnapshot) -> Sequence[Manifest]:
    if not snapshot.manifest_list:
        raise HistoryError(f"{name}: snapshot {snapshot.snapshot_id} has no manifest list")
    found = [
        one
        for one in reader.manifests(snapshot.manifest_list)
        if one.added_snapshot_id in (None, snapshot.snapshot_id)
    ]
    if any(one.content != DATA for one in found):
        raise CorruptTableError(f"{name}: the append {snapshot.snapshot_id} has delete files")
    return found


@dataclass(frozen=True, slots=True)
class _AddedBy:
    """Reads the files of manifests that one snapshot added; can be sent to another process."""

    reader: ManifestReader
    snapshot_id: int

    def __call__(self, manifest: Manifest) -> ManifestPart:
        part = self.reader(manifest)
        is_new = pc.equal(part.files["snapshot_id"], self.snapshot_id)
        return ManifestPart(part.files.filter(is_new), part.delete_files)
