"""How a process that lives for one command goes about cyclic garbage: hardly at all.

To load the libraries makes some hundred thousand objects, none of which is garbage. Python looks
through them again and again meanwhile, and once more at the end: together a quarter of the time to
plan a table. Memory is bounded by what tables are, and those are columns outside of its reach.
A process that stays is another matter: it looks for garbage as Python does by itself.
"""

from __future__ import annotations

import atexit
import gc
import sys

# Objects made before the youngest, the middle and the oldest are looked through.
_THRESHOLDS = (50_000, 20, 50)
_USUAL_THRESHOLDS = gc.get_threshold()


def spare_collections() -> None:
    """Look for garbage seldom, and not at the end of the process."""
    gc.set_threshold(*_THRESHOLDS)
    atexit.register(_pass_over)


def stay() -> None:
    """Look for garbage as usual from now on, but not among what is loaded by now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_USUAL_THRESHOLDS)


def _pass_over() -> None:
    # DuckDB counts what is left of it at the very end, and calls it leaks on the terminal.
    if "duckdb" not in sys.modules:
        gc.freeze()
