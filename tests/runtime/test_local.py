import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import runtime
from runtime.local import session
from runtime.local.session import Session
from tests.runtime import tasks
from tests.runtime.worker_conformance import wait_until

MIB = 1 << 20


@pytest.fixture
def profiles():
    return []


@pytest.fixture
def rt(profiles):
    with runtime.connect(
        "local", workers=2, memory_bytes=4 << 30, profile_sink=profiles.append
    ) as rt:
        yield rt


def files_of(rt):
    return [path for path in Path(rt._session.directory).iterdir() if path.name != "spill"]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestWorkers:
    def test_are_started_only_as_there_is_work(self):
        with runtime.connect("local", workers=8) as rt:
            assert rt.stats().workers == 0
            for _ in range(5):
                rt.get(rt.submit(tasks.nothing))
            assert rt.stats().workers == 1

    def test_import_only_what_their_tasks_need(self):
        driver = run_driver("print(*rt.get(rt.submit(tasks.modules)))")
        loaded = set(driver.communicate(timeout=60)[0].split())
        assert "runtime.local.worker" in loaded
        assert not loaded & {"pyarrow", "numpy", "cloudpickle", "subprocess", "sqlite3"}

    def test_are_forked_with_what_the_driver_has_imported(self, rt):
        assert {"pyarrow", "numpy"} <= set(rt.get(rt.submit(tasks.modules)))

    def test_no_more_slots_than_cpus(self, rt):
        refs = [rt.submit(tasks.sleep_then, 0.1, i) for i in range(4)]
        wide = rt.submit(tasks.sleep_then, 0.1, "wide", cpus=2)
        while rt.wait([*refs, wide], 5, 0.02)[1]:
            assert rt.stats().granted.cpus <= 2
        assert rt.get([*refs, wide]) == [0, 1, 2, 3, "wide"]

    def test_that_keep_memory_are_replaced(self, rt):
        def hoard():
            tasks.hoarded = bytearray(300 * MIB)
            tasks.hoarded[::4096] = b"x" * len(tasks.hoarded[::4096])
            return os.getpid()

        assert rt.get(rt.submit(hoard)) != rt.get(rt.submit(tasks.pid))


class TestDeath:
    def test_says_how_the_worker_ended(self, rt, profiles):
        ref = rt.submit(tasks.kill_self, retry=runtime.Retry(attempts=2))
        with pytest.raises(runtime.Lost, match=r"attempt 2: process .* signal SIGKILL"):
            rt.get(ref)
        assert len(profiles) == 2

    def test_an_idle_worker_is_replaced(self, rt):
        pid = rt.get(rt.submit(tasks.pid))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: rt.stats().workers == 0)
        assert rt.get(rt.submit(tasks.pid)) != pid

    def test_is_seen_though_a_child_of_the_worker_lives_on(self, rt):
        def leave_a_child():
            if os.fork() == 0:
                time.sleep(20)
                os._exit(0)
            os._exit(3)

        with pytest.raises(runtime.Lost, match="exit code 3"):
            rt.get(rt.submit(leave_a_child, retry=runtime.Retry(1)), 10)

    def test_what_was_answered_before_it_is_heard(self, rt):
        refs = [rt.submit(abs, -i) for i in range(500)]
        last = rt.submit(os._exit, 3, retry=runtime.Retry(1))
        assert rt.get(refs) == list(range(500))
        with pytest.raises(runtime.Lost, match="exit code 3"):
            rt.get(last)

    def test_of_a_stopped_worker(self, rt):
        ref = rt.submit(_stop_self)
        with pytest.raises(TimeoutError):
            rt.get(ref, 0.3)
        assert rt.cancel(ref)
        assert rt.get(rt.submit(abs, -1)) == 1


def _stop_self():
    os.kill(os.getpid(), signal.SIGSTOP)


def test_standard_streams_may_be_closed(rt):
    def close():
        for fd in range(3):
            os.close(fd)

    assert rt.get(rt.submit(close, retry=runtime.Retry(1))) is None
    assert rt.get(rt.submit(abs, -1)) == 1


class TestMemory:
    def test_the_watchdog_stops_the_worst_when_the_budget_is_used_up(self):
        with runtime.connect("local", workers=2, memory_bytes=300 * MIB) as rt:
            good = rt.submit(tasks.allocate_slowly, 80 * MIB, 10 * MIB, 0.1, memory=140 * MIB)
            bad = rt.submit(
                tasks.allocate_slowly,
                380 * MIB,
                10 * MIB,
                0.02,
                memory=140 * MIB,
                retry=runtime.Retry(1),
            )
            with pytest.raises(runtime.OutOfMemory, match="was stopped at") as caught:
                rt.get(bad)
            assert caught.value.used_bytes > caught.value.granted_bytes == 140 * MIB
            assert rt.get(good) == 8
            assert rt.profile(bad).outcome == "out-of-memory"

    def test_grants_never_exceed_the_budget(self):
        with runtime.connect("local", workers=4, memory_bytes=400 * MIB) as rt:
            refs = [rt.submit(tasks.sleep_then, 0.05, i, memory=150 * MIB) for i in range(6)]
            while rt.wait(refs, 6, 0.01)[1]:
                assert rt.stats().granted.memory_bytes <= 300 * MIB
                assert rt.stats().running <= 2


