"""Partitioned tables that grow: each time by days of many small files, more on some than on others.

The files of a day are hard links to a few dozen that were made once for the shape. They lack the
column of their partition, as those of Hive tables do, so one file may belong to any day.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from benchmarks.shapes import Shape
from benchmarks.tables import NAMESPACE, data_files
from catalog.iceberg.row_delta import PositionDeletes, commit_position_deletes

MIB = 1 << 20
DAY = "day"
FILES_MADE = 16
FILES_MIN = 5
FILE_BYTES, FILE_SIGMA = 3 * MIB, 0.8
DAY_BYTES, DAY_SIGMA = 12 * MIB, 1.3
DAY_BYTES_MAX = 192 * MIB


@dataclass(frozen=True, slots=True)
class Made:
    """A file that days link to: where it is and its size in memory."""

    path: Path
    decoded_bytes: int


class GrowingTable:
    """A table of one shape, and the files that it grows by."""

    def __init__(self, shape: Shape, catalog: Catalog, cache: Path) -> None:
        """Make the table, and its files unless an earlier run has."""
        self.shape = shape
        self.name = f"{NAMESPACE}.{shape.name}"
        columns = shape.make(2, 0).schema.append(pa.field(DAY, pa.int32()))
        self._table = _create(catalog, self.name, columns)
        self._made = _files(shape, self._table.schema(), cache / shape.name)
        self._days = 0

    def grow(self, days: int) -> None:
        """Append so many days, and delete rows of them if that is what the table is for."""
        random = np.random.default_rng([self._days, *self.shape.name.encode()])
        added: list[DataFile] = []
        for _ in range(days):
            self._days += 1
            added += self._day(random)
        transaction = self._table.refresh().transaction()
        with transaction, transaction.update_snapshot().fast_append() as append:
            for file in added:
                append.append_data_file(file)
        if self.shape.deleted_share:
            deletes = [_deletes(file, self.shape.deleted_share, random) for file in added]
            commit_position_deletes(self._table, deletes)

    def _day(self, random: np.random.Generator) -> Iterator[DataFile]:
        """Link files into a new day until it is as large as this one shall be."""
        wanted = min(DAY_BYTES_MAX, DAY_BYTES * random.lognormal(0, DAY_SIGMA))
        directory = Path(self._table.location().removeprefix("file://")) / "data" / str(self._days)
        directory.mkdir(parents=True)
        linked: list[Path] = []
        size_bytes = 0
        while size_bytes < wanted or len(linked) < FILES_MIN:
            made = self._made[random.integers(len(self._made))]
            linked.append(directory / f"{len(linked):05}.parquet")
            os.link(made.path, linked[-1])
            size_bytes += made.decoded_bytes
        return data_files(self._table, tuple(linked), Record(self._days))


def _create(catalog: Catalog, name: str, columns: pa.Schema) -> Table:
    table = catalog.create_table(name, columns)
    with table.update_spec() as change:
        change.add_identity(DAY)
    return table.refresh()


def _files(shape: Shape, schema: Schema, directory: Path) -> list[Made]:
    """Return the files of a shape, smaller and larger ones."""
    stored = schema_to_pyarrow(schema, include_field_ids=True)
    stored = stored.remove(stored.get_field_index(DAY))
    random = np.random.default_rng(list(shape.name.encode()))
    sizes = FILE_BYTES * random.lognormal(0, FILE_SIGMA, FILES_MADE)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    made = []
    for index, size_bytes in enumerate(sizes):
        rows = shape.make(max(100, int(size_bytes / shape.row_bytes)), index).cast(stored)
        path = directory / f"{index:05}.parquet"
        pq.write_table(rows, path, compression="zstd", compression_level=3)
        made.append(Made(path, rows.nbytes))
    return made


def _deletes(file: DataFile, share: float, random: np.random.Generator) -> PositionDeletes:
    rows = file.record_count
    positions = np.sort(random.choice(rows, int(rows * share), replace=False))
    return PositionDeletes(file, {file.file_path: positions})
