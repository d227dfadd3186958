"""What the footers of data files say of the order of their rows: stamps and bounds of key columns.

Bounds are hints: they decide which files are put in order together and what is told of the gain,
never which rows there are. So what cannot be understood is unknown, and no error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import CorruptTableError
from catalog.table import TableFiles
from compactor.clustering import (
    FILE_FACTS,
    STAMP_KEY,
    Clustering,
    Frame,
    Stamp,
    family_of,
    row_group_facts,
)
from compactor.rewrite.cluster.comparable import Comparable, comparable, encoded
from compactor.rewrite.cluster.permutation import Key
from compactor.rewrite.cluster.row_order import TEXT_BYTES_MAX, RowOrder, place_of
from compactor.rewrite.cluster.stamp import decode_stamp
from compactor.rewrite.conversion import stored_type
from compactor.rewrite.input import open_parquet, row_groups

# Above every place that begins with the same key.
_ABOVE = b"\xff"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of some files.

    Attributes:
        files: one row per file, schema `FILE_FACTS`.
        row_groups: one row per row group, schema `row_group_facts`; `file` counts from 0.
        frames: the frames that their stamps use, by order id.
    """

    files: pa.Table
    row_groups: pa.Table
    frames: tuple[tuple[str, Frame], ...]


@dataclass(frozen=True, slots=True)
class _Range:
    """Comparable bounds of one column in one row group; None when unknown."""

    lower: Comparable | None = None
    upper: Comparable | None = None


@dataclass(frozen=True, slots=True)
class BoundsReader:
    """Reads the footers of files; can be sent to a worker.

    Attributes:
        table: the workers' side of the snapshot.
        clustering: the order that is wanted; of a curve, whatever its frame.
    """

    table: TableFiles
    clustering: Clustering

    def __call__(self, files: pa.Table) -> Bounds:
        """Read the footers of files, given by the columns `path` and `size_bytes`.

        Raises:
            ObjectNotFoundError, AccessDeniedError, StorageError: a file cannot be read.
        """
        order = RowOrder(self.clustering, self.table.schema.stored.arrow)
        facts: list[dict[str, Any]] = []
        groups: list[dict[str, Any]] = []
        frames: dict[str, Frame] = {}
        for number, file in enumerate(files.select(["path", "size_bytes"]).to_pylist()):
            stamp, ranges = self._read(order, file["path"], file["size_bytes"])
            if stamp is not None and stamp.frame is not None:
                frames[stamp.order_id] = stamp.frame
            facts.append(_file_facts(order, stamp, [found for _, found in ranges]))
            groups += [_group_facts(number, rows, found) for rows, found in ranges]
        schema = row_group_facts(len(self.clustering.fields))
        return Bounds(
            pa.Table.from_pylist(facts, FILE_FACTS),
            pa.Table.from_pylist(groups, schema),
            tuple(frames.items()),
        )

    def _read(
        self, order: RowOrder, path: str, size_bytes: int
    ) -> tuple[Stamp | None, list[tuple[int, list[_Range]]]]:
        """Return the stamp of a file that is for this order, and rows and ranges by row group."""
        try:
            with open_parquet(
                self.table.storage,
                self.table.locate(path),
                name=path,
                size_bytes=size_bytes,
                reads_ahead=False,
            ) as source:
                metadata = source.metadata
        except CorruptTableError:
            return None, []
        stamp = decode_stamp((metadata.metadata or {}).get(STAMP_KEY.encode(), b""))
        if stamp is not None and family_of(stamp.order_id) != self.clustering.family_id:
            stamp = None
        return stamp, list(_ranges(metadata, order))


def _ranges(metadata: pq.FileMetaData, order: RowOrder) -> Iterator[tuple[int, list[_Range]]]:
    """Yield number of rows and the range of each key column, row group by row group."""
    paths = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    fields = order.clustering.fields
    places = [paths.index(field.name) if field.name in paths else None for field in fields]
    for group in row_groups(metadata):
        yield (
            group.num_rows,
            [
                _Range() if place is None else _range(group.column(place), leaf.type)
                for place, leaf in zip(places, order.leaves, strict=True)
            ],
        )


def _range(column: pq.ColumnChunkMetaData, kind: pa.DataType) -> _Range:
    statistics = column.statistics
    if statistics is None or not statistics.has_min_max:
        return _Range()
    try:
        ends = pa.array([statistics.min, statistics.max]).cast(stored_type(kind))
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return _Range()
    found = comparable(ends)
    return _Range(found.take(np.array([0])), found.take(np.array([1])))


def _file_facts(order: RowOrder, stamp: Stamp | None, ranges: list[list[_Range]]) -> dict[str, Any]:
    if stamp is not None:
        return {"order_id": stamp.order_id, "lower": stamp.first, "upper": stamp.last}
    unknown = {"order_id": None, "lower": None, "upper": None}
    known = [end for found in ranges for end in (found[0].lower, found[0].upper) if end]
    if order.clustering.strategy.is_curve or not ranges or len(known) < 2 * len(ranges):
        return unknown
    field = order.clustering.fields[0]
    ends = [place_of(Key(end, field.is_descending, field.is_nulls_first)) for end in known]
    return {"order_id": None, "lower": min(ends), "upper": max(ends) + _ABOVE}


def _group_facts(file: int, rows: int, ranges: list[_Range]) -> dict[str, Any]:
    facts: dict[str, Any] = {"file": file, "rows": rows}
    for i, one in enumerate(ranges):
        for name, end in (("lower", one.lower), ("upper", one.upper)):
            known = None if end is None else encoded(end, text_bytes_max=TEXT_BYTES_MAX)[0]
            facts[f"{name}_{i}"] = known
    return facts
