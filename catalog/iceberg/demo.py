"""Makes small fragmented tables in a SQLite catalog: what a stream of tiny commits leaves behind.

`orders` is partitioned by day, has gained a column on the way and has lost rows to position
delete files; `clicks` is many small files and nothing else.  The same rows every time.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform
from pyiceberg.types import (
    DecimalType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
)

from catalog.errors import LocationError
from catalog.iceberg.row_delta import PositionDeletes, commit_position_deletes

CATALOG_NAME = "demo"
# Tells a directory of ours from one that must not be touched.
_MARKER = ".compact-demo"
_MADE = ("catalog.db", "warehouse", "payments", "trips", "state", ".pyiceberg.yaml", "compact.toml")
_APPENDS = 16
_DAYS = 5
_ROWS_PER_FILE = 1500
_CLICK_FILES = 12
_FIRST_DAY = np.datetime64("2026-11-16", "us")
_DAY_US = 86_400_000_000

_ORDERS = Schema(
    NestedField(1, "order_id", LongType(), required=True),
    NestedField(2, "ordered_at", TimestampType(), required=True),
    NestedField(3, "customer", StringType(), required=False),
    NestedField(4, "amount", DecimalType(12, 2), required=False),
)
_BY_DAY = PartitionSpec(PartitionField(2, 1000, DayTransform(), "day"))
_CLICKS = Schema(
    NestedField(1, "at", TimestampType(), required=True),
    NestedField(2, "page", StringType(), required=False),
)


@dataclass(frozen=True, slots=True)
class DemoCatalog:
    """The tables that were made.

    Attributes:
        directory: absolute path of the directory that holds everything.
        properties: the catalog's properties, as PyIceberg's configuration holds them.
        orders: target of the partitioned table with deletes.
        clicks: target of the plain table of small files.
    """

    directory: Path
    properties: tuple[tuple[str, str], ...]
    orders: str = f"{CATALOG_NAME}.sales.orders"
    clicks: str = f"{CATALOG_NAME}.web.clicks"

    @property
    def payments(self) -> Path:
        """Where a table that needs no catalog belongs."""
        return self.directory / "payments"

    @property
    def trips(self) -> Path:
        """Where another one belongs."""
        return self.directory / "trips"


def make_demo_catalog(directory: Path) -> DemoCatalog:
    """Make the tables; what an earlier call made in the same directory is replaced.

    Raises:
        LocationError: the directory holds something that no earlier call made.
    """
    place = directory.absolute()
    _claim(place)
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{place}/catalog.db",
        "warehouse": f"file://{place}/warehouse",
    }
    lines = [f"    {key}: {value}\n" for key, value in properties.items()]
    text = f"catalog:\n  {CATALOG_NAME}:\n{''.join(lines)}"
    (place / ".pyiceberg.yaml").write_text(text, encoding="utf-8")
    catalog = SqlCatalog(CATALOG_NAME, **properties)
    try:
        _make_orders(catalog)
        _make_clicks(catalog)
    finally:
        catalog.close()
    return DemoCatalog(place, tuple(properties.items()))


def _claim(directory: Path) -> None:
    """Take a directory that is new, empty, or ours; in the last case remove what was made."""
    marker = directory / _MARKER
    if directory.exists() and not marker.exists() and any(directory.iterdir()):
        raise LocationError(
            f"`{directory}` is not empty and was not made by the demo",
            hint="name a new directory: compact demo ANOTHER",
        )
    directory.mkdir(parents=True, exist_ok=True)
    marker.touch()
    for name in _MADE:
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _make_orders(catalog: SqlCatalog) -> None:
    catalog.create_namespace("sales")
    table = catalog.create_table("sales.orders", _ORDERS, partition_spec=_BY_DAY)
    for number in range(_APPENDS):
        if number == _APPENDS // 2:
            with table.update_schema() as update:
                update.add_column("coupon", StringType())
        table.append(_orders(number, table.schema().as_arrow()))
    _delete_some(table)


def _orders(number: int, schema: pa.Schema) -> pa.Table:
    """Return the orders of one commit, some of every day."""
    rng = np.random.default_rng(number)
    count = _DAYS * _ROWS_PER_FILE
    day = np.repeat(np.arange(_DAYS), _ROWS_PER_FILE)
    offsets_us = (day * _DAY_US + rng.integers(0, _DAY_US, count)).astype("timedelta64[us]")
    cents = pa.array(rng.integers(100, 100_000, count))
    columns = {
        "order_id": pa.array(np.arange(count) + number * count),
        "ordered_at": pa.array(_FIRST_DAY + offsets_us),
        "customer": pa.array([f"customer-{value:05}" for value in rng.integers(0, 9000, count)]),
        "amount": cents.cast(pa.decimal128(19, 0)).cast(pa.decimal128(21, 2)),
        "coupon": pa.array(np.where(rng.random(count) < 0.2, "AUTUMN", "")),
    }
    arrays = [columns[field.name].cast(field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _delete_some(table: Table) -> None:
    """Delete a twentieth of the rows of a third of the files, by one delete file per day."""
    by_day: dict[str, list[DataFile]] = {}
    for task in table.scan().plan_files():
        by_day.setdefault(str(task.file.partition), []).append(task.file)
    positions = np.arange(0, _ROWS_PER_FILE, 20)
    deletes = []
    for files in by_day.values():
        chosen = sorted(files, key=_path)[::3]
        deletes.append(PositionDeletes(files[0], {_path(file): positions for file in chosen}))
    commit_position_deletes(table, deletes)


def _path(file: DataFile) -> str:
    return str(file.file_path)


def _make_clicks(catalog: SqlCatalog) -> None:
    catalog.create_namespace("web")
    table = catalog.create_table("web.clicks", _CLICKS)
    for number in range(_CLICK_FILES):
        rng = np.random.default_rng(number)
        at = _FIRST_DAY + rng.integers(0, _DAY_US, 500).astype("timedelta64[us]")
        page = pa.array([f"/page/{value}" for value in rng.integers(0, 50, 500)])
        table.append(pa.Table.from_arrays([pa.array(at), page], schema=table.schema().as_arrow()))
