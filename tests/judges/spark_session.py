"""A Spark session with Delta Lake and Iceberg in a process of its own, asked in SQL."""

from __future__ import annotations

import atexit
import functools
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa

from tests.judges.environment import JUDGES_PYTHON
from tests.judges.spark_process import SparkProcess, spark_process


class SparkSession:
    """Statements in, Arrow tables out; see `delta_with_spark.py` for the protocol."""

    def __init__(self, process: SparkProcess) -> None:
        self._process = process

    def run(self, statement: str) -> None:
        """Run a statement whose rows are of no interest."""
        self._process.ask({"sql": statement})

    def rows(self, statement: str) -> pa.Table:
        """Return the rows of a query."""
        return self._process.rows({"sql": statement})

    def snapshot(self, metadata_location: str, snapshot_id: int) -> pa.Table:
        """Return the rows of a snapshot of an Iceberg table, whichever catalog it is in."""
        return self._process.rows({"iceberg": metadata_location, "snapshot": snapshot_id})


@functools.cache
def shared_session() -> SparkSession:
    """Return the Spark of this process: it starts when it is first asked for, and ends with it."""
    opened = ExitStack()
    atexit.register(opened.close)
    scratch = opened.enter_context(tempfile.TemporaryDirectory(prefix="compact-spark-"))
    return opened.enter_context(spark_session(Path(scratch)))


@contextmanager
def spark_session(scratch: Path) -> Iterator[SparkSession]:
    """Start Spark, some ten seconds, and end it."""
    with spark_process(JUDGES_PYTHON, "delta_with_spark.py", scratch) as process:
        yield SparkSession(process)
