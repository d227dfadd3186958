"""Where rows of an Iceberg snapshot can be, by the partition values and the bounds of manifests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from catalog.iceberg.bounds import BoundsReader, decoded
from catalog.iceberg.manifest import DATA
from catalog.iceberg.partition import Spec, SpecField, Value, decode_key
from catalog.iceberg.transforms import partition_keys, source_values
from catalog.model import Inventory
from catalog.routing import FileBounds, Flags, among
from catalog.schema import field_id
from catalog.table import MapFunction

# More partitions than this are as good as all.
_REACH_MAX = 10_000
_TIME = frozenset(("year", "month", "day", "hour"))


@dataclass(frozen=True, slots=True)
class IcebergRouting:
    """What the metadata of one snapshot tell; implements `catalog.routing.Routing`.

    Attributes:
        reader: of its manifests.
        manifest_list: where they are listed; empty for a table without snapshots.
        schema: the columns of the table.
        spec_id: partition spec of new rows.
    """

    reader: BoundsReader
    manifest_list: str
    schema: pa.Schema
    spec_id: int

    def partitions(self, keys: pa.Array, rows: pa.Table) -> Flags:
        """Tell which partitions may hold a row with the values of one of the given rows."""
        decoded_keys = [decode_key(key) for key in keys.to_pylist()]
        numbers = np.array([spec_id for spec_id, _ in decoded_keys], np.int64)
        found = np.ones(len(decoded_keys), np.bool_)
        for spec in self.reader.manifests.specs:
            places = np.flatnonzero(numbers == spec.spec_id)
            if len(places):
                values = [decoded_keys[place][1] for place in places.tolist()]
                found[places] = _holding(spec, values, rows)
        return found

    def reach(self, rows: pa.Table) -> frozenset[str] | None:
        """Return the keys of all partitions that such rows can be in when they are written now."""
        spec = next(one for one in self.reader.manifests.specs if one.spec_id == self.spec_id)
        fields = [one for one in spec.fields if one.transform != "void"]
        known = {field_id(one) for one in rows.schema}
        if not fields or any(one.source_id not in known for one in fields):
            return None
        for one in fields:
            values = source_values(one, rows)
            if types.is_floating(values.type):
                return None  # zero has two partitions
            if one.transform in _TIME and pc.any(pc.less(values, 0)).as_py():
                return None  # so have times before 1970, by some writers
        keys = partition_keys(spec, rows).dictionary
        return frozenset(keys.to_pylist()) if len(keys) <= _REACH_MAX else None

    def bounds(
        self, files: Inventory, columns: Sequence[str], *, map_function: MapFunction = map
    ) -> tuple[FileBounds, ...]:
        """Return the bounds of some columns in each of some files."""
        fields = [self.schema.field(name) for name in columns]
        listed = self.reader.manifests.manifests(self.manifest_list) if self.manifest_list else []
        reader = self.reader.of([field_id(one) or 0 for one in fields])
        data = [one for one in listed if one.content == DATA]
        table = pa.concat_tables([reader.schema.empty_table(), *map_function(reader, data)])
        table = table.combine_chunks()
        rows = pc.index_in(
            files.files["path"].combine_chunks(), value_set=table["path"].combine_chunks()
        )
        return tuple(
            decoded(table, number, one.type).take(rows) for number, one in enumerate(fields)
        )


def _holding(spec: Spec, values: list[list[Value]], rows: pa.Table) -> Flags:
    """Tell which partitions of one spec may hold one of some rows."""
    known = {field_id(one) for one in rows.schema}
    places = [
        at
        for at, field in enumerate(spec.fields)
        if field.transform != "void" and field.source_type and field.source_id in known
    ]
    of_rows = [source_values(spec.fields[at], rows) for at in places]
    try:
        partitions = [
            pa.array([_plain(one[at]) for one in values], column.type)
            for at, column in zip(places, of_rows, strict=True)
        ]
    except (pa.ArrowException, OverflowError):  # the column had another type when it was written
        return np.ones(len(values), np.bool_)
    if not places or not rows.num_rows:
        return np.full(len(values), bool(rows.num_rows))
    of_rows = _with_neighbours([spec.fields[at] for at in places], of_rows)
    return among(partitions, of_rows)


def _with_neighbours(fields: Sequence[SpecField], rows: list[pa.Array]) -> list[pa.Array]:
    """Add to times before 1970 the next one: there are writers that rounded them up."""
    for at, field in enumerate(fields):
        if field.transform in _TIME:
            is_before = pc.less(rows[at], 0).fill_null(False)
            more = [one.filter(is_before) for one in rows]
            more[at] = pc.add(more[at], pa.scalar(1, more[at].type))
            rows = [pa.concat_arrays(pair) for pair in zip(rows, more, strict=True)]
    return rows


def _plain(value: Value) -> Value:
    return value.bytes if isinstance(value, UUID) else value
