"""A process that compacts a table and may be killed: `driver.py DIRECTORY RUNTIME FORMAT`.

Beside the failpoints of the program it has those of `crashes` in the middle of a commit, and two
that interrupt it, as Ctrl-C does, when the first group is written. For a commit to be absent, the
table refuses it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from compactor.jobs.compaction import compact_table
from compactor.jobs.events import Event, GroupFinished, GroupStarted
from compactor.jobs.failpoints import VARIABLE
from compactor.jobs.options import JobOptions
from compactor.jobs.runner import JobEnvironment
from runtime.connect import connect
from tests.compactor.jobs.lake import POLICY, lake_of, open_jobs

INTERRUPTED, INTERRUPTED_TWICE = "interrupted", "interrupted-twice"


def interrupt() -> None:
    """Press Ctrl-C as often as asked for, once per process."""
    wanted = os.environ.pop(VARIABLE, "") if "interrupted" in os.environ.get(VARIABLE, "") else ""
    for _ in range([INTERRUPTED, INTERRUPTED_TWICE].index(wanted) + 1 if wanted else 0):
        os.kill(os.getpid(), signal.SIGINT)


def main(directory: Path, address: str, kind: str) -> None:
    lake = lake_of(kind, directory)
    lake.arm()
    started: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, GroupStarted):
            started.append(event.group_id)
        elif isinstance(event, GroupFinished):
            interrupt()

    with open_jobs(directory) as store, connect(address, workers=2) as runtime:
        report = compact_table(
            lake.open(),
            POLICY,
            environment=JobEnvironment(runtime, store, note),
            # Two that end at once make way for two more: one of five is left for an interrupt.
            options=JobOptions(commit_groups_max=2, in_flight_max=2),
        )
    sys.stdout.write(json.dumps({"report": asdict(report), "started": started}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
