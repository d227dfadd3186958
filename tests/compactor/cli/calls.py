"""Calls `compact` in this process."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from compactor.cli.main import compact as program


def invoke(*arguments: str) -> Result:
    """Call `compact`, whatever comes of it."""
    return CliRunner().invoke(program, list(arguments))


def call(*arguments: str, code: int = 0) -> Result:
    """Call `compact` and expect its exit code."""
    result = invoke(*arguments)
    assert result.exit_code == code, f"{result.exit_code}\n{result.stdout}\n{result.stderr}"
    return result


def call_json(*arguments: str, code: int = 0) -> dict[str, Any]:
    """Call `compact … --json` and return the one document on stdout."""
    document = json.loads(call(*arguments, "--json", code=code).stdout)
    assert isinstance(document, dict)
    return document
