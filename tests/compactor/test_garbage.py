"""A process of one command hardly looks for garbage; one that stays does so as usual."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import gc
usual = gc.get_threshold()
from compactor.garbage import spare_collections, stay
spare_collections()
assert gc.isenabled() and gc.get_threshold() > usual
stay()
assert gc.isenabled() and gc.get_threshold() == usual
assert gc.get_freeze_count()
"""


def test_who_stays_looks_for_garbage_as_usual() -> None:
    subprocess.run([sys.executable, "-c", _SCRIPT], check=True, timeout=60)
