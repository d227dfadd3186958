"""A Spark session in a process of its own, asked line by line in JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from tests.judges.environment import ROOT


class SparkError(RuntimeError):
    """Spark has refused a request."""


class SparkProcess:
    """Requests in, Arrow tables or texts out; its script says which requests it knows."""

    def __init__(self, process: subprocess.Popen[str], scratch: Path) -> None:
        self._process = process
        self._output = scratch / "answer"
        self._log = scratch / "spark.log"

    def ask(self, request: Mapping[str, object]) -> None:
        """Have a request carried out that has no rows, or none of interest."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"Spark has ended: {self._log.read_text()[-3000:]}"
        error = json.loads(line).get("error")
        if error:
            raise SparkError(f"{error}\n{request}")

    def rows(self, request: Mapping[str, object]) -> pa.Table:
        """Return the rows that a request is answered with."""
        self.ask({**request, "output": str(self._output)})
        with pa.OSFile(str(self._output)) as source:
            return pa.ipc.open_file(source).read_all()

    def text(self, request: Mapping[str, object]) -> str:
        """Return the text that a request is answered with."""
        self.ask({**request, "output": str(self._output)})
        return self._output.read_text()


@contextmanager
def spark_process(
    python: Path, script: str, scratch: Path, *arguments: str
) -> Iterator[SparkProcess]:
    """Start Spark, some ten seconds, and end it.

    Args:
        python: of the environment that it is installed in.
        script: the file beside this one that it runs.
        scratch: a directory for its answers, its log and whatever it keeps.
        arguments: of the script, after the directory.
    """
    assert python.exists(), "the judges are not installed: run `make judges`"
    program = ROOT / "tests" / "judges" / script
    with (scratch / "spark.log").open("w") as log:
        process = subprocess.Popen(
            [python, program, scratch, *arguments],
            cwd=scratch,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        with process:
            yield SparkProcess(process, scratch)
