"""Removing the files of attempts that came to nothing.

Only names that the journal gave out are ever deleted, and never one that the table refers to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow.compute as pc

from catalog.location import Location
from catalog.model import Inventory, Snapshot
from catalog.table import MapFunction, Table, TableFiles
from compactor.errors import JobFailedError
from compactor.rewrite.leftovers import leftovers


class LiveFiles:
    """What the table refers to now; the manifests are read anew only when the head has moved."""

    def __init__(self, table: Table, map_function: MapFunction) -> None:
        self._table = table
        self._map = map_function
        self._read: tuple[Snapshot, Inventory] | None = None

    def read(self) -> Inventory:
        """Return the inventory of the current head.

        Raises:
            CatalogError: the table cannot be read.
        """
        head = self._table.snapshot()
        if self._read is None or self._read[0] != head:
            self._read = head, self._table.inventory(head, map_function=self._map)
        return self._read[1]


@dataclass(frozen=True, slots=True)
class Cleaner:
    """Removes the files of attempts at one plan.

    Attributes:
        files: the workers' side of the snapshot planned against.
        live: what the table refers to now. None while all attempts are this process's own, which
            knows what became of them; a process that takes up a journal looks at the table as well.
    """

    files: TableFiles
    live: LiveFiles | None = None

    def discard(self, attempt_id: str, partition_key: str) -> int:
        """Delete every file of an attempt that has ended; return how many there were.

        Raises:
            JobFailedError: the table refers to one of them; nothing was deleted.
            CatalogError: the storage refuses or fails; the rest can be deleted later.
        """
        found = leftovers(self.files, partition_key, attempt_id)
        if found and self.live is not None and _refers_to(self.live.read(), found):
            raise JobFailedError(
                f"refused to delete the files of attempt {attempt_id}: the table refers to them",
                hint="the job store and the table disagree; keep both and report this",
            )
        self.files.storage.delete(found)
        return len(found)


def _refers_to(live: Inventory, found: Iterable[Location]) -> bool:
    """Tell by their names, which nothing else has: paths are spelled in many ways."""
    return any(
        pc.any(pc.ends_with(table["path"], f"/{one.name}"), min_count=0).as_py()
        for table in (live.files, live.delete_files)
        for one in found
    )
