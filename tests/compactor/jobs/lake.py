"""A table of small files with deleted rows in each format, and what must hold after a crash."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from catalog.table import Table
from compactor.jobs.store import JobStore, open_store
from compactor.planner.policy import Policy

PARTITIONS = 5
FILES_PER_PARTITION = 3
ROWS_PER_FILE = 40
DELETED = (0, 7, 39)
POLICY = Policy(min_input_files=2)
STORE_URL = "store.url"
FORMATS = ("iceberg", "delta")


class Lake(Protocol):
    """One table in a directory."""

    def make(self) -> None:
        """Make small files in a few partitions, every third with deleted rows."""

    def open(self) -> Table:
        """Open it as the program does."""

    def contents(self) -> list[dict[str, Any]]:
        """Read every row through a reader that is not ours."""

    def orphans(self) -> list[str]:
        """Return the files under the table that nothing refers to."""

    def arm(self) -> None:
        """Give its commits the places of `crashes`."""


def lake_of(kind: str, directory: Path) -> Lake:
    """Return the table of a format in a directory."""
    # Lazy: each has its own libraries, and a driver pays for them at every crash.
    lake: Lake = import_module(f"tests.compactor.jobs.lake_of_{kind}").Lake(directory)
    return lake


def rows_of(number: int, schema: pa.Schema) -> pa.Table:
    """Return the rows of one append, some of every partition."""
    count = PARTITIONS * ROWS_PER_FILE
    numbers = range(number * count, (number + 1) * count)
    columns = {
        "n": list(numbers),
        "day": [n % PARTITIONS for n in numbers],
        "text": [f"row {n}" if n % 11 else None for n in numbers],
    }
    return pa.table(columns, schema=schema)


def open_jobs(directory: Path) -> JobStore:
    """Open the job store beside the table, or the one that it names."""
    named = directory / STORE_URL
    url = named.read_text() if named.exists() else f"sqlite:///{directory}/state/jobs.db"
    return open_store(url)
