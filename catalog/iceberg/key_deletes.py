"""Deletes rows by their keys the way streaming writers do: equality delete files, in snapshots.

No library for Python writes them; this one is for demonstrations, benchmarks and tests.

Specification: https://iceberg.apache.org/spec/#equality-delete-files
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import PrimitiveType

from catalog.iceberg.data_file import DataFile, described
from catalog.iceberg.row_delta import commit_row_delta


@dataclass(frozen=True, slots=True)
class KeyDeletes:
    """The content of one delete file.

    Attributes:
        keys: columns by the names that they have in the table.
        like: a data file of the partition that they are scoped to; None for no partition.
        has_bounds: whether the bounds of the keys are recorded, and their nulls.
    """

    keys: pa.Table
    like: DataFile | None = None
    has_bounds: bool = True


def commit_key_deletes(table: Table, *deletes: KeyDeletes) -> None:
    """Write delete files and commit them in one snapshot."""
    commit_row_delta(table, [write_key_deletes(table, one) for one in deletes])


def write_key_deletes(table: Table, deletes: KeyDeletes) -> DataFile:
    """Write an equality delete file, not yet part of the table."""
    keys, like = deletes.keys, deletes.like
    ids = [table.schema().find_field(name).field_id for name in keys.column_names]
    content = _encoded(keys, ids)
    path = f"{table.location()}/data/{uuid.uuid4()}-equality-deletes.parquet"
    with table.io.new_output(path).create() as sink:
        sink.write(content)
    lower, upper, nulls = _metrics(table, keys, ids) if deletes.has_bounds else (None, None, None)
    return described(
        table.spec().spec_id if like is None else like.spec_id,
        {
            "content": DataFileContent.EQUALITY_DELETES,
            "file_path": path,
            "file_format": FileFormat.PARQUET,
            "partition": Record() if like is None else like.partition,
            "record_count": keys.num_rows,
            "file_size_in_bytes": len(content),
            "lower_bounds": lower,
            "upper_bounds": upper,
            "null_value_counts": nulls,
            "equality_ids": ids,
            "split_offsets": [4],
        },
    )


def _encoded(keys: pa.Table, ids: Sequence[int]) -> bytes:
    fields = [
        field.with_metadata({b"PARQUET:field_id": str(number).encode()})
        for field, number in zip(keys.schema, ids, strict=True)
    ]
    sink = BytesIO()
    pq.write_table(pa.table(keys.columns, schema=pa.schema(fields)), sink, compression="zstd")
    return sink.getvalue()


_Bounds = dict[int, bytes]


def _metrics(
    table: Table, keys: pa.Table, ids: Sequence[int]
) -> tuple[_Bounds, _Bounds, dict[int, int]]:
    lower, upper, nulls = _Bounds(), _Bounds(), dict[int, int]()
    for number, column in zip(ids, keys.columns, strict=True):
        kind = cast(PrimitiveType, table.schema().find_type(number))
        ends = pc.min_max(column).as_py()
        nulls[number] = column.null_count
        if ends["min"] is not None:
            lower[number] = to_bytes(kind, ends["min"])
            upper[number] = to_bytes(kind, ends["max"])
    return lower, upper, nulls
