"""Jobs on worker processes that die under them."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil

from compactor.jobs.compaction import compact_table
from compactor.jobs.events import AttemptFailed, Event
from compactor.jobs.options import JobOptions
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.state import JobState
from runtime.connect import connect
from tests.compactor.jobs.lake import POLICY, lake_of, open_jobs


def kill_workers(until: threading.Event) -> None:
    """Kill whatever worker there is, over and over."""
    while not until.wait(0.02):
        for child in psutil.Process().children():
            try:
                if "runtime.local.zygote" in child.cmdline():
                    for worker in child.children():
                        worker.kill()
            except psutil.NoSuchProcess:
                continue


def test_attempts_whose_worker_dies_are_made_again(tmp_path: Path) -> None:
    lake = lake_of("iceberg", tmp_path)
    lake.make()
    before = lake.contents()
    failed: list[AttemptFailed] = []
    enough = threading.Event()

    def note(event: Event) -> None:
        if isinstance(event, AttemptFailed):
            failed.append(event)
            enough.set()

    killer = threading.Thread(target=kill_workers, args=(enough,))
    with open_jobs(tmp_path) as store, connect("local", workers=2) as runtime:
        killer.start()
        try:
            report = compact_table(
                lake.open(),
                POLICY,
                environment=JobEnvironment(runtime, store, note),
                options=JobOptions(attempts_max=50),
            )
        finally:
            enough.set()
            killer.join()
    assert failed[0].attempt == 1
    assert all(event.is_retried and "worker-lost" in event.error for event in failed)
    assert report.status is JobState.SUCCEEDED
    assert lake.contents() == before
    assert lake.orphans() == []
