"""A Spark session with Hudi in a process of its own, asked for statements, writes and reads."""

from __future__ import annotations

import atexit
import functools
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from tests.judges.environment import ROOT
from tests.judges.hudi_tables import Call, HudiTable, Step, Write
from tests.judges.spark_process import SparkError, SparkProcess, spark_process

_HOME = ROOT / ".venv-judges-hudi"
_PYTHON = _HOME / "bin" / "python"


class HudiSession:
    """Requests in, Arrow tables out; see `hudi_with_spark.py` for the protocol."""

    def __init__(self, process: SparkProcess) -> None:
        self._process = process

    def take(self, step: Step, table: HudiTable, path: Path | str) -> None:
        """Take one step of a table."""
        if isinstance(step, Call):
            self.sql(step.statement.format(path=path, table=table.name, told=table.service_options))
        elif not step.fails:
            self.write(step, table, path)
        else:
            with pytest.raises(SparkError, match="HoodieValidationException"):
                self.write(step, table, path)

    def write(self, step: Write, table: HudiTable, path: Path | str) -> None:
        """Write rows with the options of a table."""
        options = {
            **table.options,
            "hoodie.table.name": table.name,
            "hoodie.datasource.write.operation": step.operation,
            **step.options,
        }
        self._process.ask(
            {"write": str(path), "rows": step.rows, "options": options, "mode": "append"}
        )

    def sql(self, statement: str) -> pa.Table:
        """Run a statement and return its rows."""
        return self._process.rows({"sql": statement})

    def read(
        self, path: Path | str, options: Mapping[str, str] | None = None, *, where: str = ""
    ) -> pa.Table:
        """Return rows of a table, of the snapshot unless the options say otherwise."""
        return self._process.rows({"read": str(path), "options": options or {}, "where": where})

    def java(self, expression: str) -> str:
        """Return the text of an expression over `jvm`, `jsc` and `spark`."""
        return self._process.text({"java": expression})


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
    with spark_process(_PYTHON, "hudi_with_spark.py", scratch) as process:
        yield HudiSession(process)


@contextmanager
def hudi_session_on_s3(scratch: Path, endpoint: str) -> Iterator[HudiSession]:
    """Start one with `s3a`, and the requests of Hudi's storage-based lock, on a server.

    It takes its keys from the environment.
    """
    _compile_lock_client(scratch)
    with spark_process(_PYTHON, "hudi_with_spark.py", scratch, endpoint) as process:
        yield HudiSession(process)


def _compile_lock_client(scratch: Path) -> None:
    source = ROOT / "tests" / "judges" / "S3StorageLockClient.java"
    (bundle,), s3 = (_HOME / "hudi").glob("*.jar"), _HOME / "s3" / "*"
    classes = scratch / "classes"
    compiling = ["javac", "--class-path", f"{bundle}:{s3}", "-d", str(classes), str(source)]
    subprocess.run(compiling, check=True)
    packing = ["jar", "--create", "--file", str(scratch / "lock.jar"), "-C", str(classes), "."]
    subprocess.run(packing, check=True)
