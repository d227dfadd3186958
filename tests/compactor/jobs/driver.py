"""A process that compacts the table of `lake` and may be killed: `driver.py DIRECTORY RUNTIME`.

Beside the failpoints of the program it has two in the middle of the catalog's commit, and two
that interrupt it, as Ctrl-C does, when the first group is written. For a commit to be absent, the
catalog refuses it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyiceberg.catalog import MetastoreCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import ForbiddenError

from compactor.jobs.compaction import compact_table
from compactor.jobs.events import Event, GroupFinished, GroupStarted
from compactor.jobs.failpoints import VARIABLE, Failpoint
from compactor.jobs.options import JobOptions
from compactor.jobs.runner import JobEnvironment
from runtime.connect import connect
from tests.compactor.jobs.lake import POLICY, open_jobs, open_lake

METADATA_WRITTEN = "catalog-metadata-written"
CATALOG_ANSWERED = "catalog-answered"
INTERRUPTED, INTERRUPTED_TWICE = "interrupted", "interrupted-twice"


def _dying_after(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        answer = function(*args, **options)
        if os.environ.get(VARIABLE) == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    return call


def _refusing_before(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        if os.environ.get(VARIABLE) == name:
            raise ForbiddenError("no commits today")
        return function(*args, **options)

    return call


def interrupt() -> None:
    """Press Ctrl-C as often as asked for, once per process."""
    wanted = os.environ.pop(VARIABLE, "") if "interrupted" in os.environ.get(VARIABLE, "") else ""
    for _ in range([INTERRUPTED, INTERRUPTED_TWICE].index(wanted) + 1 if wanted else 0):
        os.kill(os.getpid(), signal.SIGINT)


def main(directory: Path, address: str) -> None:
    MetastoreCatalog._write_metadata = staticmethod(  # type: ignore[method-assign]
        _dying_after(MetastoreCatalog._write_metadata, METADATA_WRITTEN)
    )
    SqlCatalog.commit_table = _dying_after(  # type: ignore[method-assign]
        _refusing_before(SqlCatalog.commit_table, Failpoint.BATCH_ABSENT), CATALOG_ANSWERED
    )
    started: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, GroupStarted):
            started.append(event.group_id)
        elif isinstance(event, GroupFinished):
            interrupt()

    with open_jobs(directory) as store, connect(address, workers=2) as runtime:
        report = compact_table(
            open_lake(directory),
            POLICY,
            environment=JobEnvironment(runtime, store, note),
            options=JobOptions(commit_groups_max=2, in_flight_max=3),
        )
    sys.stdout.write(json.dumps({"report": asdict(report), "started": started}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
