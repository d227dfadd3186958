"""Whether a path occurs twice among very many, without holding all of them as objects.  Pure."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_CHUNK_ROWS = 16 << 10


def find_duplicate(read_paths: Callable[[], Iterable[pa.Array]]) -> str | None:
    """Return a text that occurs more than once, None when there is none.

    Texts are compared by their hashes, eight bytes each; only where two agree by themselves.

    Args:
        read_paths: returns the texts, in the same order again if it is called again.
    """
    hashes = np.concatenate([np.empty(0, np.int64), *map(hash_texts, read_paths())])
    return find_alike(hashes, read_paths)


def find_alike(
    hashes: np.typing.NDArray[np.int64], read_paths: Callable[[], Iterable[pa.Array]]
) -> str | None:
    """Return a text that occurs more than once, given the hash of every text."""
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return None
    is_alike, start, alike = np.isin(hashes, repeated), 0, []
    for paths in read_paths():
        alike.append(paths.filter(pa.array(is_alike[start : start + len(paths)])))
        start += len(paths)
    counts = pa.chunked_array(alike, pa.string()).value_counts()
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    return None if not len(twice) else str(twice[0].as_py())


def hash_texts(texts: pa.Array) -> np.typing.NDArray[np.int64]:
    """Return a hash of each text, eight bytes long and the same wherever it is computed.

    A few at a time: as objects texts take several times their bytes.
    """
    parts = [
        hash_bytes(texts[start : start + _CHUNK_ROWS].cast(pa.binary()).to_pylist())
        for start in range(0, len(texts), _CHUNK_ROWS)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def hash_bytes(texts: Sequence[bytes]) -> np.typing.NDArray[np.int64]:
    """Return the hash of each text, given as bytes: two checksums beside each other."""
    high = np.fromiter(map(zlib.crc32, texts), np.uint64, len(texts))
    low = np.fromiter(map(zlib.adler32, texts), np.uint64, len(texts))
    return ((high << np.uint64(32)) | low).view(np.int64)
