"""Inventories for planner tests: drawn by hypothesis, and a simulation of applying a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from catalog.layout import FileLayout
from catalog.model import DATA_FILES, DELETE_FILES, Inventory, Snapshot
from compactor.planner.plan import FileGroup, Plan
from compactor.planner.planning import TableState, make_plan
from compactor.planner.policy import Order, Policy

TARGET = 1000
NOW_MS = 1_700_000_000_000
LAYOUT = FileLayout(
    target_file_size_bytes=TARGET,
    row_group_size_bytes=400,
    row_group_rows_max=1000,
    page_size_bytes=100,
    dictionary_page_size_bytes=100,
    codec="zstd",
    codec_level=None,
)
SNAPSHOT = Snapshot("s1", 100, NOW_MS, None, "append")


@dataclass(frozen=True)
class File:
    size: int
    rows: int = 100
    partition: str = "p=0"
    sequence: int = 1
    path: str = ""
    written_at_ms: int | None = None
    # Names of delete files.
    deletes: tuple[str, ...] = ()
    first_row_id: int | None = None
    row_version: int | None = None
    is_clustered: bool | None = None


@dataclass(frozen=True)
class Delete:
    path: str
    rows: int
    target: str | None = None


def inventory_of(files: Sequence[File], deletes: Sequence[Delete] = ()) -> Inventory:
    numbers = {delete.path: number for number, delete in enumerate(deletes)}
    partitions = [file.partition for file in files]
    columns = {
        "path": [file.path or f"f{number:05d}" for number, file in enumerate(files)],
        "size_bytes": [file.size for file in files],
        "row_count": [file.rows for file in files],
        "partition_key": pa.array(
            [f"key:{p}" for p in partitions], pa.string()
        ).dictionary_encode(),
        "partition": pa.array(partitions, pa.string()).dictionary_encode(),
        "sequence_number": [file.sequence for file in files],
        "written_at_ms": [file.written_at_ms for file in files],
        "first_row_id": [file.first_row_id for file in files],
        "row_version": [file.row_version for file in files],
        "is_clustered": [file.is_clustered for file in files],
        "deletes": [[numbers[name] for name in file.deletes] for file in files],
    }
    delete_columns = {
        "path": [delete.path for delete in deletes],
        "size_bytes": [10 for _ in deletes],
        "row_count": [delete.rows for delete in deletes],
        "sequence_number": [50 for _ in deletes],
        "target": [delete.target for delete in deletes],
        "equality_ids": [None for _ in deletes],
    }
    return Inventory(
        pa.table([columns[name] for name in DATA_FILES.names], schema=DATA_FILES),
        pa.table([delete_columns[name] for name in DELETE_FILES.names], schema=DELETE_FILES),
    )


def state_of(inventory: Inventory) -> TableState:
    return TableState("lake.db.t", "iceberg v2", SNAPSHOT, inventory, LAYOUT, 4)


def plan_of(inventory: Inventory, policy: Policy | None = None) -> Plan:
    return make_plan(
        state_of(inventory), policy or Policy(max_group_bytes=4 * TARGET), now_ms=NOW_MS
    )


def read_files(inventory: Inventory) -> tuple[list[File], list[Delete]]:
    """Take an inventory apart again."""
    names = inventory.delete_files["path"].to_pylist()
    files = [
        File(
            size=row["size_bytes"],
            rows=row["row_count"],
            partition=row["partition"],
            sequence=row["sequence_number"],
            path=row["path"],
            written_at_ms=row["written_at_ms"],
            first_row_id=row["first_row_id"],
            row_version=row["row_version"],
            is_clustered=row["is_clustered"],
            deletes=tuple(names[number] for number in row["deletes"]),
        )
        for row in inventory.files.to_pylist()
    ]
    deletes = [
        Delete(row["path"], row["row_count"], row["target"])
        for row in inventory.delete_files.to_pylist()
    ]
    return files, deletes


def permuted(inventory: Inventory, seed: int) -> Inventory:
    """Return the same inventory, its rows and the deletes of each file in another order."""
    rng = np.random.default_rng(seed)
    files, deletes = read_files(inventory)
    shuffled = [
        replace(
            files[row], deletes=tuple(rng.permutation(np.array(files[row].deletes, dtype=object)))
        )
        for row in rng.permutation(len(files))
    ]
    return inventory_of(shuffled, [deletes[row] for row in rng.permutation(len(deletes))])


def replaced_paths(plan: Plan) -> list[str]:
    return [path for group in plan.groups for path in group.files.files["path"].to_pylist()]


def rolled(total: float, draw_size: st.DrawFn | None = None) -> list[int]:
    """Sizes of the files that `total` bytes become: within [0.9, 1.8] targets unless too few."""
    if total < 1:
        return []
    sizes: list[int] = []
    left = int(total)
    while left > 1.8 * TARGET:
        high = min(1.8 * TARGET, left - 0.9 * TARGET)
        size = draw_size(st.integers(int(0.9 * TARGET), int(high))) if draw_size else int(high)
        sizes.append(size)
        left -= size
    return [*sizes, left]


def applied(inventory: Inventory, groups: Sequence[tuple[FileGroup, list[int]]]) -> Inventory:
    """Return the inventory once every group has become files of the given sizes."""
    files, deletes = read_files(inventory)
    gone = {path for group, _ in groups for path in group.files.files["path"].to_pylist()}
    kept = [file for file in files if file.path not in gone]
    added = [
        File(size, 100, group.partition, 100, f"out-{group.group_id}-{number}")
        for group, sizes in groups
        for number, size in enumerate(sizes)
    ]
    live = {name for file in kept for name in file.deletes}
    return inventory_of(kept + added, [delete for delete in deletes if delete.path in live])


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    """Few partitions with many kinds of files: small, right, too large, empty, with deletes."""
    deletes = draw(st.lists(st.integers(0, 400), max_size=6))
    names = [f"d{number}" for number in range(len(deletes))]
    size = st.one_of(
        st.integers(1, 100),
        st.integers(1, 3 * TARGET),
        st.sampled_from([0, 749, 750, 1800, 1801, 2000, 2001, 9000]),
    )
    applying = st.lists(st.sampled_from(names), unique=True, max_size=6) if names else st.just([])
    drawn = st.builds(
        File,
        size=size,
        rows=st.sampled_from([0, 1, 100, 1000]),
        partition=st.sampled_from(["p=0", "p=1", "q=x/b=2"]),
        sequence=st.integers(1, 5),
        written_at_ms=st.sampled_from([None, 0, NOW_MS - 1000, NOW_MS, NOW_MS + 5000]),
        deletes=st.one_of(st.just(()), applying.map(tuple)),
        first_row_id=st.sampled_from([None, 0, 7]),
        row_version=st.sampled_from([None, 3]),
    )
    files = draw(st.lists(drawn, max_size=40))
    targets = st.one_of(st.none(), st.integers(0, 40).map(lambda n: f"f{n:05d}"))
    found = [Delete(name, rows, draw(targets)) for name, rows in zip(names, deletes, strict=True)]
    return inventory_of(files, found)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    return Policy(
        small_file_ratio=draw(st.sampled_from([0.1, 0.5, 0.75, 0.8])),
        large_file_ratio=draw(st.sampled_from([1.8, 2.0, 5.0])),
        min_input_files=draw(st.integers(2, 8)),
        delete_ratio=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        delete_files_min=draw(st.integers(1, 6)),
        partitions=draw(st.sampled_from([(), ("p=*",), ("q=?/b=[0-2]", "p=0")])),
        files=draw(st.sampled_from([(), ("f*",), ("*[13579]",)])),
        max_group_bytes=draw(st.sampled_from([1, 1500, 2500, 4000, 10**6])),
        min_age_seconds=draw(st.sampled_from([0.0, 0.5, 60.0])),
        order=draw(st.sampled_from(list(Order))),
    )
