"""Where rows of a Delta table's version can be, by partition values and statistics of the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.delta.key_columns import KeyColumn, KeyColumns, file_bounds
from catalog.delta.log import LogSegment
from catalog.delta.partition import Partition
from catalog.delta.paths import Paths
from catalog.delta.replay import read_files
from catalog.delta.schema import Columns
from catalog.model import Inventory
from catalog.routing import FileBounds, Flags, among
from catalog.storage import Storage
from catalog.table import MapFunction


@dataclass(frozen=True, slots=True)
class DeltaRouting:
    """What the log of one version tells; implements `catalog.routing.Routing`."""

    storage: Storage
    segment: LogSegment
    paths: Paths
    columns: Columns

    def partitions(self, keys: pa.Array, rows: pa.Table) -> Flags:
        """Tell which partitions may hold a row with the values of one of the given rows."""
        places = [
            at
            for at, column in enumerate(self.columns.partitions)
            if column.physical_name in rows.schema.names
        ]
        if not places or not rows.num_rows or not len(keys):
            return np.full(len(keys), bool(rows.num_rows))
        values = [Partition.of(key).values for key in keys.to_pylist()]
        partitions, of_rows = [], []
        for at in places:
            column = self.columns.partitions[at]
            texts = pa.array([one[at] for one in values], pa.string()).dictionary_encode()
            known = [column.scalar(text).as_py() for text in texts.dictionary.to_pylist()]
            spelled = pa.array(known, column.kind)
            partitions.append(spelled.take(texts.indices))
            of_rows.append(_whole(rows[column.physical_name]))
        return among(partitions, of_rows)

    def reach(self, rows: pa.Table) -> frozenset[str] | None:
        """Return nothing: commits to the log are checked against the whole table."""
        return None

    def bounds(
        self, files: Inventory, columns: Sequence[str], *, map_function: MapFunction = map
    ) -> tuple[FileBounds, ...]:
        """Return the bounds of some columns in each of some files."""
        schema = self.columns.schema.arrow
        keys = tuple(KeyColumn(name, schema.field(name).type) for name in columns)
        partitions = tuple(one.physical_name for one in self.columns.partitions)
        reader = KeyColumns(self.paths, partitions, keys=keys)
        table = read_files(self.storage, self.segment, reader, map_function)
        paths = table["path"].combine_chunks()
        rows = pc.index_in(files.files["path"].combine_chunks(), value_set=paths)
        return tuple(file_bounds(table, number).take(rows) for number in range(len(keys)))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found.dictionary_decode() if isinstance(found, pa.DictionaryArray) else found