class TestObjects:
    def test_are_mapped_not_copied(self, rt):
        table = pa.table({"n": np.arange(16 * MIB)})
        ref = rt.put(table)
        before = _private_bytes()
        first, second = rt.get(ref), rt.get(ref)
        assert first.equals(table)
        assert first.nbytes == second.nbytes == 128 * MIB
        assert _private_bytes() - before < 8 * MIB
        task = rt.submit(tasks.total, ref)
        rt.get(task)
        profile = rt.profile(task)
        assert profile.anonymous_peak_bytes < 100 * MIB
        assert profile.hwm_bytes > 128 * MIB

    def test_are_those_of_one_runtime(self, rt):
        with runtime.connect("local", workers=1) as other:
            refs = [other.put(1), other.submit(abs, -1)]
            for ref in refs:
                for use in (rt.get, rt.cancel, rt.profile, lambda ref: rt.submit(abs, ref)):
                    with pytest.raises(TypeError, match="was not made by this runtime"):
                        use(ref)
                with pytest.raises(TypeError, match="was not made by this runtime"):
                    rt.wait([ref])
            assert other.get(refs) == [1, 1]

    def test_hold_no_descriptors(self, rt):
        refs = [rt.put(tasks.make_table(20_000)) for _ in range(50)]
        before = len(list(Path("/proc/self/fd").iterdir()))
        tables = rt.get(refs)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        assert len(tables) == 50

    def test_not_got_before_shutdown_are_lost(self, rt):
        ref = rt.put(tasks.make_table(20_000))
        rt.shutdown()
        with pytest.raises(runtime.Lost, match="shut down"):
            rt.get(ref)

    def test_go_with_their_last_reference(self, rt):
        ref = rt.submit(tasks.make_table, 100_000)
        table = rt.get(ref)
        assert len(files_of(rt)) == 1
        assert rt.stats().object_bytes >= 800_000
        del ref
        assert files_of(rt) == []
        assert tasks.total(table) == 4999950000

    def test_arguments_go_with_their_task(self, rt):
        rt.get([rt.submit(tasks.total, tasks.make_table(100_000)) for _ in range(3)])
        wait_until(lambda: files_of(rt) == [])

    def test_a_dropped_ref_leaves_nothing(self, rt):
        rt.submit(tasks.make_table, 100_000)
        rt.get([rt.submit(tasks.sleep_then, 0.1, None) for _ in range(2)])
        wait_until(lambda: files_of(rt) == [])

    def test_a_large_function_is_shipped_through_the_store(self, rt):
        table = tasks.make_table(100_000)
        assert rt.get([rt.submit(lambda i: table["n"][i].as_py(), i) for i in (1, 99_999)]) == [
            1,
            99_999,
        ]

    def test_more_functions_than_a_worker_keeps(self, rt):
        def maker(i):
            return lambda: i

        functions = [maker(i) for i in range(300)]
        for _ in range(2):
            assert rt.get([rt.submit(fn) for fn in functions]) == list(range(300))

    def test_a_function_that_cannot_be_loaded_fails_each_time(self, rt):
        fn = tasks.Unloadable("cannot load")
        for _ in range(2):
            with pytest.raises(runtime.TaskError, match="cannot load"):
                rt.get(rt.submit(fn))


@pytest.fixture
def small_memory(tmp_path, monkeypatch):
    """Shared memory of 4 MiB, of its own."""
    path = tmp_path / "memory"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(path)]
    if os.getuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    monkeypatch.setattr(session, "SHARED_MEMORY", path)
    monkeypatch.setattr(session, "SHARED_MEMORY_BYTES_MIN", 1 << 20)
    yield path
    subprocess.run(["umount", str(path)], check=True)


