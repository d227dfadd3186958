"""Makes a small fragmented Hudi table: many small file groups, and updates and deletes in logs.

The same rows every time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.hudi.simple_writer import NewTable, SimpleWriter
from catalog.location import Location
from catalog.model import FileSlice

_COLUMNS = pa.schema(
    [
        pa.field("trip_id", pa.string(), nullable=False),
        pa.field("city", pa.string(), nullable=False),
        pa.field("updated_at", pa.timestamp("us", "UTC")),
        pa.field("fare", pa.float64()),
        pa.field("state", pa.string()),
    ]
)
_TRIPS = NewTable("trips", _COLUMNS, key="trip_id", partition="city", ordering="updated_at")
_CITIES = ("lima", "osaka", "wien")
_APPENDS = 3
_ROWS_PER_FILE = 400
_FIRST_DAY = np.datetime64("2026-11-16", "us")
_MINUTE = np.timedelta64(60_000_000, "us")


def make_demo_table(directory: Path) -> None:
    """Make the table of trips in a directory that does not exist."""
    writer = SimpleWriter.create(Location.parse(str(directory)), _TRIPS)
    for number in range(_APPENDS):
        writer.insert(*(_trips(city, number, "begun") for city in _CITIES))
    table = writer.table
    slices = list(table.inventory(table.snapshot()).slices())
    for file in slices[::2]:
        rows = _rows_of(writer, file)
        writer.update(file, rows)
        writer.delete(file, rows["trip_id"].to_pylist()[::20])


def _trips(city: str, number: int, state: str) -> pa.Table:
    """Return the trips of one append in a city."""
    rng = np.random.default_rng(number)
    numbers = np.arange(_ROWS_PER_FILE) + number * _ROWS_PER_FILE
    return pa.table(
        [
            [f"{city}-{one}" for one in numbers],
            [city] * len(numbers),
            pa.array(_FIRST_DAY + numbers * _MINUTE, pa.timestamp("us", "UTC")),
            rng.uniform(4, 40, len(numbers)).round(2),
            [state] * len(numbers),
        ],
        _COLUMNS,
    )


def _rows_of(writer: SimpleWriter, file: FileSlice) -> pa.Table:
    """Return a third of the rows of a file as they end: later, and paid."""
    with writer.table.storage.open_input(Location.parse(file.path)) as source:
        rows = pq.read_table(source, columns=_COLUMNS.names).cast(_COLUMNS)
    some = rows.take(pa.array(np.arange(0, rows.num_rows, 3)))
    later = pa.array(some["updated_at"].to_numpy() + 45 * _MINUTE, pa.timestamp("us", "UTC"))
    columns = [some["trip_id"], some["city"], later, some["fare"], ["paid"] * some.num_rows]
    return pa.table(columns, _COLUMNS)
