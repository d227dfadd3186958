"""What is Ray's alone: clusters started and joined, their tokens, versions, nesting, leftovers."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import runtime
from tests.runtime import tasks
from tests.runtime.ray_clusters import ENVIRONMENT, cluster
from tests.runtime.worker_conformance import wait_until

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
OWN = """
import os, sys, time
import psutil
import runtime
from tests.runtime import tasks

if __name__ == "__main__":
    rt = runtime.connect("ray", workers=1, memory_bytes=512 << 20)
    rt.get(rt.submit(tasks.nothing))
{body}    print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
"""

SHUFFLE = """
    from runtime.shuffle import Shuffle, shuffle
    plan = Shuffle(("k",), 4, read=lambda seed: tasks.make_keys(seed, 50_000),
                   reduce=lambda table: time.sleep(60))
    refs = shuffle(rt, range(3), plan)
    while rt.stats().finished < 4:
        time.sleep(0.05)
"""


def connects():
    with runtime.connect("ray") as rt:
        return rt.get(rt.submit(tasks.nothing))


def environment(home):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)}


def run_driver(code, home):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_gone(pids, seconds):
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if psutil.pid_exists(pid)]:
        assert time.monotonic() < deadline, [psutil.Process(pid).cmdline() for pid in left]
        time.sleep(0.1)


@pytest.fixture(scope="module")
def address():
    with cluster({"num_cpus": 2, "memory": 1 << 30}) as started:
        yield f"ray://{started.address}"


class TestJoined:
    def test_a_runtime_within_an_open_one_leaves_it_open(self, address):
        with runtime.connect(address) as outer:
            with runtime.connect(address) as inner:
                assert inner.get(inner.submit(tasks.add, 1, 1)) == 2
            assert outer.get(outer.submit(tasks.add, 1, 2)) == 3
            with pytest.raises(ConnectionError, match="connected to another cluster"):
                runtime.connect("ray://127.0.0.1:1")
        with pytest.raises(ConnectionError, match="no Ray cluster answers"):
            runtime.connect("ray://127.0.0.1:1")
        with pytest.raises(ConnectionError, match="host:port"):
            runtime.connect("ray://127.0.0.1")

    def test_tasks_start_no_tasks(self, address):
        with (
            runtime.connect(address) as rt,
            pytest.raises(runtime.TaskError, match="a task cannot start tasks"),
        ):
            rt.get(rt.submit(connects))

    def test_other_versions_are_refused(self, address, monkeypatch):
        from runtime.ray import cluster

        def mine():
            return {"python": "2.7", "pyarrow": "26.0.0", "lake-compactor": "0"}

        def theirs():
            return {"python": "2.7", "pyarrow": "3.0.0", "lake-compactor": "0"}

        answers = iter([mine, theirs])
        monkeypatch.setattr(cluster, "_probe", lambda: next(answers))
        with pytest.raises(ConnectionError, match=r"pyarrow 3\.0\.0, here 26\.0\.0"):
            runtime.connect(address)

    def test_ray_client_is_refused_by_name(self, address, monkeypatch):
        monkeypatch.setattr("ray.util.client.ray.is_connected", lambda: True)
        for wanted in ("ray", address):
            with pytest.raises(ConnectionError, match="Ray Client is not supported"):
                runtime.connect(wanted)
        monkeypatch.undo()
        monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
        with pytest.raises(ConnectionError, match="Ray Client is not supported"):
            runtime.connect("ray")

    def test_what_may_be_used_can_be_less_than_there_is(self, address):
        with runtime.connect(address, workers=1, memory_bytes=300 << 20) as rt:
            assert rt.stats().total == runtime.Resources(1, 300 << 20)
            with pytest.raises(runtime.Infeasible, match=r"at most 300\.0 MiB"):
                rt.submit(tasks.nothing, memory=400 << 20)
            refs = [rt.submit(tasks.sleep_then, 0.05, i) for i in range(6)]
            while rt.wait(refs, 6, 0.01)[1]:
                assert rt.stats().granted.cpus <= 1
            assert rt.get(refs) == list(range(6))

    def test_objects_are_accounted_for_and_go_with_their_refs(self, address):
        with runtime.connect(address) as rt:
            refs = [rt.submit(tasks.make_table, 100_000), rt.put(tasks.make_table(100_000))]
            rt.wait(refs, 2)
            assert 1_600_000 < rt.stats().object_bytes < 1_700_000
            del refs
            # The dispatcher may still have the last task in its hands.
            wait_until(lambda: rt.stats().object_bytes == 0)

    def test_without_the_token_nobody_joins(self, address, tmp_path):
        driver = run_driver(f"import runtime\nruntime.connect({address!r})", tmp_path)
        _, err = driver.communicate(timeout=100)
        assert driver.returncode == 1
        assert "needs RAY_AUTH_MODE=token" in err


class TestOwn:
    def test_shutdown_leaves_nothing(self, tmp_path):
        driver = run_driver(
            OWN.format(body="") + "    rt.shutdown()\n    print(dict(os.environ))", tmp_path
        )
        out, err = driver.communicate(timeout=100)
        lines = out.splitlines()
        assert (driver.returncode, err) == (0, "")
        wait_until_gone([int(pid) for pid in lines[0].split()], 10)
        assert "RAY_AUTH" not in lines[1]
        assert not (tmp_path / ".ray").exists()

    def test_killed_in_the_middle_of_a_shuffle_it_leaves_no_node(self, tmp_path):
        """Ray's two agents ask the dead for another minute before they go, too."""
        driver = run_driver(OWN.format(body=SHUFFLE) + "    time.sleep(100)", tmp_path)
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        pids = [pid for pid in pids if "Agent" not in psutil.Process(pid).cmdline()[0]]
        driver.kill()
        driver.communicate(timeout=10)
        assert len(pids) > 3
        wait_until_gone(pids, 30)


def test_a_full_store_is_an_error_and_passes(monkeypatch):
    """Ray takes the disk for full as soon as it is asked to spill."""
    monkeypatch.setitem(ENVIRONMENT, "RAY_local_fs_capacity_threshold", "0")
    with (
        cluster({"num_cpus": 2, "memory": 1 << 30}) as started,
        runtime.connect(f"ray://{started.address}") as rt,
    ):
        refs = [rt.put(tasks.make_table(5_000_000)) for _ in range(2)]
        with pytest.raises(OSError, match="the object store is full"):
            refs.append(rt.put(tasks.make_table(10_000_000)))
        assert rt.get(refs[0]).num_rows == 5_000_000
        refs.clear()
        assert rt.get(rt.submit(tasks.add, 1, rt.put(2))) == 3
