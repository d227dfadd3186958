"""Input of the merges: a keyed table of ten columns, and files of changes of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import WORDS

_STREETS, _CODES = 20_000, 16_384


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of a table whose keys are the numbers from 0 on.

    Attributes:
        updates: rows of the table that change.
        inserts: rows with keys that it lacks.
        deletes: rows of it that go.
        files: how many files they come in.
        span: changed keys are among the first so many; 0 for all of the table.
    """

    updates: int
    inserts: int
    deletes: int
    files: int = 4
    span: int = 0

    @property
    def count(self) -> int:
        """Number of changes."""
        return self.updates + self.inserts + self.deletes


@cache
def _pools() -> dict[str, pa.Array]:
    """Return the texts that columns are drawn from."""
    random = np.random.default_rng(1)
    words = np.array(WORDS)
    streets = [" ".join(words[some]) for some in random.integers(0, len(words), (_STREETS, 3))]
    codes = [f"{number:016x}" for number in random.integers(0, 1 << 62, _CODES)]
    return {"status": pa.array(WORDS[:6]), "street": pa.array(streets), "code": pa.array(codes)}


def keyed_rows(ids: np.ndarray, seed: int) -> pa.Table:
    """Return rows of ten columns, about 95 bytes each in memory, with these keys."""
    random = np.random.default_rng(seed)
    rows = len(ids)
    day = np.datetime64("2026-01-01T00:00:00", "us")
    moments = day + random.integers(0, 86_400_000_000 * 300, rows).astype("timedelta64[us]")
    numbers = {
        "id": pa.array(ids, pa.int64()),
        "customer": pa.array(random.integers(0, 1_000_000, rows), pa.int64()),
        "product": pa.array(random.integers(0, 50_000, rows), pa.int32()),
        "quantity": pa.array(random.integers(1, 100, rows), pa.int32()),
        "price": pa.array(random.random(rows) * 1000),
        "discount": pa.array(np.round(random.random(rows), 2)),
        "moment": pa.array(moments, pa.timestamp("us", "UTC")),
    }
    texts = {
        name: pool.take(pa.array(random.integers(0, len(pool), rows)))
        for name, pool in _pools().items()
    }
    return pa.table({**numbers, **texts})


def base_rows(rows: int, seed: int) -> pa.Table:
    """Return the rows of one file of the table: keys follow those of the file before."""
    return keyed_rows(np.arange(seed * rows, (seed + 1) * rows), seed)


def write_changes(changes: Changes, directory: Path, *, base_rows_count: int) -> Path:
    """Write files of changes with an `op` column unless they are there; return their directory."""
    name = f"changes-{changes.updates}-{changes.inserts}-{changes.deletes}-{changes.files}"
    target = directory / f"{name}-{changes.span}-{base_rows_count}"
    if target.exists():
        return target
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    random = np.random.default_rng(7)
    stored = changes.updates + changes.deletes
    span = changes.span or base_rows_count
    old = random.permutation(span)[:stored] if span < 1 << 24 else _distinct(random, span, stored)
    new = base_rows_count + np.arange(changes.inserts)
    ids = np.concatenate([old, new])
    ops = np.repeat(["U", "D", "I"], [changes.updates, changes.deletes, changes.inserts])
    turn = random.permutation(len(ids))
    for number, some in enumerate(np.array_split(turn, changes.files)):
        rows = keyed_rows(ids[some], 1_000_000 + number).append_column("op", pa.array(ops[some]))
        pq.write_table(rows, partial / f"{number:05}.parquet", compression="zstd")
    partial.rename(target)
    return target


def _distinct(random: np.random.Generator, span: int, count: int) -> np.ndarray:
    found = np.unique(random.integers(0, span, count + count // 4))
    return random.permutation(found)[:count]
