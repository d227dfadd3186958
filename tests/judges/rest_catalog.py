"""Runs the REST catalog of the reference implementation as a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.judges.engines import ROOT

_JARS = ROOT / ".venv-judges" / "rest-catalog"


@contextmanager
def rest_catalog(directory: Path) -> Iterator[str]:
    """Serve a catalog whose database is `catalog.db` in a directory; yield its address."""
    assert _JARS.exists(), "the judges are not installed: run `make judges`"
    with (directory / "rest-catalog.log").open("w") as log:
        server = subprocess.Popen(
            [
                "java",
                "-Xmx512m",
                "--class-path",
                f"{_JARS}/*",
                str(ROOT / "tests" / "judges" / "RestCatalog.java"),
                str(directory / "catalog.db"),
                f"file://{directory}/warehouse",
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        with server:
            try:
                assert server.stdout is not None
                port = server.stdout.readline().strip()
                assert port, (directory / "rest-catalog.log").read_text()
                yield f"http://127.0.0.1:{port}"
            finally:
                server.kill()
