"""Make a plan: select, pack, price, and put in the order of work.

    inventory -> columns -> candidates -> packing -> file groups -> order and budget -> plan

Everything per file is a column; Python objects exist per file group and per skipped partition only.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import pyarrow as pa

from catalog.announcing import Announced, Standing, WorkKind
from catalog.layout import FileLayout
from catalog.model import Inventory, Snapshot
from compactor.planner.carrying import carried_out
from compactor.planner.cluster import (
    ClusterFacts,
    Spans,
    find_spans,
    order_needs,
    useless_groups,
)
from compactor.planner.columns import FileColumns, Ints, read_columns
from compactor.planner.expect import Copying, expected_bytes
from compactor.planner.folding import Folding, find_folding, held_files
from compactor.planner.measure import GroupFigures, measure_groups
from compactor.planner.pack import Neighbours, Packing, pack
from compactor.planner.plan import ClusterPlan, FileGroup, Plan, Skipped
from compactor.planner.policy import FileSizes, Order, Policy
from compactor.planner.price import GroupSize, price_group
from compactor.planner.pruning import make_pruning
from compactor.planner.select import Need, Needs, Stay, select_candidates
from compactor.planner.slicing import cut_groups
from compactor.planner.width import UNKNOWN_WIDTH, RowWidth
from compactor.units import format_duration, format_size

_NEED_WORDS = {
    Need.SMALL: "small",
    Need.TOO_LARGE: "too large",
    Need.DELETED_ROWS: "with deleted rows",
    Need.DELETE_FILES: "with many delete files",
    Need.UNCLUSTERED: "out of order",
    Need.OVERLAPPING: "overlapping",
    Need.LOGS: "with logs",
    Need.ASKED_FOR: "as asked for",
}


@dataclass(frozen=True, slots=True)
class TableState:
    """What is planned against: one snapshot of a table.

    Attributes:
        name: the target.
        format: the table's format, for people.
        snapshot: the snapshot of the inventory.
        inventory: its file slices.
        layout: how the table wants its files.
        leaf_columns: columns that a file stores, nested ones counted by their leaves.
        row_width: what a row takes in memory.
        composed_bytes_min: how long a range must be for the store to copy it by itself; None if
            it never does.
        clusters: what footers say of the order of rows, for the files of the inventory; None
            where rows are to keep theirs.
        standing: what is announced on a table that is told of plans; None for any other.
        halvings: by partition, how often the size of its groups is halved: they are to be short
            where other writers are quick.
    """

    name: str
    format: str
    snapshot: Snapshot
    inventory: Inventory
    layout: FileLayout
    leaf_columns: int
    row_width: RowWidth = UNKNOWN_WIDTH
    composed_bytes_min: int | None = None
    clusters: ClusterFacts | None = None
    standing: Standing | None = None
    halvings: Mapping[str, int] = field(default_factory=dict)


def make_plan(table: TableState, policy: Policy, *, now_ms: int) -> Plan:
    """Plan the compaction of a table; equal inputs give equal plans.

    Args:
        table: the snapshot to be planned against, and its files.
        policy: what its owner wants.
        now_ms: milliseconds since the epoch, for the age of files.
    """
    sizes = policy.file_sizes(table.layout.target_file_size_bytes)
    every, table = table.inventory, _with_work(table)
    columns = read_columns(table.inventory)
    folding = _folding(table, columns, policy, now_ms)
    if folding is not None:
        is_of_logs = folding.announced.kind is WorkKind.FOLD
        table = replace(table, clusters=None) if is_of_logs else table
        policy = replace(policy, max_job_bytes=None) if folding.announced.work_id else policy
    facts = table.clusters
    spans = None if facts is None else find_spans(facts)
    if folding is not None:
        candidates, packing = folding.candidates, folding.packing
    else:
        standing = table.standing
        candidates = select_candidates(
            columns,
            policy,
            sizes=sizes,
            now_ms=now_ms,
            order_needs=_order_needs(columns, facts, spans, policy),
            held=None if standing is None else held_files(columns, standing),
        )
        packing = pack(
            columns,
            candidates,
            policy=policy,
            sizes=sizes,
            neighbours=Neighbours(
                spans.lower if spans else None, _halvings(columns, table.halvings)
            ),
        )
    limits = policy.splice_limits(sizes) if facts is None else None
    figures = measure_groups(
        table.inventory,
        columns,
        candidates=candidates,
        packing=packing,
        expected=expected_bytes(
            columns,
            candidates,
            packing,
            copying=Copying(limits, table.leaf_columns, table.composed_bytes_min),
        ),
    )
    useless = set(useless_groups(packing, candidates.needs, spans)) if spans else set[int]()
    taken, refused = within_budget(figures, policy, useless)
    stays = candidates.stays.copy()
    for group in refused:
        stay = Stay.NOTHING_TO_GAIN if group in useless else Stay.OVER_BUDGET
        stays[packing.group_rows(group)] = stay
    packed = _Packed(table, columns, packing, figures)
    sort_memory_bytes = 0 if facts is None else int(policy.sort_memory_bytes)
    groups = tuple(_file_groups(packed, taken, sizes, sort_memory_bytes=sort_memory_bytes))
    return Plan(
        table=table.name,
        format=table.format,
        snapshot=table.snapshot,
        target_file_size_bytes=sizes.target_bytes,
        groups=groups,
        kept_files=every.file_count - sum(int(figures.files[g]) for g in taken),
        kept_bytes=every.size_bytes - sum(g.price.input_bytes for g in groups),
        skipped=tuple(skipped_files(columns, stays, policy)),
        splice=limits,
        cluster=_cluster_plan(packed, taken, groups, sort_memory_bytes=sort_memory_bytes),
        announced=_announced(table, folding),
    )


def _with_work(table: TableState) -> TableState:
    """Return what is planned against: the slices of announced work where it is to be done first."""
    standing = table.standing
    if standing is None or not standing.work_id:
        return table
    return replace(table, inventory=standing.files)


def _folding(
    table: TableState, columns: FileColumns, policy: Policy, now_ms: int
) -> Folding | None:
    if table.standing is None:
        return None
    if table.standing.groups:
        return carried_out(columns, table.standing)
    delete_bytes = table.inventory.delete_files["size_bytes"].to_numpy()
    return find_folding(columns, delete_bytes, table.standing, policy, now_ms=now_ms)


def _announced(table: TableState, folding: Folding | None) -> Announced | None:
    if folding is not None:
        return folding.announced
    return None if table.standing is None else Announced(WorkKind.REPLACE)


def _halvings(columns: FileColumns, known: Mapping[str, int]) -> Ints | None:
    if not known:
        return None
    labels = columns.partition_labels.to_pylist()
    return np.array([known.get(label, 0) for label in labels], dtype=np.int64)


def _order_needs(
    columns: FileColumns, facts: ClusterFacts | None, spans: Spans | None, policy: Policy
) -> Needs | None:
    if facts is None or spans is None:
        return None
    return order_needs(columns, facts, spans, depth_max=policy.overlap_depth_max)


def _cluster_plan(
    packed: _Packed, taken: list[int], groups: tuple[FileGroup, ...], *, sort_memory_bytes: int
) -> ClusterPlan | None:
    facts = packed.table.clusters
    if facts is None:
        return None
    is_rewritten = np.zeros(len(packed.columns.size_bytes), dtype=np.bool_)
    for group in taken:
        is_rewritten[packed.packing.group_rows(group)] = True
    return ClusterPlan(
        facts.clustering, sort_memory_bytes, make_pruning(facts, is_rewritten, groups)
    )


def within_budget(
    figures: GroupFigures, policy: Policy, useless: Container[int]
) -> tuple[list[int], list[int]]:
    """Return the groups that fit under the job's limit, in the order of work, and the others."""
    taken: list[int] = []
    refused: list[int] = []
    left_bytes = math.inf if policy.max_job_bytes is None else policy.max_job_bytes
    for group in _order_of_work(figures, policy.order):
        size_bytes = int(figures.input_bytes[group])
        if size_bytes <= left_bytes and group not in useless:
            left_bytes -= size_bytes
            taken.append(group)
        else:
            refused.append(group)
    return taken, refused


