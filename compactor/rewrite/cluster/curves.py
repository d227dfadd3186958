"""Places along space-filling curves: cells of several columns become one number per row.

Z-order interleaves the bits of the cells. Hilbert's curve visits every cell too, and neighbours on
it are neighbours in space, so its stretches are more compact; it costs a little more to compute.

J. Skilling, "Programming the Hilbert curve", AIP Conference Proceedings 707 (2004): cells are
turned into the transposed index, level by level, in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from compactor.clustering import CELL_BITS_MAX

Cells = npt.NDArray[np.uint64]
_PLACE_BITS = 64


def cell_bits(columns: int) -> int:
    """Return the bits of a cell number, given how many columns share a place."""
    return min(CELL_BITS_MAX, _PLACE_BITS // columns)


def zorder(cells: Sequence[Cells]) -> Cells:
    """Return places in Z-order; the first column has the highest bit of each level."""
    columns = len(cells)
    spread = _spread(columns)
    places = np.zeros(len(cells[0]), dtype=np.uint64)
    for column, cell in enumerate(cells):
        places |= spread[cell] << np.uint64(columns - 1 - column)
    return places


@cache
def _spread(columns: int) -> Cells:
    """Return every cell number with its bits as far apart as there are columns."""
    bits = cell_bits(columns)
    cells = np.arange(1 << bits, dtype=np.uint64)
    spread = np.zeros_like(cells)
    for bit in range(bits):
        spread |= ((cells >> np.uint64(bit)) & np.uint64(1)) << np.uint64(bit * columns)
    spread.flags.writeable = False
    return spread


def hilbert(cells: Sequence[Cells]) -> Cells:
    """Return places along Hilbert's curve."""
    return zorder(_transposed([cell.copy() for cell in cells]))


def _transposed(axes: list[Cells]) -> list[Cells]:
    """Turn cells into the transposed Hilbert index, in place."""
    bits = cell_bits(len(axes))
    for level in range(bits - 1, 0, -1):
        _undo_level(axes, np.uint64(level))
    # From here on it is a Gray code.
    for column in range(1, len(axes)):
        axes[column] ^= axes[column - 1]
    turn = np.zeros_like(axes[0])
    for level in range(bits - 1, 0, -1):
        is_set = (axes[-1] >> np.uint64(level)) & np.uint64(1)
        turn ^= is_set * np.uint64((1 << level) - 1)
    return [axis ^ turn for axis in axes]


def _undo_level(axes: list[Cells], level: np.uint64) -> None:
    """Undo what a level has done to those below it: invert or exchange with the first axis."""
    below = (np.uint64(1) << level) - np.uint64(1)
    first = axes[0]
    for axis in axes:
        is_set = (axis >> level) & np.uint64(1)
        exchanged = (first ^ axis) & below & (is_set - np.uint64(1))
        first ^= exchanged | (below * is_set)
        if axis is not first:
            np.bitwise_xor(axis, exchanged, out=axis)
