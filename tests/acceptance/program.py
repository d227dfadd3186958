"""Run `compact` as its users do: a process of its own, configured by the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.iceberg_tables import catalog_properties

ROOT = Path(__file__).resolve().parent.parent.parent


def environment(directory: Path) -> dict[str, str]:
    """Return the variables under which `lake.*` is the SQL catalog of a directory."""
    catalog = catalog_properties(directory).items()
    return {
        **{f"PYICEBERG_CATALOG__LAKE__{key.upper()}": value for key, value in catalog},
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "XDG_STATE_HOME": str(directory / "state"),
        "PYTHONPATH": str(ROOT),
    }


def start(
    directory: Path,
    *arguments: str,
    extra: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> subprocess.Popen[str]:
    """Start `compact` with the given arguments, more variables, and a command to run it under."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "compactor.cli.main", *arguments],
        env={**environment(directory), **(extra or {})},
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def compact(
    directory: Path, *arguments: str, code: int = 0, extra: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run `compact … --json`, expect its exit code, and return the document it prints."""
    process = start(directory, *arguments, "--json", extra=extra)
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == code, f"{process.returncode}\n{stdout}\n{stderr}"
    document = json.loads(stdout)
    assert isinstance(document, dict)
    return document
