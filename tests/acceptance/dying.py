"""`compact`, sent a signal right after it has put a file of a kind on the timeline of a Hudi table.

Usage: dying.py SIGNAL KIND ARGUMENTS...

A kind is what follows the times in the name of the file, as `compaction.inflight`; of the metadata
table's own timeline, it begins with `metadata/`.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys

from catalog.location import Location
from catalog.storage import Storage

_put = Storage.put_if_absent
_, _signal, _kind, *_arguments = sys.argv


def kind_of(location: Location) -> str:
    """Return the kind of a file of a timeline."""
    table, _, name = location.text.rpartition("/.hoodie/")
    kind = name.rpartition("/")[2].partition(".")[2]
    return f"metadata/{kind}" if table.endswith("/.hoodie/metadata") else kind


def put_if_absent(self: Storage, location: Location, data: bytes) -> None:
    """Put the file, and die."""
    _put(self, location, data)
    if kind_of(location) == _kind:
        os.kill(os.getpid(), signal.Signals[_signal])


Storage.put_if_absent = put_if_absent  # type: ignore[method-assign]  # only this process dies
sys.argv = ["compact", *_arguments]
runpy.run_module("compactor.cli.main", run_name="__main__")
