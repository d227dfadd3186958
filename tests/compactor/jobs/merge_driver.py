"""A process that merges changes and may be killed: `merge_driver.py DIRECTORY RUNTIME FORMAT MODE`.

Beside the failpoints of the program it has those of `crashes` in the middle of a commit.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from catalog.location import Location
from catalog.storage import Storage
from compactor.jobs.merge import merge_into
from compactor.jobs.merge_changes import MergeRequest
from compactor.jobs.merge_planning import Writing
from compactor.jobs.options import JobOptions
from compactor.jobs.report import JobReport
from compactor.jobs.runner import JobEnvironment
from compactor.merge.choice import WriteMode
from compactor.merge.rules import MergeRules
from compactor.merge.source_files import FileSource
from compactor.planner.policy import Policy
from compactor.proof import Proof
from runtime.connect import connect
from tests.compactor.jobs.lake import lake_of, open_jobs

CHANGES = "changes"
BY_N = MergeRules(("n",), op_column="op")


def source_of(directory: Path) -> FileSource:
    return FileSource(Storage(), Location.parse(str(directory / CHANGES)))


def merge(directory: Path, address: str, kind: str, mode: str) -> JobReport:
    with open_jobs(directory) as store, connect(address, workers=2) as runtime:
        return merge_into(
            lake_of(kind, directory).open(),
            MergeRequest(BY_N, source_of(directory)),
            writing=Writing(Policy(), Proof.COUNTS, WriteMode(mode)),
            environment=JobEnvironment(runtime, store),
            options=JobOptions(),
        )


def main(directory: Path, address: str, kind: str, mode: str) -> None:
    lake_of(kind, directory).arm()
    report = merge(directory, address, kind, mode)
    sys.stdout.write(json.dumps(asdict(report)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
