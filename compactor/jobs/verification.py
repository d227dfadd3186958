"""Comparing two snapshots: whether they hold the same rows, whatever their files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from catalog.model import Inventory
from catalog.table import Table, TableFiles
from compactor.jobs.spread import answer, spread
from compactor.planner.policy import MIB
from compactor.rewrite.task import EMPTY_DIGEST, RowDigest
from compactor.rewrite.verify import digest_slices
from runtime import Runtime

# Enough work to be worth a task, little enough to be spread over the workers.
TASK_BYTES = 256 * MIB
# A first guess: what digesting takes is learned from the profiles of earlier tasks.
TASK_MEMORY_BYTES = 384 * MIB


@dataclass(frozen=True, slots=True)
class Verification:
    """Two snapshots compared as multisets of rows.

    File slices that both snapshots have (the same data file with the same deletes) are equal by
    reference and not read; the rows counted and digested are those of all other slices.

    Attributes:
        table: the target.
        from_id: the one snapshot.
        to_id: the other.
        is_equal: whether both hold the same rows.
        files_equal: data files equal by reference.
        files_read: data files read, of both.
        from_digest: rows only the first snapshot's own slices hold.
        to_digest: the same of the second.
    """

    table: str
    from_id: str
    to_id: str
    is_equal: bool
    files_equal: int
    files_read: int
    from_digest: RowDigest
    to_digest: RowDigest


def verify_snapshots(table: Table, from_id: str, to_id: str, *, runtime: Runtime) -> Verification:
    """Compare the rows of two snapshots; files are read by tasks.

    Raises:
        SnapshotNotFoundError: one of them does not exist.
        CatalogError: the table or one of its files cannot be read.
    """
    snapshots = table.snapshot(from_id), table.snapshot(to_id)
    inventories = [
        table.inventory(snapshot, map_function=spread(runtime)) for snapshot in snapshots
    ]
    compared = compare_files(*inventories)
    # Both sides are read with the table's current schema, or they could not be compared.
    readings = [
        _Reading(table.name, table.files(snapshot), inventory)
        for snapshot, inventory in zip(snapshots, compared.own, strict=True)
    ]
    digests = _digests(readings, runtime)
    return Verification(
        table=table.name,
        from_id=from_id,
        to_id=to_id,
        is_equal=digests[0] == digests[1],
        files_equal=compared.shared.file_count,
        files_read=sum(inventory.file_count for inventory in compared.own),
        from_digest=digests[0],
        to_digest=digests[1],
    )


@dataclass(frozen=True, slots=True)
class ComparedFiles:
    """File slices of two snapshots.

    Attributes:
        shared: those that both have: the same data file with the same deletes.
        own: those that only the first has, and those that only the second has.
    """

    shared: Inventory
    own: tuple[Inventory, Inventory]


def compare_files(first: Inventory, second: Inventory) -> ComparedFiles:
    """Tell the file slices apart that two snapshots share, and that they do not."""
    names = _identities(first), _identities(second)
    shared = set(names[0]) & set(names[1])
    is_shared = np.array([name in shared for name in names[0]], np.bool_)
    is_shared_too = np.array([name in shared for name in names[1]], np.bool_)
    own = (
        first.take(np.flatnonzero(~is_shared)),
        second.take(np.flatnonzero(~is_shared_too)),
    )
    return ComparedFiles(first.take(np.flatnonzero(is_shared)), own)


@dataclass(frozen=True, slots=True)
class _Reading:
    """File slices of one snapshot that are to be read."""

    table: str
    files: TableFiles
    inventory: Inventory

    def parts(self) -> Iterator[Inventory]:
        """Yield the slices in parts of about equal size, one per task."""
        sizes = self.inventory.files["size_bytes"].to_numpy()
        part = np.cumsum(sizes) // TASK_BYTES
        for number in np.unique(part):
            yield self.inventory.take(np.flatnonzero(part == number))


def _digests(readings: list[_Reading], runtime: Runtime) -> list[RowDigest]:
    refs = [
        [
            runtime.submit(
                digest_slices,
                reading.files,
                part,
                memory=TASK_MEMORY_BYTES,
                key=(reading.table, "digest"),
            )
            for part in reading.parts()
        ]
        for reading in readings
    ]
    return [_sum(answer(runtime, ref) for ref in some) for some in refs]


def _sum(digests: Iterable[RowDigest]) -> RowDigest:
    total = EMPTY_DIGEST
    for digest in digests:
        total += digest
    return total


def _identities(inventory: Inventory) -> list[str]:
    """Return one text per file slice that is equal for equal slices: path and delete files."""
    paths: list[str] = inventory.files["path"].to_pylist()
    deletes = inventory.files["deletes"].to_pylist()
    if not inventory.delete_files.num_rows:
        return paths
    names = inventory.delete_files["path"].to_pylist()
    return [
        "\n".join((path, *sorted(names[index] for index in some))) if some else path
        for path, some in zip(paths, deletes, strict=True)
    ]
