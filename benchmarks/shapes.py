"""Rows of the shapes whose memory is hard to guess: long texts, tiny rows, nearly constant ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from benchmarks.data import WORDS, lineitem, nested

PARAGRAPHS = 400
PARAGRAPH_WORDS = 60
SPARSE_COLUMNS = 40
SPARSE_RUN_ROWS = 500


@dataclass(frozen=True, slots=True)
class Shape:
    """What the rows of a table are like.

    Attributes:
        name: of the table.
        make: (rows, seed) to rows.
        deleted_share: of the rows of every file, deleted by position before compaction.
    """

    name: str
    make: Callable[[int, int], pa.Table]
    deleted_share: float = 0.0

    @property
    def row_bytes(self) -> float:
        """Return about what a row takes in memory."""
        return float(self.make(1_000, 0).nbytes / 1_000)


def documents(rows: int, seed: int) -> pa.Table:
    """Return long texts: three paragraphs of about 350 characters each, and where from."""
    random = np.random.default_rng(seed)
    picks = np.array(WORDS)[random.integers(0, len(WORDS), (PARAGRAPHS, PARAGRAPH_WORDS))]
    paragraphs = np.array([" ".join(words) for words in picks], dtype=object)
    chosen = random.integers(0, PARAGRAPHS, (rows, 3))
    texts = (paragraphs[a] + "\n" + paragraphs[b] + "\n" + paragraphs[c] for a, b, c in chosen)
    numbers = np.arange(rows) + seed * rows
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "url": pa.array([f"https://example.org/page/{number:012}" for number in numbers]),
            "text": pa.array(texts, pa.string()),
        }
    )


def readings(rows: int, seed: int) -> pa.Table:
    """Return tiny rows: a sensor, a time, a value."""
    random = np.random.default_rng(seed)
    times = np.cumsum(random.integers(0, 2_000_000, rows))
    return pa.table(
        {
            "sensor": pa.array(random.integers(0, 500, rows), pa.int32()),
            "time": pa.array(times, pa.timestamp("us")),
            "value": pa.array(np.round(random.normal(20, 5, rows), 2), pa.float32()),
        }
    )


def sparse(rows: int, seed: int) -> pa.Table:
    """Return rows that are next to nothing on storage: long runs of one value in 40 columns."""
    random = np.random.default_rng(seed)
    runs = np.repeat(np.arange(rows // SPARSE_RUN_ROWS + 1), SPARSE_RUN_ROWS)[:rows]
    columns: dict[str, pa.Array] = {"id": pa.array(np.arange(rows) + seed * rows, pa.int64())}
    for index in range(SPARSE_COLUMNS // 2):
        codes = random.integers(0, len(WORDS), runs[-1] + 1)[runs]
        words = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(WORDS))
        columns[f"state_{index:02}"] = words.cast(pa.string())
        columns[f"level_{index:02}"] = pa.array((codes % 3).astype(float), mask=codes > index)
    return pa.table(columns)


SHAPES = (
    Shape("lineitem", lineitem),
    Shape("nested", nested),
    Shape("documents", documents),
    Shape("readings", readings),
    Shape("deleted", lineitem, deleted_share=0.25),
    Shape("sparse", sparse),
)
