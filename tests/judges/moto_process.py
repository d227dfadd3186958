"""moto's S3 server in a process of its own: what it takes is not taken from who is judged."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.judges.ports import free_port

_WAIT_SECONDS = 60


@contextmanager
def moto_server(script: Path | None = None) -> Iterator[str]:
    """Run a server of its own; yields its endpoint.

    Args:
        script: a program that does more than moto's own.
    """
    endpoint = f"http://127.0.0.1:{(port := free_port())}"
    own = [str(Path(sys.executable).with_name("moto_server"))]
    program = own if script is None else [sys.executable, str(script)]
    process = subprocess.Popen(
        [*program, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(endpoint)
        yield endpoint
    finally:
        process.kill()
        process.wait()


def _await(endpoint: str) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            with urllib.request.urlopen(endpoint, timeout=2):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
