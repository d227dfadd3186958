"""Objects of the local backend: shared, spilled, given back, and a store that is full."""

import errno
import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

import runtime
from runtime.local import objects
from runtime.local.backlog import TINY_SECONDS_MAX, Backlog
from runtime.local.refs import LocalRef
from runtime.local.store import Inline
from runtime.local.task import Argument, LocalTask, ShippedFunction
from runtime.shuffle import Shuffle, shuffle
from tests.runtime import tasks
from tests.runtime.test_local import files_of, is_alive, run_driver
from tests.runtime.worker_conformance import wait_until

MIB = 1 << 20


def make_numbers(seed, size_bytes=16 * MIB):
    return pa.table({"n": np.random.default_rng(seed).integers(0, 100, size_bytes // 8)})


def total_of(seed):
    return tasks.total(make_numbers(seed))


def rows_and_total(table):
    return table.num_rows, tasks.total(table)


def make_mixed(seed):
    return {"table": make_numbers(seed), "array": np.arange(2 * MIB), "text": "x" * 100_000}


@pytest.fixture
def rt(tmp_path):
    with runtime.connect(
        "local", workers=2, memory_bytes=320 * MIB, spill_directory=tmp_path
    ) as rt:
        yield rt


def spilled_files(rt):
    return list((Path(rt._session.directory) / "spill").iterdir())


class TestSpilling:
    def test_what_is_put_beyond_the_budget_is_read_back(self, rt):
        refs = [rt.put(make_mixed(seed)) for seed in range(14)]
        assert rt.stats().object_bytes <= 320 * MIB
        assert rt.stats().spilled_bytes >= 100 * MIB
        assert spilled_files(rt)
        for seed, ref in enumerate(refs):
            got = rt.get(ref)
            assert got["table"].equals(make_numbers(seed))
            assert np.array_equal(got["array"], np.arange(2 * MIB))
            assert got["text"] == "x" * 100_000
        del ref, got
        refs.clear()
        assert spilled_files(rt) == files_of(rt) == []

    def test_results_beyond_the_budget_are_read_back_by_tasks(self, rt):
        refs = [rt.submit(make_numbers, seed, 32 * MIB, memory=100 * MIB) for seed in range(20)]
        sums = [rt.submit(tasks.total, ref, memory=100 * MIB) for ref in refs]
        assert rt.get(sums) == [tasks.total(make_numbers(seed, 32 * MIB)) for seed in range(20)]
        assert rt.stats().spilled_bytes > 200 * MIB
        assert rt.stats().object_bytes <= 320 * MIB

    def test_segments_are_read_back_one_by_one(self, rt):
        refs = [rt.submit(tasks.segments, 4, MIB, memory=120 * MIB) for _ in range(12)]
        sums = [rt.submit(tasks.totals, runtime.Gather(refs, place)) for place in range(4)]
        assert rt.get(sums) == [[place * MIB] * 12 for place in range(4)]
        assert rt.stats().spilled_bytes > 0

    def test_a_shuffle_larger_than_the_budget(self):
        plan = Shuffle(("n",), 4, read=make_numbers, reduce=rows_and_total)
        with runtime.connect("local", workers=2, memory_bytes=160 * MIB) as rt:
            found = rt.get(shuffle(rt, range(12), plan, memory=60 * MIB))
            assert sum(rows for rows, _ in found) == 12 * 2 * MIB
            assert sum(total for _, total in found) == sum(map(total_of, range(12)))
            assert rt.stats().spilled_bytes > 32 * MIB
            wait_until(lambda: files_of(rt) == spilled_files(rt) == [])

    def test_a_full_disk_is_an_error(self, rt, monkeypatch):
        def full(path, freed):
            raise OSError(errno.ENOSPC, "no space left on device")

        monkeypatch.setattr(objects, "spill", full)
        refs = []
        with pytest.raises(OSError, match="the object store is full, and so is the disk"):
            refs.extend(rt.put(make_numbers(seed)) for seed in range(30))
        with pytest.raises(runtime.TaskError, match="the object store is full") as caught:
            rt.get(rt.submit(tasks.nothing, memory=200 * MIB))
        assert caught.value.cause.errno == errno.ENOSPC
        refs.clear()
        assert rt.get(rt.submit(tasks.add, 1, 1, memory=200 * MIB)) == 2


class TestSegments:
    def test_make_one_file(self, rt):
        ref = rt.submit(tasks.segments, 100, 10_000)
        rt.wait([ref])
        assert len(files_of(rt)) == 1

    def test_are_given_back(self, rt):
        ref = rt.submit(tasks.segments, 2, MIB)
        first = rt.submit(tasks.totals, runtime.Gather([ref], 0, frees=True))
        assert rt.get(first) == [0]
        wait_until(lambda: rt.stats().object_bytes < 9 * MIB)
        assert rt.get(rt.submit(tasks.totals, runtime.Gather([ref], 1))) == [MIB]
        for again in (runtime.Gather([ref], 0), runtime.Gather([ref]), ref):
            with pytest.raises(runtime.Lost, match="given back"):
                rt.get(rt.submit(tasks.nothing_of, again))
        with pytest.raises(runtime.Lost, match="given back"):
            rt.get(ref)

    def test_of_several_returns_live_as_long_as_one_of_them(self, rt):
        left, right = rt.submit(tasks.halves, ["x" * 100_000, "y" * 100_000], returns=2)
        assert rt.get(left) == ["x" * 100_000]
        del left
        assert len(files_of(rt)) == 1
        assert rt.get(right) == ["y" * 100_000]
        del right
        wait_until(lambda: files_of(rt) == [])


class TestZeroCopy:
    def test_a_large_table_costs_no_memory_of_its_own(self):
        with runtime.connect("local", workers=1, memory_bytes=4 << 30) as rt:
            ref = rt.put(pa.table({"n": np.zeros(512 * MIB // 8)}))
            rt.get(rt.put(tasks.make_table(100_000)))
            before = psutil.Process().memory_info()
            table = rt.get(ref)
            after = psutil.Process().memory_info()
            assert table.nbytes == 512 * MIB
            assert after.rss - before.rss < 4 * MIB


class TestSplitting:
    @pytest.mark.parametrize("address", ["inline", "local"])
    def test_a_task_that_outgrows_the_budget_is_split(self, address, monkeypatch):
        numbers = list(range(16))
        retry = runtime.Retry(split=tasks.split_numbers, join=sum)
        with runtime.connect(address, workers=2, memory_bytes=300 * MIB) as rt:
            fn = tasks.need_memory if address == "local" else refuse_many
            ref = rt.submit(fn, numbers, memory=200 * MIB, retry=retry)
            after = rt.submit(tasks.add, ref, 1)
            assert rt.get([ref, after]) == [sum(numbers), sum(numbers) + 1]

    @pytest.mark.parametrize("address", ["inline", "local"])
    def test_what_cannot_be_split_fails(self, address):
        retry = runtime.Retry(split=tasks.split_numbers)
        with runtime.connect(address, workers=1, memory_bytes=200 * MIB) as rt:
            ref = rt.submit(tasks.fail_from_memory_of, [1], retry=retry)
            with pytest.raises(runtime.OutOfMemory):
                rt.get(ref)

    def test_cancelled_it_takes_its_parts_along(self):
        retry = runtime.Retry(split=tasks.split_numbers, join=sum)
        with runtime.connect("local", workers=1, memory_bytes=200 * MIB) as rt:
            ref = rt.submit(tasks.fail_many_else_sleep, [1, 2, 3, 4], retry=retry)
            wait_until(lambda: rt.stats().queued > 2)
            assert rt.cancel(ref)
            wait_until(lambda: rt.stats().queued + rt.stats().running == 0)


def refuse_many(numbers):
    if len(numbers) > 4:
        raise MemoryError("too many")
    return sum(numbers)


class TestBatches:
    def test_a_batch_behind_a_slow_task_is_cancelled_one_by_one(self, rt):
        rt.get([rt.submit(tasks.sleep_then, 0, i) for i in range(200)])
        refs = [rt.submit(tasks.sleep_then, 0.5 if i == 0 else 0, i) for i in range(40)]
        assert rt.cancel(refs[30])
        done = [ref for ref in refs if ref is not refs[30]]
        assert rt.get(done) == [i for i in range(40) if i != 30]
        with pytest.raises(runtime.Cancelled):
            rt.get(refs[30])

    def test_a_death_costs_the_task_that_ran_and_no_other(self, rt, tmp_path):
        rt.get([rt.submit(tasks.kill_self_once, "/") for _ in range(200)])
        marker = str(tmp_path / "marker")
        refs = [rt.submit(tasks.kill_self_once, marker if i == 5 else "/") for i in range(40)]
        assert rt.get(refs) == ["survived"] * 40
        attempts = [rt.profile(ref).attempt for ref in refs]
        assert attempts == [2 if i == 5 else 1 for i in range(40)]

    def test_one_interruption_does_not_make_a_tiny_task_a_long_one(self):
        function = ShippedFunction(1, "f", Argument(Inline(()), None))
        task = LocalTask(refs=(LocalRef(1),), function=function, inputs=())
        backlog = Backlog(lambda _: None)
        for seconds in [20e-6] * 50 + [0.05]:
            backlog.ended(task, seconds)
        assert function.mean_seconds < TINY_SECONDS_MAX / 2
        for _ in range(6):
            backlog.ended(task, 0.05)
        assert function.mean_seconds > TINY_SECONDS_MAX


class TestZygote:
    def test_is_started_anew(self, rt):
        rt.get(rt.submit(tasks.nothing))
        (zygote,) = (
            child
            for child in psutil.Process().children()
            if "runtime.local.zygote" in child.cmdline()
        )
        os.kill(zygote.pid, signal.SIGKILL)
        ref = rt.submit(tasks.kill_self_once, "/")
        other = [rt.submit(tasks.sleep_then, 0.1, i) for i in range(4)]
        assert rt.get([ref, *other]) == ["survived", 0, 1, 2, 3]


class TestKilledDriver:
    def test_in_the_middle_of_a_shuffle_it_leaves_nothing(self, tmp_path):
        driver = run_driver(
            "from tests.runtime.test_shuffle import make_input\n"
            "from runtime.shuffle import Shuffle, shuffle\n"
            "plan = Shuffle(('k',), 8, read=lambda seed: make_input(seed, 400_000),\n"
            "               reduce=lambda table: time.sleep(60))\n"
            "refs = shuffle(rt, range(6), plan)\n"
            "while rt.stats().finished < 6: time.sleep(0.01)\n"
            "spill = os.readlink(rt._session.directory + '/spill')\n"
            "pids = [seat.process.pid for seat in rt._dispatcher._crew._seats.values()]\n"
            "zygote = rt._dispatcher._crew._zygote._process.pid\n"
            "print(rt._session.directory, spill, zygote, *pids, flush=True)\n"
            "time.sleep(60)"
        )
        driver.stdout.readline()
        directory, spill, *pids = driver.stdout.readline().split()
        assert len(pids) == 3
        assert len(list(Path(directory).iterdir())) > 1
        driver.kill()
        driver.communicate()
        deadline = time.monotonic() + 10
        while any(is_alive(int(pid)) for pid in pids) or Path(directory).exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not Path(spill).exists()
