"""The process of the service opens no table: what that would take is not even loaded."""

from __future__ import annotations

import subprocess
import sys


def test_the_service_loads_neither_arrow_nor_any_format() -> None:
    program = (
        "import sys, compactor.service.app\n"
        "heavy = {'pyarrow', 'numpy', 'pyiceberg', 'deltalake', 'obstore', 'ray', 'duckdb'}\n"
        "heavy |= {'opentelemetry.sdk', 'opentelemetry.exporter', 'requests'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
