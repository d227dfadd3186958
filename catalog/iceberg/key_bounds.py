"""Whether an equality delete file can hit a data file at all, by the bounds of both.

Both bounds are of the key's columns, so that files are told apart without being opened. A doubt is
a hit: bounds that are missing, and types whose bounds writers disagree about, rule nothing out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from catalog.iceberg.bounds import BoundsReader, decoded
from catalog.iceberg.manifest import Manifest
from catalog.routing import FileBounds
from catalog.table import MapFunction

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile

_TIMESTAMP_BYTES = 8
_Rows = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


def has_comparable_bounds(kind: pa.DataType) -> bool:
    """Whether bounds of a type are compared alike by all writers, and leave out no value."""
    return bool(
        types.is_string(kind)
        or types.is_binary(kind)
        or types.is_date(kind)
        or types.is_time(kind)
        or types.is_timestamp(kind)
        or types.is_decimal(kind)
        or types.is_integer(kind)
    )


def can_hit(delete: DataFile, data: DataFile, kinds: Mapping[int, pa.DataType]) -> bool:
    """Whether a delete file may name a row of a data file, by their entries in manifests.

    Args:
        delete: an equality delete file.
        data: a data file in its scope.
        kinds: types of the columns that rows are deleted by.
    """
    return all(
        column not in kinds or _may_agree(delete, data, column=column, kind=kinds[column])
        for column in delete.equality_ids or ()
    )


def _may_agree(delete: DataFile, data: DataFile, *, column: int, kind: pa.DataType) -> bool:
    of_keys, of_rows = _bounds(delete, column, kind), _bounds(data, column, kind)
    if of_keys is None or of_rows is None:
        return True
    (lower, upper), (least, greatest) = of_keys, of_rows
    if lower <= greatest and least <= upper:
        return True
    # Null is equal to null, and in no bounds.
    return all((one.null_value_counts or {}).get(column) != 0 for one in (delete, data))


def _bounds(file: DataFile, column: int, kind: pa.DataType) -> tuple[Any, Any] | None:
    lower, upper = (file.lower_bounds or {}).get(column), (file.upper_bounds or {}).get(column)
    if lower is None or upper is None or not has_comparable_bounds(kind):
        return None
    if types.is_timestamp(kind) and any(
        len(end) != _TIMESTAMP_BYTES for end in (lower, upper) if end
    ):
        return None  # dates, from before the column became a timestamp
    return _comparable(lower, kind), _comparable(upper, kind)


def _comparable(raw: bytes, kind: pa.DataType) -> int | bytes:
    """Return a value that compares as the type does; numbers may be from before a widening."""
    if types.is_string(kind) or types.is_binary(kind):
        return raw
    return int.from_bytes(raw, "big" if types.is_decimal(kind) else "little", signed=True)


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """The bounds of one column that rows are deleted by.

    Attributes:
        is_key: per delete file, whether it compares the column.
        deletes: bounds per delete file.
        files: bounds per data file.
    """

    is_key: _Flags
    deletes: FileBounds
    files: FileBounds

    def may_agree(self, file_rows: _Rows, delete_rows: _Rows) -> _Flags:
        """Tell for pairs of a data file and a delete file whether they may have a value alike."""
        wanted, there = pa.array(delete_rows), pa.array(file_rows)
        lower, upper, nulls = (
            one.take(wanted)
            for one in (self.deletes.lower, self.deletes.upper, self.deletes.null_count)
        )
        least, greatest, holes = (
            one.take(there) for one in (self.files.lower, self.files.upper, self.files.null_count)
        )
        # Unknown bounds compare to null: they rule nothing out.
        overlap = pc.and_kleene(pc.less_equal(lower, greatest), pc.less_equal(least, upper))
        both_null = pc.and_kleene(_may_be_null(nulls), _may_be_null(holes))
        agree = pc.or_kleene(overlap, both_null).fill_null(True)
        found: _Flags = agree.to_numpy(zero_copy_only=False) | ~self.is_key[delete_rows]
        return found


def _may_be_null(counts: pa.Array) -> pa.Array:
    return pc.not_equal(counts, 0).fill_null(True)


@dataclass(frozen=True, slots=True)
class KeyColumns:
    """Reads the bounds of the columns that rows of one snapshot are deleted by.

    Attributes:
        reader: of bounds.
        manifests: of the snapshot.
        kinds: types of the columns that rows may be deleted by.
        map_function: runs the reading.
    """

    reader: BoundsReader
    manifests: Sequence[Manifest]
    kinds: Mapping[int, pa.DataType]
    map_function: MapFunction

    def of(self, files: pa.Table, deletes: pa.Table) -> tuple[KeyColumn, ...]:
        """Return the bounds for the data files and delete files of the snapshot.

        Args:
            files: with their paths.
            deletes: with their paths and the ids of the columns that they compare.
        """
        used = pc.unique(pc.list_flatten(deletes["equality_ids"])).to_pylist()
        columns = [
            one
            for one in sorted(used)
            if one in self.kinds and self._is_told_apart(self.kinds[one])
        ]
        return tuple(self._columns(files, deletes, columns)) if columns else ()

    def _is_told_apart(self, kind: pa.DataType) -> bool:
        return not pa.types.is_nested(kind) and has_comparable_bounds(kind)

    def _columns(
        self, files: pa.Table, deletes: pa.Table, columns: Sequence[int]
    ) -> Iterator[KeyColumn]:
        reader = self.reader.of(columns)
        parts = self.map_function(reader, self.manifests)
        table = pa.concat_tables([reader.schema.empty_table(), *parts]).combine_chunks()
        known = table["path"].combine_chunks()
        places = [
            pc.index_in(one["path"].combine_chunks(), value_set=known) for one in (deletes, files)
        ]
        parents = pc.list_parent_indices(deletes["equality_ids"]).to_numpy()
        ids = pc.list_flatten(deletes["equality_ids"]).to_numpy()
        for number, column in enumerate(columns):
            bounds = decoded(table, number, self.kinds[column])
            is_key = np.zeros(deletes.num_rows, np.bool_)
            is_key[parents[ids == column]] = True
            yield KeyColumn(is_key, *(bounds.take(one) for one in places))
