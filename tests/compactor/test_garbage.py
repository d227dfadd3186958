"""A process that looks for garbage seldom ends without a word."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
from compactor.garbage import spare_collections
spare_collections()
import duckdb
with duckdb.connect() as database:
    database.sql("SELECT 1").fetchall()
"""


def test_a_database_that_was_used_is_not_called_leaked() -> None:
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
