"""Lists and maps taken apart into offsets, values and the places of nulls."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types


def is_list(kind: pa.DataType) -> bool:
    """Tell a list in any of Arrow's spellings; a map is none."""
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def plain_list(array: pa.Array) -> pa.Array:
    """Return any spelling of a list as the one with 32-bit offsets."""
    if types.is_list(array.type):
        return array
    return pc.cast(array, pa.list_(array.type.value_field), safe=True)


def list_parts(
    array: pa.Array, values: pa.Array
) -> tuple[npt.NDArray[np.int64], pa.Array, pa.Array | None]:
    """Return the parts of a list or map array, whatever slice of a larger one it is.

    Args:
        array: the lists.
        values: all their values, or the keys or items of maps.

    Returns:
        Offsets that begin at zero, just the values that they cover, and the mask of null lists.
    """
    offsets: npt.NDArray[np.int64] = np.asarray(array.offsets).astype(np.int64)
    covered = values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    mask = pc.is_null(array) if array.null_count else None
    return offsets - offsets[0], covered, mask
