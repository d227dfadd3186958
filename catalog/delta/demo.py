"""Makes a small fragmented Delta table: many appends by partition, and rows deleted by vectors.

The same rows every time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from catalog.delta.row_delta import delete_rows
from catalog.delta.table import DeltaTable
from catalog.location import Location

_APPENDS = 12
_COUNTRIES = ("at", "jp", "pe")
_ROWS_PER_FILE = 1500
_FIRST_DAY = np.datetime64("2026-11-16", "us")
_DAY_US = 86_400_000_000


def make_demo_table(directory: Path) -> None:
    """Make the table of payments in a directory that does not exist."""
    for number in range(_APPENDS):
        write_deltalake(
            str(directory),
            _payments(number),
            mode="append",
            partition_by=["country"],
            configuration={"delta.enableDeletionVectors": "true"},
        )
    _delete_some(DeltaTable(str(directory), Location.parse(str(directory)), {}))


def _payments(number: int) -> pa.Table:
    """Return the payments of one commit, some of every country."""
    rng = np.random.default_rng(number)
    count = len(_COUNTRIES) * _ROWS_PER_FILE
    offsets_us = rng.integers(0, _DAY_US, count).astype("timedelta64[us]")
    cents = pa.array(rng.integers(100, 100_000, count))
    return pa.table(
        {
            "payment_id": pa.array(np.arange(count) + number * count),
            "paid_at": pa.array(_FIRST_DAY + offsets_us, pa.timestamp("us", "UTC")),
            "country": pa.array(np.repeat(_COUNTRIES, _ROWS_PER_FILE)),
            "method": pa.array(rng.choice(["card", "transfer", "cash"], count)),
            "amount": cents.cast(pa.decimal128(19, 0)).cast(pa.decimal128(21, 2)),
        }
    )


def _delete_some(table: DeltaTable) -> None:
    """Delete a twentieth of the rows of every third file."""
    paths = sorted(table.inventory(table.snapshot()).files["path"].to_pylist())
    delete_rows(table, {path: np.arange(0, _ROWS_PER_FILE, 20) for path in paths[::3]})
