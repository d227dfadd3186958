"""Ending a job that another process of this machine runs."""

import subprocess
import sys

import pytest

from compactor.cli.local_jobs import LocalJobs
from compactor.errors import JobFailedError
from compactor.jobs.lease import claim
from compactor.jobs.state import JobState
from compactor.jobs.store import JobDetail, JobRecord, open_store

RUNNER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from compactor.jobs.lease import claim
from compactor.jobs.store import open_store
with open_store(sys.argv[1]) as store, claim(store, "lake.a.b") as lease:
    try:
        print(lease.job_id, flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def detail(job, *, is_running):
    record = JobRecord(
        job, "lake.a.b", "", JobState.REWRITING, "", is_running, 1, 0, 1, "1", 0, 0, None
    )
    return JobDetail(record, None, (), (), ())


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/jobs.db"


def test_its_process_is_interrupted_as_by_the_keyboard(url):
    open_store(url).close()
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, url], stdout=subprocess.PIPE, text=True
    ) as runner:
        job = runner.stdout.readline().strip()
        with open_store(url) as store:
            LocalJobs(store).cancel(detail(job, is_running=True), reason="")
        assert runner.stdout.readline() == "interrupted\n"


def test_what_does_not_run_is_told_so(url):
    with open_store(url) as store, pytest.raises(JobFailedError, match="does not run") as refused:
        LocalJobs(store).cancel(detail("j1", is_running=False), reason="")
    assert "compact run lake.a.b" in refused.value.hint


def test_a_process_elsewhere_is_not_reached(url, monkeypatch):
    with open_store(url) as store, claim(store, "lake.a.b") as lease:
        monkeypatch.setattr("compactor.jobs.owner._host", lambda: "elsewhere")
        with pytest.raises(JobFailedError, match="runs as process"):
            LocalJobs(store).cancel(detail(lease.job_id, is_running=True), reason="")
