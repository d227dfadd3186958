"""A Spark session with Delta Lake and Iceberg in a process of its own, asked in SQL."""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa

from tests.judges.environment import JUDGES_PYTHON, ROOT


class SparkError(RuntimeError):
    """Spark has refused a statement."""


class SparkSession:
    """Statements in, Arrow tables out; see `delta_with_spark.py` for the protocol."""

    def __init__(self, process: subprocess.Popen[str], scratch: Path) -> None:
        self._process = process
        self._output = scratch / "rows.arrow"
        self._log = scratch / "spark.log"

    def run(self, statement: str) -> None:
        """Run a statement whose rows are of no interest."""
        self._ask({"sql": statement})

    def rows(self, statement: str) -> pa.Table:
        """Return the rows of a query."""
        return self._answer({"sql": statement})

    def snapshot(self, metadata_location: str, snapshot_id: int) -> pa.Table:
        """Return the rows of a snapshot of an Iceberg table, whichever catalog it is in."""
        return self._answer({"iceberg": metadata_location, "snapshot": snapshot_id})

    def _answer(self, request: dict[str, object]) -> pa.Table:
        self._ask({**request, "output": str(self._output)})
        with pa.OSFile(str(self._output)) as source:
            return pa.ipc.open_file(source).read_all()

    def _ask(self, request: dict[str, object]) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"Spark has ended: {self._log.read_text()[-3000:]}"
        error = json.loads(line).get("error")
        if error:
            raise SparkError(f"{error}\n{request}")


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
    assert JUDGES_PYTHON.exists(), "the judges are not installed: run `make judges`"
    script = ROOT / "tests" / "judges" / "delta_with_spark.py"
    with (scratch / "spark.log").open("w") as log:
        process = subprocess.Popen(
            [JUDGES_PYTHON, script, scratch],
            cwd=scratch,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        with process:
            yield SparkSession(process, scratch)
