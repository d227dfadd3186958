"""Texts that repeat stay dictionaries on their way from input to output: neither spread nor hashed.

Reading a column of few distinct texts spreads them over all rows, and writing it finds them again
by hashing every row. Left as a dictionary it costs a third less; the output is the same.

A dictionary may name values of which no row is left. Where rows are dropped these are left out:
what was deleted must not live on in a dictionary page, nor be judged by what the table allows.
Nor must a row group name the values of its neighbours: once deleted there, they would stay here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

_VARIABLE = "BYTE_ARRAY"
# Values for each byte that a dictionary takes in the file: only small ones are cheap to unite.
_VALUES_PER_BYTE_MIN = 4
# Bytes of a value before they are compressed, two of them for its number: a dictionary of ever new
# keys is small only because they are alike.
_UNCOMPRESSED_BYTES_MAX = 4
# They are looked at before the others.
_FIRST_ROWS = 4096


def repeating_columns(group: pq.RowGroupMetaData, columns: Collection[str]) -> frozenset[str]:
    """Return which top-level columns of a row group are stored with a small dictionary."""
    chunks = (group.column(index) for index in range(group.num_columns))
    return frozenset(
        chunk.path_in_schema
        for chunk in chunks
        if chunk.path_in_schema in columns and _is_repeating(chunk)
    )


def with_dictionaries(schema: pa.Schema, names: Collection[str]) -> pa.Schema:
    """Return the schema of rows whose named columns are dictionaries; the values stay the same."""
    for index, field in enumerate(schema):
        if field.name in names:
            schema = schema.set(index, field.with_type(pa.dictionary(pa.int32(), field.type)))
    return schema


def dictionary_columns(batches: Sequence[pa.RecordBatch]) -> frozenset[str]:
    """Return the columns that are dictionaries in every batch."""
    found = (
        {field.name for field in batch.schema if types.is_dictionary(field.type)}
        for batch in batches
    )
    return frozenset(set.intersection(*found))


def united(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Return batches as one table, each dictionary column with a single dictionary of its values.

    Args:
        batches: rows, with or without dictionaries.
        schema: which columns are to be dictionaries.
    """
    columns = [
        pa.chunked_array(
            _own([_spelled(batch.column(field.name), field.type) for batch in batches]), field.type
        )
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema).unify_dictionaries()


def with_values_in_use(batch: pa.RecordBatch, names: Collection[str]) -> pa.RecordBatch:
    """Return a batch whose named columns, all of them dictionaries, name no value without a row."""
    columns = [
        _in_use([column])[0] if field.name in names else column
        for field, column in zip(batch.schema, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def decoded_bytes(batch: pa.RecordBatch) -> int:
    """Return the size that a batch would have in memory without dictionaries."""
    return sum(map(_decoded_bytes, batch.columns))


def _is_repeating(chunk: pq.ColumnChunkMetaData) -> bool:
    if chunk.physical_type != _VARIABLE or not chunk.has_dictionary_page:
        return False
    dictionary_bytes = chunk.data_page_offset - (chunk.dictionary_page_offset or 0)
    is_small = 0 < dictionary_bytes * _VALUES_PER_BYTE_MIN <= chunk.num_values
    is_short = chunk.total_uncompressed_size <= _UNCOMPRESSED_BYTES_MAX * chunk.num_values
    return bool(is_small and is_short)


def _own(arrays: Sequence[pa.Array]) -> Iterator[pa.Array]:
    """Yield arrays, dictionaries among them with the values alone that they have themselves."""
    if not arrays or not types.is_dictionary(arrays[0].type):
        yield from arrays
        return
    for _, alike in groupby(arrays, lambda array: array.dictionary):
        yield from _in_use(list(alike))


def _in_use(arrays: Sequence[pa.DictionaryArray]) -> Sequence[pa.DictionaryArray]:
    """Return arrays of one dictionary with the values in it that any of them has."""
    is_used = np.zeros(len(arrays[0].dictionary), np.bool_)
    # A few rows have all values, or else the values stand together.
    parts = (one for array in arrays for one in (array[:_FIRST_ROWS], array[_FIRST_ROWS:]))
    for part in parts:
        if is_used.all():
            return arrays
        # What stands below a null is no value.
        numbered = part.indices.drop_null() if part.indices.null_count else part.indices
        counts = np.bincount(numbered.to_numpy())
        is_used[: len(counts)] |= counts > 0
    return arrays if is_used.all() else [_thinned(array, is_used) for array in arrays]


def _thinned(array: pa.DictionaryArray, is_used: npt.NDArray[np.bool_]) -> pa.DictionaryArray:
    numbers = pa.array(np.cumsum(is_used) - 1, array.indices.type)
    values = array.dictionary.filter(pa.array(is_used))
    return pa.DictionaryArray.from_arrays(
        numbers.take(array.indices), values, ordered=array.type.ordered
    )


def _spelled(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type == kind:
        return array
    return array.dictionary_encode() if types.is_dictionary(kind) else array.dictionary_decode()


def _decoded_bytes(array: pa.Array) -> int:
    if not types.is_dictionary(array.type):
        return int(array.nbytes)
    lengths = pc.binary_length(array.dictionary)
    mean = pc.mean(lengths).as_py() or 0.0
    return int(array.indices.nbytes + len(array) * mean)