def _order_of_work(figures: GroupFigures, order: Order) -> list[int]:
    """Return all groups; equal ones stay in the order of their partitions."""
    keys = {
        Order.BYTES_ASCENDING: figures.input_bytes,
        Order.BYTES_DESCENDING: -figures.input_bytes,
        Order.FILES_ASCENDING: figures.files,
        Order.NONE: np.zeros_like(figures.files),
        Order.FILES_DESCENDING: -figures.files,
        Order.OLDEST_FIRST: figures.sequence_number,
    }
    return cast(list[int], np.argsort(keys[order], kind="stable").tolist())


@dataclass(frozen=True, slots=True)
class _Packed:
    """The groups as columns, before they become values of their own."""

    table: TableState
    columns: FileColumns
    packing: Packing
    figures: GroupFigures


def _file_groups(
    packed: _Packed, taken: list[int], sizes: FileSizes, *, sort_memory_bytes: int
) -> Iterator[FileGroup]:
    columns, packing = packed.columns, packed.packing
    inventories = cut_groups(packed.table.inventory, [packing.group_rows(one) for one in taken])
    partitions = pa.array(columns.partition[packing.rows[packing.starts[taken]]])
    keys = columns.partition_keys.take(partitions).to_pylist()
    labels = columns.partition_labels.take(partitions).to_pylist()
    described = zip(taken, inventories, keys, labels, strict=True)
    for number, (group, files, key, label) in enumerate(described, start=1):
        size = _group_size(packed.figures, group, sizes, sort_memory_bytes=sort_memory_bytes)
        yield FileGroup(
            group_id=f"{number:04d}",
            partition_key=key,
            partition=label,
            rung=size.rung,
            files=files,
            output_files_estimate=size.output_files,
            reason=_reason(packed.figures, group),
            price=price_group(size, packed.table.layout, packed.table.row_width),
        )


