"""Commands done by a service print what they print when they are done here."""

import json
import threading

import pytest

from tests.compactor.cli.calls import invoke
from tests.compactor.service.rpc.serving import make_table, served


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("served")
    targets = [make_table(directory / name) for name in ("orders", "clicks", "views")]
    with served(directory, targets) as running:
        yield running


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    for name in ("COMPACT_SERVER", "COMPACT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def target(api, number):
    return api.parts.config.table_rules[number].pattern


def both(api, *arguments):
    """Return what a command prints here, on the store of the service, and what it prints there."""
    here = invoke(*arguments, "--config", api.config_file)
    there = invoke(*arguments, "--server", api.address)
    assert (here.exit_code, there.exit_code) == (0, 0), there.stderr
    return here.stdout, there.stdout


class Working:
    """Does what comes into the queue while the block runs."""

    def __init__(self, api):
        self._api = api
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _run(self):
        from compactor.service.executor import Executor

        api = self._api
        executor = Executor(api.parts.store, api.parts.config, api.parts.registry, instance="test")
        while not self._ended.wait(0.05):
            executor.fill()
            executor.watch()
        executor.drain(wait_seconds=60)


def test_plans_and_health(api):
    for arguments in (["plan", target(api, 1)], ["tables", target(api, 0), target(api, 1)]):
        here, there = both(api, *arguments)
        assert here == there
        here, there = (json.loads(text) for text in both(api, *arguments, "--json"))
        for one in (here, there):
            one.pop("planned_at_ms", None)
        assert here == there


def test_a_plan_takes_other_policies_and_nothing_else(api):
    arguments = ["plan", target(api, 1), "--server", api.address]
    assert invoke(*arguments, "--check").exit_code == 4
    assert invoke(*arguments, "--check", "--min-input-files", "9").exit_code == 0
    refused = invoke(*arguments, "--workers", "2")
    assert refused.exit_code == 2
    assert "`--workers` cannot be given together with a service" in refused.stderr


def test_tables_by_a_glob(api):
    pattern = target(api, 0).rpartition("/")[0] + "/*"
    found = invoke("tables", pattern, "--server", api.address, "--json")
    names = {one["table"] for one in json.loads(found.stdout)["tables"]}
    assert names == {target(api, number) for number in range(3)}


def test_a_run_and_its_job(api, monkeypatch):
    monkeypatch.setenv("COMPACT_SERVER", api.address)
    with Working(api):
        ran = invoke("run", target(api, 0), "--json")
    assert ran.exit_code == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert (report["status"], report["files_before"], report["files_after"]) == ("succeeded", 6, 1)
    assert "Committed 1 group in snapshot" in ran.stderr
    monkeypatch.delenv("COMPACT_SERVER")
    for arguments in (["jobs", "show", report["job"]], ["jobs", "watch", report["job"]]):
        here, there = both(api, *arguments)
        assert here == there
        assert target(api, 0) in here
    here, there = both(api, "jobs", "list", "--json")
    assert here == there
    assert [job["job"] for job in json.loads(here)["jobs"]] == [report["job"]]


def test_flags_of_a_run_are_refused(api):
    refused = invoke("run", target(api, 0), "--min-input-files", "2", "--server", api.address)
    assert refused.exit_code == 2


def test_a_run_that_finds_nothing_to_do(api):
    with Working(api):
        first = invoke("run", target(api, 2), "--server", api.address)
        again = invoke("run", target(api, 2), "--server", api.address)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "Nothing to do" in again.stdout


@pytest.mark.parametrize("place", ["here", "there"])
def test_what_has_ended_is_not_cancelled(api, place):
    options = ["--config", api.config_file] if place == "here" else ["--server", api.address]
    job = api.parts.store.jobs(table=target(api, 0), limit=1)[0].job
    refused = invoke("jobs", "cancel", job, *options)
    assert refused.exit_code == 1
    assert "error:" in refused.stderr
    unknown = invoke("jobs", "show", "nonsense", *options)
    assert unknown.exit_code == 2
    assert "no single job `nonsense`" in unknown.stderr


def test_a_service_that_is_away():
    failed = invoke("jobs", "list", "--server", "http://127.0.0.1:1")
    assert failed.exit_code == 1
    assert "is `compact serve` running?" in failed.stderr
