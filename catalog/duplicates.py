"""Whether a path occurs twice among very many, without holding all of them as objects.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_CHUNK_ROWS = 16 << 10


def find_duplicate(paths: Sequence[pa.Array]) -> str | None:
    """Return a text that occurs more than once, None when there is none.

    Texts are compared by their hashes, eight bytes each; only where two agree by themselves.
    """
    hashes = np.concatenate([np.empty(0, np.int64), *map(_hashes, paths)])
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return None
    alike = pa.chunked_array(paths, pa.string()).filter(pa.array(np.isin(hashes, repeated)))
    counts = alike.value_counts()
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    return None if not len(twice) else str(twice[0].as_py())


def _hashes(paths: pa.Array) -> np.typing.NDArray[np.int64]:
    """Hash texts a few at a time: as objects they take several times their bytes."""
    parts = [
        np.fromiter(map(hash, paths[start : start + _CHUNK_ROWS].to_pylist()), np.int64)
        for start in range(0, len(paths), _CHUNK_ROWS)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])
