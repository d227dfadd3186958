"""A Spark session with Hudi in a process of its own, asked for statements, writes and reads."""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from tests.judges.engines import ROOT
from tests.judges.hudi_tables import Call, HudiTable, Step, Write

HUDI_PYTHON = ROOT / ".venv-judges-hudi" / "bin" / "python"


class HudiError(RuntimeError):
    """Spark has refused a request."""


class HudiSession:
    """Requests in, Arrow tables out; see `hudi_with_spark.py` for the protocol."""

    def __init__(self, process: subprocess.Popen[str], scratch: Path) -> None:
        self._process = process
        self._output = scratch / "rows.arrow"

    def take(self, step: Step, table: HudiTable, path: Path) -> None:
        """Take one step of a table."""
        if isinstance(step, Call):
            self.sql(step.statement.format(path=path, table=table.name, told=table.service_options))
        elif not step.fails:
            self.write(step, table, path)
        else:
            with pytest.raises(HudiError, match="HoodieValidationException"):
                self.write(step, table, path)

    def write(self, step: Write, table: HudiTable, path: Path) -> None:
        """Write rows with the options of a table."""
        options = {
            **table.options,
            "hoodie.table.name": table.name,
            "hoodie.datasource.write.operation": step.operation,
            **step.options,
        }
        self._ask(
            {"write": str(path), "rows": step.rows, "options": options, "mode": "append"},
        )

    def sql(self, statement: str) -> pa.Table:
        """Run a statement and return its rows."""
        self._ask({"sql": statement, "output": str(self._output)})
        return self._rows()

    def read(
        self, path: Path, options: Mapping[str, str] | None = None, *, where: str = ""
    ) -> pa.Table:
        """Return rows of a table, of the snapshot unless the options say otherwise."""
        self._ask(
            {
                "read": str(path),
                "options": options or {},
                "where": where,
                "output": str(self._output),
            }
        )
        return self._rows()

    def java(self, expression: str) -> str:
        """Return the text of an expression over `jvm`, `jsc` and `spark`."""
        self._ask({"java": expression, "output": str(self._output)})
        return self._output.read_text()

    def _rows(self) -> pa.Table:
        with pa.OSFile(str(self._output)) as source:
            return pa.ipc.open_file(source).read_all()

    def _ask(self, request: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "Spark has ended: see hudi.log in its scratch directory"
        error = json.loads(line).get("error")
        if error:
            raise HudiError(f"{error}\n{request}")


@functools.cache
def shared_hudi_session() -> HudiSession:
    """Return the Spark of this process: it starts when it is first asked for, and ends with it."""
    opened = ExitStack()
    atexit.register(opened.close)
    scratch = opened.enter_context(tempfile.TemporaryDirectory(prefix="compact-hudi-"))
    return opened.enter_context(hudi_session(Path(scratch)))


@contextmanager
def hudi_session(scratch: Path) -> Iterator[HudiSession]:
    """Start Spark with Hudi, some ten seconds, and end it."""
    assert HUDI_PYTHON.exists(), "the judges are not installed: run `make judges`"
    script = ROOT / "tests" / "judges" / "hudi_with_spark.py"
    with (scratch / "hudi.log").open("w") as log:
        process = subprocess.Popen(
            [HUDI_PYTHON, script, scratch],
            cwd=scratch,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        with process:
            yield HudiSession(process, scratch)
