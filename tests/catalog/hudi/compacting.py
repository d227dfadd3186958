"""Jobs on Hudi tables in this process, proved row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catalog.hudi.table import HudiTable
from compactor.jobs.compaction import compact_table
from compactor.jobs.options import JobOptions
from compactor.jobs.planning import plan_table
from compactor.jobs.report import JobReport
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.store import open_store
from compactor.jobs.verification import Verification, verify_snapshots
from compactor.planner.plan import Plan
from compactor.planner.policy import Policy
from compactor.proof import Proof
from runtime.connect import connect

POLICY = Policy(min_input_files=2)
OPTIONS = JobOptions(proof=Proof.FULL)


def compact(table: HudiTable, directory: Path, policy: Policy = POLICY) -> JobReport:
    with environment(directory) as made:
        return compact_table(table, policy, environment=made, options=OPTIONS)


def planned(table: HudiTable, policy: Policy = POLICY) -> Plan:
    return plan_table(table, policy, now_ms=0)


def verified(table: HudiTable, before: str) -> Verification:
    with connect("inline") as runtime:
        return verify_snapshots(table, before, table.snapshot().snapshot_id, runtime=runtime)


@contextmanager
def environment(directory: Path) -> Iterator[JobEnvironment]:
    with connect("inline") as runtime, open_store(f"sqlite:///{directory}/jobs.db") as store:
        yield JobEnvironment(runtime, store)
