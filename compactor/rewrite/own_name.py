"""The column that holds the name of the very file it is in: never read, made anew for each output.

Readers of a group see nulls in it, so that neither a copy nor a proof depends on file names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from catalog.layout import FileLayout
from catalog.schema import TableSchema, field_id


def unnamed(schema: TableSchema, layout: FileLayout) -> TableSchema:
    """Return the columns as they are read, whatever file a row is in."""
    name = layout.own_name_column
    number = field_id(schema.arrow.field(name)) if name in schema.arrow.names else None
    if number is None:
        return schema
    return replace(schema, unstored=schema.unstored | {number})


def made_columns(schema: pa.Schema, layout: FileLayout) -> frozenset[int]:
    """Return the numbers of the columns that no input has for an output."""
    name = layout.own_name_column
    return frozenset((schema.get_field_index(name),)) if name in schema.names else frozenset()


def named(batches: Iterable[pa.RecordBatch], column: str, file_name: str) -> list[pa.RecordBatch]:
    """Return rows of an output with its name in them, where they have the column."""
    return [_named(batch, column, file_name) for batch in batches]


def _named(batch: pa.RecordBatch, column: str, file_name: str) -> pa.RecordBatch:
    at = batch.schema.get_field_index(column)
    if at < 0:
        return batch
    indices = pa.array(np.zeros(batch.num_rows, np.int32))
    names = pa.DictionaryArray.from_arrays(indices, pa.array([file_name], pa.string()))
    return batch.set_column(at, batch.schema.field(at).with_type(names.type), names)
