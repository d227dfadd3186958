"""Partitions of rows: the key of each, computed once for all rows that share the same values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

# A value per partition column, in the order of these.
EncodeKey = Callable[[tuple[Any, ...]], str]


def keys_of_rows(columns: Sequence[pa.Array], encode: EncodeKey, *, rows: int) -> pa.Array:
    """Return the partition key of each row, as a dictionary array.

    Args:
        columns: the values of the partition columns.
        encode: makes a key of one value per column, in Python's types.
        rows: how many they are; without columns all share one partition.
    """
    if not columns:
        keys, codes = [encode(())], np.zeros(rows, np.int32)
    else:
        encoded = [one.dictionary_encode(null_encoding="encode") for one in columns]
        values = np.column_stack([np.asarray(one.indices) for one in encoded])
        found, inverse = np.unique(values, axis=0, return_inverse=True)
        keys = [
            encode(tuple(one.dictionary[at].as_py() for one, at in zip(encoded, row, strict=True)))
            for row in found.tolist()
        ]
        codes = inverse.reshape(-1).astype(np.int32)
    return pa.DictionaryArray.from_arrays(codes, pa.array(keys, pa.string()))
