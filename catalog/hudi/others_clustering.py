"""Clusterings that other writers have planned, as far as they can be carried out as they stand.

What is carried out must be what the plan's owner would have done: the same slices, the same groups,
rows in the order of the plan's columns. A plan is left to its owner where its strategy is another
one, where rows would lose their meta columns, where slices are no longer as planned, and where
somebody may be carrying it out: it is begun, and its owner gives no signs of life that could end.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow.compute as pc

from catalog.announcing import Standing
from catalog.errors import UnsupportedTableError
from catalog.hudi.details import ClusteringPlan, PlannedSlice, read_clustering_plan
from catalog.hudi.heartbeats import has_died
from catalog.hudi.metadata_table.table import Operation, open_metadata_table
from catalog.hudi.partitions import is_named
from catalog.hudi.plan_bodies import planned_slices
from catalog.hudi.reading import Source
from catalog.hudi.scheduling import JOB, identity
from catalog.hudi.timeline import Action, Instant, State, read_instant
from catalog.model import Inventory

_LOG = logging.getLogger(__name__)
_PACKAGE = "org.apache.hudi.client.clustering.run.strategy."
# They sort by the columns of the plan, or leave rows as they come, and size files.
_STRATEGIES = frozenset(
    _PACKAGE + name
    for name in ("SparkSortAndSizeExecutionStrategy", "JavaSortAndSizeExecutionStrategy")
)
_SORT = "hoodie.clustering.plan.strategy.sort.columns"


def with_clustering(standing: Standing, source: Source, inventory: Inventory) -> Standing:
    """Return what stands announced, with the first clustering of others that can be carried out."""
    for instant in source.timeline.pending(Action.CLUSTERING, Action.REPLACECOMMIT):
        name = instant.named(State.REQUESTED)
        data = read_instant(source.storage, source.root, source.config, name)
        plan = read_clustering_plan(name, data)
        if plan is None or plan.extra.get(JOB):
            continue
        try:
            files = _files(source, instant, plan, inventory)
            _require_free(files, standing)
        except UnsupportedTableError as error:
            _LOG.warning("the clustering %s is left to others: %s", instant.time, error)
            continue
        return replace(
            standing,
            work_id=instant.time,
            files=files,
            groups=tuple(len(slices) for slices, _ in plan.groups),
            sort_by=_sort_columns(plan),
            target_bytes=_target_bytes(plan, files),
        )
    return standing


def _files(
    source: Source, instant: Instant, plan: ClusteringPlan, inventory: Inventory
) -> Inventory:
    """Return the slices of a plan, group by group.

    Raises:
        UnsupportedTableError: it is not for us to carry it out, and why.
    """
    _require_known(plan)
    _require_idle(source, instant)
    metadata = open_metadata_table(source.storage, source.root, source.config)
    if metadata is not None:
        metadata.require_writable(Operation.CLUSTERING)
    rows = _rows(inventory, plan.slices)
    chosen = [rows.get(identity(one), -1) for one in plan.slices]
    if -1 in chosen:
        raise UnsupportedTableError("files have changed that it names")
    files = inventory.take(np.array(chosen, np.int64))
    if not pc.all(is_named(files.files["path"])).as_py():
        raise UnsupportedTableError("a partition of it has a name that no path can have")
    return files


def _require_free(files: Inventory, standing: Standing) -> None:
    if not standing.bound.isdisjoint(files.files["path"].to_pylist()):
        raise UnsupportedTableError("an index of buckets binds its file groups to their keys")


def _require_known(plan: ClusteringPlan) -> None:
    if plan.strategy not in _STRATEGIES:
        raise UnsupportedTableError(f"its strategy is {plan.strategy or 'not named'}")
    if unknown := set(plan.parameters) - {_SORT}:
        raise UnsupportedTableError(f"its strategy has the parameter {min(unknown)}")
    if not plan.preserves_metadata:
        raise UnsupportedTableError("rows are to be given new meta columns")
    if not plan.groups or any(
        len({one.partition_path for one in slices}) != 1 for slices, _ in plan.groups
    ):
        raise UnsupportedTableError("a group of it is not of one partition")
    if not all(one.base_file for one in plan.slices):
        raise UnsupportedTableError("a slice of it has no base file")
    if len({(one.partition_path, one.file_id) for one in plan.slices}) < len(plan.slices):
        raise UnsupportedTableError("it names a file group twice")


def _require_idle(source: Source, instant: Instant) -> None:
    if not may_begin(source, instant):
        raise UnsupportedTableError("it is begun, and nothing tells that its writer has died")


def may_begin(source: Source, instant: Instant) -> bool:
    """Tell whether nobody carries out a plan: nobody has begun it, or who has is dead."""
    if instant.state is not State.INFLIGHT:
        return True
    return has_died(source.storage, source.root, instant.time, now=datetime.now(UTC))


def _rows(inventory: Inventory, wanted: tuple[PlannedSlice, ...]) -> Mapping[object, int]:
    """Return the rows of slices, by what plans call them."""
    partitions = {one.partition_path for one in wanted}
    keys = inventory.files["partition_key"].to_pylist()
    rows = np.array([row for row, key in enumerate(keys) if key in partitions], np.int64)
    slices = planned_slices(inventory.take(rows))
    return {identity(one): int(row) for row, one in zip(rows, slices, strict=True)}


def _sort_columns(plan: ClusteringPlan) -> tuple[str, ...]:
    names = plan.parameters.get(_SORT, "").split(",")
    # A column that comes again orders nothing.
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))


def _target_bytes(plan: ClusteringPlan, files: Inventory) -> int:
    """Return the size of files by which no group becomes more of them than the plan has."""
    sizes = files.files["size_bytes"].to_numpy()
    counts = np.array([len(slices) for slices, _ in plan.groups])
    outputs = np.maximum([count for _, count in plan.groups], 1)
    totals = np.add.reduceat(sizes, np.cumsum(counts) - counts)
    return int(np.ceil(totals / outputs).max())