def _group_size(
    figures: GroupFigures, group: int, sizes: FileSizes, *, sort_memory_bytes: int
) -> GroupSize:
    kept_bytes = int(figures.kept_bytes[group])
    return GroupSize(
        files=int(figures.files[group]),
        kept_rows=int(figures.kept_rows[group]),
        input_bytes=int(figures.input_bytes[group]),
        delete_files=int(figures.delete_files[group]),
        delete_bytes=int(figures.delete_bytes[group]),
        delete_rows=int(figures.delete_rows[group]),
        key_rows=int(figures.key_rows[group]),
        output_bytes=kept_bytes,
        output_files=sizes.rolled_files(kept_bytes),
        spliced_bytes=int(figures.spliced_bytes[group]),
        composed_bytes=int(figures.composed_bytes[group]),
        sort_memory_bytes=sort_memory_bytes,
        stretch_rows=int(figures.stretch_rows[group]),
        encoded_file_bytes=int(figures.encoded_file_bytes[group]),
    )


def _reason(figures: GroupFigures, group: int) -> str:
    counts = (
        (int(figures.needs[need][group]), words)
        for need, words in _NEED_WORDS.items()
        if need in figures.needs
    )
    return ", ".join(f"{count:,} {words}" for count, words in counts if count)


def skipped_files(columns: FileColumns, stays: Needs, policy: Policy) -> Iterator[Skipped]:
    """Yield one entry per partition and reason, by the order of the partitions."""
    words = _stay_words(policy)
    rows = np.flatnonzero(stays)
    pairs = columns.partition[rows] * (len(Stay) + 1) + stays[rows]
    kinds, entry, files = np.unique(pairs, return_inverse=True, return_counts=True)
    size_bytes = np.zeros(len(kinds), dtype=np.int64)
    np.add.at(size_bytes, entry, columns.size_bytes[rows])
    partitions, reasons = np.divmod(kinds, len(Stay) + 1)
    labels = columns.partition_labels.take(pa.array(partitions)).to_pylist()
    figures = zip(labels, files.tolist(), size_bytes.tolist(), reasons.tolist(), strict=True)
    for label, file_count, total, reason in figures:
        yield Skipped(label, file_count, total, words[reason])


def _stay_words(policy: Policy) -> Mapping[int, str]:
    return {
        Stay.PARTITION_NOT_SELECTED: "partition not selected",
        Stay.FILE_NOT_SELECTED: "file not selected",
        Stay.TOO_RECENT: f"written less than {format_duration(policy.min_age_seconds)} ago",
        Stay.TOO_FEW: f"fewer than {policy.min_input_files} small files",
        Stay.NOTHING_TO_GAIN: "nothing to gain",
        Stay.CLUSTERED: "clustered, and left to strategies that put rows in order",
        Stay.PLANNED: "part of a plan that is not carried out yet",
        Stay.BOUND: "bound to its place by an index of buckets",
        Stay.LATER: "left to the next plan: this one is as large as may be announced",
        Stay.OVER_BUDGET: f"over the limit of {format_size(policy.max_job_bytes or 0)} per job",
    }
