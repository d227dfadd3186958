"""The stored rows that changes act on, looked for by tasks of a runtime."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from catalog.model import Inventory
from catalog.table import TableFiles
from compactor.jobs.spread import answer
from compactor.merge.finding import Found, find_hits, together
from compactor.merge.key_filters import KeyFilters
from compactor.merge.matching import Matcher
from compactor.planner.policy import MIB
from runtime import Runtime

# Footers and key columns of so much are worth a task; less is looked at right here.
_TASK_BYTES = 128 * MIB
_TASK_FILES = 64
# A first guess; what a task needs is learned from earlier ones.
_TASK_MEMORY_BYTES = 128 * MIB


def search(
    runtime: Runtime,
    ground: tuple[TableFiles, str],
    inventory: Inventory,
    *,
    matcher: Matcher,
    filters: KeyFilters | None = None,
) -> Found:
    """Find the rows of a snapshot that changes act on.

    Args:
        runtime: runs the reading.
        ground: the workers' side of the snapshot, and the name of the table, the first half of the
            key that grants are predicted by.
        inventory: its files that may hold a changed key.
        matcher: what is looked for.
        filters: of keys, where they are to be asked.

    Raises:
        CatalogError: as reading the files raises it.
        RuntimeFailure: a task failed otherwise.
    """
    (files, table), parts = ground, list(_parts(inventory))
    if len(parts) < 2:
        return find_hits(files, inventory, matcher, filters)
    shared = runtime.put(matcher)
    refs = [
        runtime.submit(
            find_hits,
            files,
            part,
            shared,
            None if filters is None else filters.of(part),
            memory=_TASK_MEMORY_BYTES,
            key=(table, "match"),
        )
        for part in parts
    ]
    return together(answer(runtime, ref) for ref in refs)


def _parts(inventory: Inventory) -> Iterator[Inventory]:
    """Yield the files in parts, one per task."""
    sizes = np.maximum(inventory.files["size_bytes"].to_numpy(), _TASK_BYTES // _TASK_FILES)
    part = np.cumsum(sizes) // _TASK_BYTES
    for number in np.unique(part):
        yield inventory.take(np.flatnonzero(part == number))
