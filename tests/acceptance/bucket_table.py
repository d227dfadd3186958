"""An Iceberg table in a bucket, of files that are long enough for the store to copy them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from tests.acceptance.program import ROOT

TARGET = "lake.ns.t"
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("amount", pa.float64()),
        pa.field("ratio", pa.float64()),
        pa.field("name", pa.string()),
    ]
)
# What noise takes in a file: nothing can compress it.
ROW_BYTES = 16 + 1.7


@dataclass(frozen=True)
class BucketLake:
    """A SQL catalog in a directory over a bucket.

    Attributes:
        directory: holds the catalog.
        properties: of the catalog, the way to the bucket included.
    """

    directory: Path
    properties: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables under which `lake.*` is this catalog."""
        return {
            **{_variable(name): value for name, value in self.properties.items()},
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "XDG_STATE_HOME": str(self.directory / "state"),
            "PYTHONPATH": str(ROOT),
        }

    def through(self, endpoint: str) -> dict[str, str]:
        """Return the variables under which the bucket is reached at another address."""
        return {**self.environment, "PYICEBERG_CATALOG__LAKE__S3__ENDPOINT": endpoint}

    def open(self) -> SqlCatalog:
        """Open the catalog; PyIceberg reads and writes through our storage."""
        implementation = "catalog.iceberg.catalog_io.CatalogFileIO"
        return SqlCatalog("lake", **self.properties, **{"py-io-impl": implementation})

    def table(self) -> Table:
        """Load the table."""
        return self.open().load_table("ns.t")


def _variable(name: str) -> str:
    return f"PYICEBERG_CATALOG__LAKE__{name.upper().replace('.', '__').replace('-', '_')}"


def make_bucket_lake(directory: Path, warehouse: str, storage: Mapping[str, str]) -> BucketLake:
    """Return a lake over a bucket, with an empty table `ns.t`."""
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{directory}/catalog.db",
        "warehouse": warehouse,
        **storage,
    }
    lake = BucketLake(directory, properties)
    with lake.open() as catalog:
        catalog.create_namespace("ns")
        catalog.create_table("ns.t", SCHEMA)
    return lake


def append_file(lake: BucketLake, number: int, size_bytes: int) -> None:
    """Append one data file of about this size."""
    random = np.random.default_rng(number)
    rows = round(size_bytes / ROW_BYTES)
    ids = np.arange(rows) + (number << 32)
    names = pa.array([f"n{n}" for n in range(97)]).take(pa.array(ids % 97))
    columns = [ids, random.random(rows), random.random(rows), names]
    with lake.open() as catalog:
        catalog.load_table("ns.t").append(pa.table(columns, schema=SCHEMA))
