"""Before and after an order of rows: which one is wanted, what footers say of it, what it gained.

Planning a bin-packing reads no data file. Planning an order reads footers, many files to a task;
and where a curve has no frame that fits, a sample of the keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from catalog.commits import OutputFile
from catalog.errors import UnsupportedTableError
from catalog.layout import FileLayout, SortField
from catalog.model import Inventory
from catalog.schema import TableSchema, field_id
from catalog.table import MapFunction, TableFiles
from compactor.clustering import (
    FILE_FACTS,
    Clustering,
    Frame,
    SortKey,
    row_group_facts,
)
from compactor.errors import SettingsError
from compactor.planner.cluster import ClusterFacts
from compactor.planner.columns import Flags, Ints, read_columns
from compactor.planner.plan import ClusterPlan, Touched
from compactor.planner.policy import Policy
from compactor.planner.pruning import touched
from compactor.planner.select import find_barred
from compactor.rewrite.cluster.bounds import Bounds, BoundsReader
from compactor.rewrite.cluster.comparable import find_leaf, is_text
from compactor.rewrite.cluster.row_order import make_frame
from compactor.rewrite.cluster.sample import sample_keys

# Footers read by one piece of work.
_FILES_PER_ITEM = 32
# A frame is kept while so much of the table was put in order by it: beyond that rows have come
# whose values it may not know, and so many that all are worth a new one.
_FRAME_SHARE_MIN = 0.5


def wanted_order(policy: Policy, table: TableFiles) -> Clustering:
    """Return the order that a policy asks for, of a curve without its frame.

    Raises:
        SettingsError: neither the policy nor the table names a column.
        UnsupportedTableError: rows cannot be ordered so, and why.
    """
    schema = table.schema.stored.arrow
    fields = tuple(_field(table.schema, key) for key in policy.sort_by) or _own_order(table.layout)
    if policy.strategy.is_curve:
        fields = tuple(SortField(f.field_id, f.path, known_as=f.known_as) for f in fields)
    for field in fields:
        find_leaf(schema, field)
    _require_different(fields)
    return Clustering(policy.strategy, fields)


def read_facts(
    table: TableFiles, inventory: Inventory, policy: Policy, *, now_ms: int, read: MapFunction
) -> ClusterFacts | None:
    """Read what footers say of the order that a policy asks for; None when it asks for none.

    Args:
        table: the workers' side of the snapshot.
        inventory: its files; those that the policy bars from being rewritten are not read.
        policy: what the owner wants.
        now_ms: milliseconds since the epoch, for the age of files.
        read: runs the reading.

    Raises:
        SettingsError, UnsupportedTableError: as `wanted_order`.
        CatalogError: as reading the files raises it.
    """
    if not policy.strategy.is_order:
        return None
    clustering = wanted_order(policy, table)
    rows = np.flatnonzero(find_barred(read_columns(inventory), policy, now_ms) == 0)
    bounds = _read_bounds(table, clustering, inventory.files.take(pa.array(rows)), read)
    if clustering.strategy.is_curve:
        frame = _kept_frame(bounds, inventory.files["size_bytes"].to_numpy()[rows])
        if frame is None:
            sample = sample_keys(table, inventory.take(rows), clustering.fields)
            frame = make_frame(sample, clustering.fields)
        clustering = Clustering(clustering.strategy, clustering.fields, frame)
    return _facts(table, clustering, bounds, rows=rows, file_count=inventory.file_count)


def measure_gain(
    table: TableFiles, plan: ClusterPlan, outputs: Iterable[OutputFile], *, read: MapFunction
) -> Touched:
    """Return what predicates touch of the outputs of a plan and of the files that it kept."""
    files = list(outputs)
    listed = pa.table(
        {"path": [file.path for file in files], "size_bytes": [file.size_bytes for file in files]},
        schema=pa.schema([("path", pa.string()), ("size_bytes", pa.int64())]),
    )
    bounds = _read_bounds(table, plan.clustering, listed, read)
    rows = np.arange(len(files))
    facts = _facts(table, plan.clustering, bounds, rows=rows, file_count=len(files))
    every: Flags = np.ones(len(files), dtype=np.bool_)
    return plan.pruning.kept + touched(facts, plan.pruning.probes, every)


def _field(schema: TableSchema, key: SortKey) -> SortField:
    """Find a column by its name, in which dots lead into structs unless a column has them."""
    arrow, names = schema.stored.arrow, dict(schema.known_as)
    whole, steps = (key.name,), tuple(key.name.split("."))
    known_as = whole if whole in names or key.name in arrow.names else steps
    if names and known_as not in names:
        raise UnsupportedTableError(f"the table has no column {key.name!r} to order rows by")
    _refuse_partition(schema, names.get(known_as, known_as), key.name)
    field = SortField(
        0,
        names.get(known_as, known_as),
        is_descending=key.is_descending,
        is_nulls_first=key.is_nulls_first,
        known_as=known_as,
    )
    return replace(field, field_id=field_id(find_leaf(arrow, field)) or 0)


def _refuse_partition(schema: TableSchema, path: tuple[str, ...], name: str) -> None:
    if path[0] in schema.arrow.names and path[0] not in schema.stored.arrow.names:
        raise UnsupportedTableError(
            f"rows cannot be ordered by {name!r}: the table is partitioned by it, and a file holds"
            " one value of it"
        )


def _own_order(layout: FileLayout) -> tuple[SortField, ...]:
    if not layout.sort_order:
        raise SettingsError(
            "no columns to order rows by: none were given, and the table has no sort order",
            hint="name them: --sort-by 'a, b desc'",
        )
    for field in layout.sort_order:
        if field.transform != "identity":
            raise UnsupportedTableError(
                f"the table's sort order is by {field.transform} of {field.name!r}: rows are only"
                " ordered by columns themselves",
                hint=f"name the columns: --sort-by {field.name}",
            )
    return layout.sort_order


def _require_different(fields: tuple[SortField, ...]) -> None:
    paths = [field.path for field in fields]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise SettingsError(f"rows are to be ordered by {'.'.join(twice)!r} twice")


def _read_bounds(
    table: TableFiles, clustering: Clustering, files: pa.Table, read: MapFunction
) -> Bounds:
    """Read the footers of files; rows of the answer are those of `files`."""
    parts = list(read(BoundsReader(table, clustering), _cut(files)))
    starts = np.cumsum([0, *(part.files.num_rows for part in parts)])
    row_groups = [
        part.row_groups.set_column(
            0, "file", pa.array(part.row_groups["file"].to_numpy() + start, pa.int64())
        )
        for part, start in zip(parts, starts[:-1], strict=True)
    ]
    schema = row_group_facts(len(clustering.fields))
    return Bounds(
        pa.concat_tables([FILE_FACTS.empty_table(), *(part.files for part in parts)]),
        pa.concat_tables([schema.empty_table(), *row_groups]),
        tuple(dict(pair for part in parts for pair in part.frames).items()),
    )


def _cut(files: pa.Table) -> Iterator[pa.Table]:
    wanted = files.select(["path", "size_bytes"])
    for start in range(0, wanted.num_rows, _FILES_PER_ITEM):
        # Copied: a slice would be sent with the memory of the whole.
        yield wanted.take(pa.array(np.arange(start, min(start + _FILES_PER_ITEM, wanted.num_rows))))


def _kept_frame(bounds: Bounds, size_bytes: Ints) -> Frame | None:
    """Return the frame by which most bytes were put in order, if they are enough."""
    order_ids = np.array(bounds.files["order_id"].to_pylist(), dtype=object)
    shares = {
        order_id: size_bytes[order_ids == order_id].sum() / max(1, size_bytes.sum())
        for order_id, _ in sorted(bounds.frames)
    }
    best = max(shares, key=lambda order_id: shares[order_id], default="")
    is_enough = bool(best) and shares[best] >= _FRAME_SHARE_MIN
    return dict(bounds.frames)[best] if is_enough else None


def _facts(
    table: TableFiles, clustering: Clustering, bounds: Bounds, *, rows: Ints, file_count: int
) -> ClusterFacts:
    """Spread what was read of some rows of an inventory over all of them."""
    schema = table.schema.stored.arrow
    places = np.full(file_count, -1, dtype=np.int64)
    places[rows] = np.arange(len(rows))
    known = pa.array(places, mask=places < 0)
    groups = bounds.row_groups
    file = pa.array(rows[groups["file"].to_numpy()], pa.int64())
    return ClusterFacts(
        clustering,
        bounds.files.take(known),
        groups.set_column(0, groups.schema.field("file"), file),
        tuple(is_text(find_leaf(schema, field).type) for field in clustering.fields),
    )