class TestFullMemory:
    def test_sends_objects_to_disk(self, small_memory, tmp_path):
        with runtime.connect(
            "local", workers=2, memory_bytes=2 << 30, spill_directory=tmp_path
        ) as rt:
            tables = [tasks.make_table(200_000 + i) for i in range(5)]
            refs = [rt.put(table) for table in tables]
            refs += [rt.submit(tasks.make_table, table.num_rows) for table in tables]
            assert [table.equals(tables[i % 5]) for i, table in enumerate(rt.get(refs))] == [
                True
            ] * 10
            assert rt.get([rt.submit(tasks.total, ref) for ref in refs[5:]])
            stats = rt.stats()
            assert 0 < stats.object_bytes < 4 << 20 < stats.spilled_bytes
            on_disk = Path(rt._session.directory, "spill")
            assert len(list(on_disk.iterdir())) >= 8
            refs.clear()
            wait_until(lambda: not list(on_disk.iterdir()) and not files_of(rt))
            assert rt.stats().object_bytes == 0
        assert list(tmp_path.iterdir()) == [small_memory]
        assert list(small_memory.iterdir()) == []

    def test_and_a_full_disk_are_an_error_of_the_task(self, small_memory):
        with runtime.connect(
            "local", workers=2, memory_bytes=2 << 30, spill_directory=small_memory
        ) as rt:
            for _ in range(2):
                with pytest.raises(runtime.TaskError, match="the object store is full"):
                    rt.get(rt.submit(tasks.make_table, 1_000_000))
                with pytest.raises(OSError, match="the object store is full"):
                    rt.put(tasks.make_table(1_000_000))
            assert files_of(rt) == []
            assert rt.get(rt.submit(tasks.make_table, 100_000)).num_rows == 100_000


class TestSessions:
    def test_leave_nothing_behind(self):
        rt = runtime.connect("local", workers=1)
        ref = rt.put(tasks.make_table(100_000))
        directory = Path(rt._session.directory)
        pid = rt.get(rt.submit(tasks.pid))
        assert directory.exists()
        rt.shutdown()
        assert not directory.exists()
        assert not is_alive(pid)
        del ref

    def test_of_the_dead_are_swept_and_those_of_the_living_are_not(self):
        alive = Session()
        stale = Path(alive.directory).parent / f"lake-runtime-1-{os.getpid()}test"
        stale.mkdir()
        (stale / "v1").write_bytes(b"x")
        unnamed, new = (stale.parent / f".lake-runtime-{os.getpid()}{age}" for age in ("a", "b"))
        unnamed.mkdir()
        new.mkdir()
        os.utime(unnamed, (1, 1))
        Session().close()
        assert not stale.exists()
        assert not unnamed.exists()
        new.rmdir()
        assert Path(alive.directory).exists()
        alive.close()


DRIVER = """
import os, signal, sys, time
import runtime
from tests.runtime import tasks

# It is ignored in whatever a shell runs in the background, these tests included.
signal.signal(signal.SIGINT, signal.default_int_handler)

def by_value(x):
    return x + OFFSET

OFFSET = 5
print("main runs", flush=True)
rt = runtime.connect("local", workers=2)
"""


def run_driver(body, **options):
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER + body],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        **options,
    )


