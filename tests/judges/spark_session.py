"""A Spark session with Delta Lake and Iceberg in a process of its own, asked in SQL."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from tests.judges.engines import JUDGES_PYTHON, ROOT


class SparkError(RuntimeError):
    """Spark has refused a statement."""


class SparkSession:
    """Statements in, Arrow tables out; see `delta_with_spark.py` for the protocol."""

    def __init__(self, process: subprocess.Popen[str], scratch: Path) -> None:
        self._process = process
        self._output = scratch / "rows.arrow"

    def run(self, statement: str) -> None:
        """Run a statement whose rows are of no interest."""
        self._ask(statement, None)

    def rows(self, statement: str) -> pa.Table:
        """Return the rows of a query."""
        self._ask(statement, str(self._output))
        with pa.OSFile(str(self._output)) as source:
            return pa.ipc.open_file(source).read_all()

    def _ask(self, statement: str, output: str | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"sql": statement, "output": output}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "Spark has ended: see spark.log in its scratch directory"
        error = json.loads(line).get("error")
        if error:
            raise SparkError(f"{error}\n{statement}")


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