class TestDriver:
    def test_functions_of_main_run_without_running_main_again(self):
        driver = run_driver("print(rt.get([rt.submit(by_value, i) for i in range(4)]))")
        out, err = driver.communicate(timeout=60)
        assert (out, err) == ("main runs\n[5, 6, 7, 8]\n", "")

    def test_prints_of_tasks_go_to_standard_error(self):
        driver = run_driver("print(rt.get(rt.submit(tasks.speak, 'spoken')))")
        out, err = driver.communicate(timeout=60)
        assert out == "main runs\nspoken\n"
        assert "spoken\nno newline" in err
        assert "raw bytes" in err

    def test_a_forgotten_shutdown_leaves_nothing(self):
        driver = run_driver("print(rt._session.directory, rt.get(rt.submit(tasks.pid)))")
        out, err = driver.communicate(timeout=60)
        directory, pid = out.splitlines()[1].split()
        assert (driver.returncode, err) == (0, "")
        assert not Path(directory).exists()
        assert not is_alive(int(pid))

    def test_killed_it_leaves_neither_processes_nor_files(self):
        driver = run_driver(
            "ref = rt.put(tasks.make_table(100_000))\n"
            "idle = rt.get(rt.submit(tasks.pid))\n"
            "busy = rt.submit(tasks.sleep_then, 60, 1); rt.submit(tasks.sleep_then, 60, 1)\n"
            "while rt.stats().running < 2: time.sleep(0.01)\n"
            "pids = [seat.process.pid for seat in rt._dispatcher._crew._seats.values()]\n"
            "print(rt._session.directory, *pids, flush=True)\n"
            "time.sleep(60)"
        )
        driver.stdout.readline()
        directory, *pids = driver.stdout.readline().split()
        assert len(pids) == 2
        assert list(Path(directory).iterdir())
        driver.kill()
        driver.communicate()
        wait_until(lambda: not any(is_alive(int(pid)) for pid in pids), 5)
        assert not Path(directory).exists()

    def test_killed_before_it_has_a_worker_it_leaves_no_session(self):
        driver = run_driver(
            "spill = os.readlink(rt._session.directory + '/spill')\n"
            "print(rt._session.directory, spill, flush=True)\n"
            "time.sleep(60)"
        )
        driver.stdout.readline()
        directory, spill = driver.stdout.readline().split()
        driver.kill()
        driver.communicate()
        wait_until(lambda: not Path(directory).exists() and not Path(spill).exists())

    @pytest.mark.parametrize("how", ["stopped", "with a child"])
    def test_killed_it_leaves_nothing_whatever_its_processes_do(self, how):
        driver = run_driver(
            "ref = rt.put(tasks.make_table(100_000))\n"
            "child = 0\n"
            "rt.submit(tasks.sleep_then, 60, 1); rt.submit(tasks.sleep_then, 60, 1)\n"
            "while rt.stats().running < 2: time.sleep(0.01)\n"
            "pids = [seat.process.pid for seat in rt._dispatcher._crew._seats.values()]\n"
            f"if {how == 'with a child'}:\n"
            "    child = os.fork()\n"
            "    if not child:\n"
            "        os.closerange(0, 3)\n"
            "        time.sleep(60)\n"
            "else:\n"
            "    os.kill(pids[0], 19)\n"
            "pids.append(rt._dispatcher._crew._zygote._process.pid)\n"
            "spill = os.readlink(rt._session.directory + '/spill')\n"
            "print(child, rt._session.directory, spill, *pids, flush=True)\n"
            "time.sleep(60)"
        )
        driver.stdout.readline()
        child, directory, spill, *pids = driver.stdout.readline().split()
        assert len(pids) == 3
        driver.kill()
        driver.communicate()
        try:
            wait_until(lambda: not any(is_alive(int(pid)) for pid in pids), 5)
            wait_until(lambda: not Path(directory).exists() and not Path(spill).exists())
            assert child == "0" or is_alive(int(child))
        finally:
            if child != "0":
                os.kill(int(child), signal.SIGKILL)

    @pytest.mark.parametrize("seconds_before", [0.3, 0.0], ids=["at work", "workers start"])
    def test_interrupted_it_decides_itself(self, seconds_before):
        driver = run_driver(
            "refs = [rt.submit(tasks.sleep_then, 0.8, i) for i in range(2)]\n"
            f"time.sleep({seconds_before})\n"
            "try:\n"
            "    print('ready', flush=True)\n"
            "    time.sleep(60)\n"
            "except KeyboardInterrupt:\n"
            "    print('interrupted', rt.get(refs), rt.profile(refs[1]).attempt)\n",
            process_group=0,
        )
        driver.stdout.readline()
        driver.stdout.readline()
        os.killpg(driver.pid, signal.SIGINT)
        out, err = driver.communicate(timeout=60)
        assert (out, err) == ("interrupted [0, 1] 1\n", "")

    def test_a_full_store_is_an_error_of_the_task(self):
        """A limit on the size of files stands for a full file system."""
        driver = run_driver(
            "import resource\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
            "rt.shutdown()\n"
            "rt = runtime.connect('local', workers=2)\n"
            "ref = rt.submit(tasks.make_table, 1_000_000)\n"
            "try:\n"
            "    rt.get(ref)\n"
            "except runtime.TaskError as error:\n"
            "    print(error)\n"
            "try:\n"
            "    rt.put(tasks.make_table(1_000_000))\n"
            "except OSError as error:\n"
            "    print(error)\n"
            "print(sorted(os.listdir(rt._session.directory)), rt.get(rt.submit(tasks.add, 1, 1)))"
        )
        out, err = driver.communicate(timeout=60)
        lines = out.splitlines()
        assert re.search(r"the object store is full \(80000\d\d bytes wanted\)", lines[1])
        assert "the object store is full" in lines[2]
        assert (lines[3], err) == ("['spill'] 2", "")


def _private_bytes():
    pages = [int(field) for field in Path("/proc/self/statm").read_text().split()]
    return (pages[1] - pages[2]) * os.sysconf("SC_PAGE_SIZE")


def test_an_interpreter_that_cannot_be_started_fails_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    failure = pytest.raises(runtime.Lost, match="no worker could be started")
    with runtime.connect("local", workers=1) as rt, failure:
        rt.get(rt.submit(abs, -1, retry=runtime.Retry(1)), 20)


def leave_a_temporary_file() -> str:
    descriptor, path = tempfile.mkstemp()
    os.close(descriptor)
    return path


def test_temporary_files_of_tasks_go_with_the_session(tmp_path: Path) -> None:
    with runtime.connect("local", workers=1, spill_directory=tmp_path) as rt:
        path = Path(rt.get(rt.submit(leave_a_temporary_file)))
        assert path.is_relative_to(tmp_path)
        assert path.exists()

    assert list(tmp_path.iterdir()) == []
