"""What every backend with worker processes does alike: deaths, memory, cancelling, size, number.

Subclass `WorkerConformance` with the fixtures of `RuntimeConformance`.
"""

import os
import sys
import time

import numpy as np
import pyarrow as pa
import pytest

import runtime
from tests.runtime import tasks

MIB = 1 << 20


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def make_wide_table(rows):
    numbers = pa.array(np.arange(rows))
    return pa.table({f"n{i}": numbers for i in range(4)} | {"n": numbers})


def total_of_all(*tables):
    return sum(tasks.total(table) for table in tables)


def total_unless_many(sizes):
    if len(sizes) > 2:
        raise MemoryError(f"{len(sizes)} at once")
    return sum(sizes)


def halves(sizes):
    return [(sizes[: len(sizes) // 2],), (sizes[len(sizes) // 2 :],)]


class WorkerConformance:
    """Run against a fixture `rt` of two CPU slots and 4 GiB that keeps its profiles."""

    # ---------------------------------------------------------------- deaths

    def test_a_lost_worker_costs_an_attempt(self, rt, profiles, tmp_path):
        ref = rt.submit(tasks.kill_self_once, str(tmp_path / "marker"))
        assert rt.get(ref) == "survived"
        assert rt.profile(ref).attempt == 2
        assert [p.outcome for p in profiles] == ["lost", "done"]

    def test_attempts_end(self, rt, tmp_path):
        ref = rt.submit(tasks.kill_self, retry=runtime.Retry(attempts=2))
        with pytest.raises(runtime.Lost) as caught:
            rt.get(ref)
        assert caught.value.retryable
        assert rt.profile(ref).outcome == "lost"
        once = rt.submit(
            tasks.kill_self_once, str(tmp_path / "marker"), retry=runtime.Retry(attempts=1)
        )
        with pytest.raises(runtime.Lost):
            rt.get(once)
        assert rt.get(rt.submit(tasks.add, 1, 1)) == 2

    def test_neighbours_of_the_dead_go_on(self, rt):
        neighbour = rt.submit(tasks.sleep_then, 0.3, "fine")
        died = rt.submit(tasks.kill_self, retry=runtime.Retry(1))
        rt.wait([died])
        assert rt.get(neighbour) == "fine"
        assert rt.profile(neighbour).attempt == 1

    @pytest.mark.parametrize("ends_well", [True, False])
    def test_a_copy_of_the_worker_is_not_heard(self, rt, ends_well):
        def fork():
            if os.fork() == 0:
                if not ends_well:
                    raise ValueError("the child")
                return tasks.make_table(100_001)
            os.wait()
            return tasks.make_table(100_000)

        assert rt.get(rt.submit(fork)).num_rows == 100_000
        assert rt.get(rt.submit(abs, -1)) == 1

    def test_streams_that_a_task_puts_in_place_go_with_it(self, rt):
        def drop():
            sys.stdout = None
            sys.stderr = 5

        for _ in range(2):
            assert rt.get(rt.submit(drop, retry=runtime.Retry(1))) is None
            assert rt.get([rt.submit(tasks.speak, "spoken") for _ in range(4)]) == ["spoken"] * 4

    def test_an_actor_dies_with_its_worker(self, rt):
        actor = rt.actor(tasks.Counter, 1)
        calls = [actor.call("add", 1), actor.call("die"), actor.call("add", 1)]
        assert rt.get(calls[0]) == 2
        for call in calls[1:]:
            with pytest.raises(runtime.Lost):
                rt.get(call)
        with pytest.raises(runtime.Lost):
            rt.get(actor.call("add", 1))
        wait_until(lambda: rt.stats().granted == runtime.Resources(0, 0))

    # ---------------------------------------------------------------- memory

    def test_an_oversized_task_fails_alone(self, rt):
        """Ten times its grant in one allocation, while neighbours allocate within theirs."""
        neighbours = [
            rt.submit(tasks.allocate_slowly, 60 * MIB, 10 * MIB, 0.05, memory=100 * MIB)
            for _ in range(7)
        ]
        ref = rt.submit(tasks.allocate, 1000 * MIB, memory=100 * MIB, retry=runtime.Retry(1))
        with pytest.raises(runtime.OutOfMemory, match="MemoryError") as caught:
            rt.get(ref)
        assert caught.value.granted_bytes == 100 * MIB
        assert caught.value.used_bytes > 0
        assert rt.get(neighbours) == [6] * 7
        assert all(rt.profile(ref).attempt == 1 for ref in neighbours)

    def test_is_escalated_until_it_fits(self, rt, profiles):
        ref = rt.submit(tasks.allocate, 600 * MIB, memory=100 * MIB)
        after = rt.submit(tasks.add, ref, 0)
        assert rt.get([ref, after]) == [600 * MIB, 600 * MIB]
        grants = [p.granted_bytes for p in profiles[:-1]]
        assert grants == [100 * MIB, 200 * MIB, 400 * MIB][: len(grants)]
        assert [p.outcome for p in profiles][-3:] == ["out-of-memory", "done", "done"]
        assert rt.profile(ref).attempt == len(grants)

    def test_actors_hold_theirs(self, rt):
        actor = rt.actor(tasks.Counter, 1, memory=3 << 30)
        rt.get(actor.call("add", 1))
        with pytest.raises(runtime.Infeasible):
            rt.actor(tasks.Counter, 1, memory=2 << 30)
        ref = rt.submit(tasks.nothing, memory=3 << 30)
        rt.get(ref)
        assert rt.profile(ref).granted_bytes == 1 << 30
        actor.stop()
        wait_until(lambda: rt.stats().granted == runtime.Resources(0, 0))

    def test_what_outgrows_the_largest_node_is_split(self, rt):
        retry = runtime.Retry(split=halves, join=sum)
        ref = rt.submit(total_unless_many, list(range(16)), memory=4 << 30, retry=retry)
        assert rt.get(rt.submit(tasks.add, ref, 1)) == sum(range(16)) + 1

    # ---------------------------------------------------------------- cancelling

    def test_a_running_task_is_gone_when_cancel_returns(self, rt, tmp_path):
        marker = tmp_path / "marker"
        ref = rt.submit(tasks.touch_then_sleep, str(marker), 60)
        after = rt.submit(tasks.add, ref, 1)
        wait_until(marker.exists)
        assert rt.cancel(ref) is True
        for cancelled in (ref, after):
            with pytest.raises(runtime.Cancelled):
                rt.get(cancelled)
        assert rt.profile(ref).outcome == "cancelled"
        assert rt.stats().granted == runtime.Resources(0, 0)
        assert rt.get(rt.submit(tasks.add, 1, 1)) == 2

    def test_a_queued_task_never_starts(self, rt, tmp_path):
        running = [rt.submit(tasks.sleep_then, 0.5, i) for i in range(2)]
        after = rt.submit(tasks.sleep_then, 0.1, running[0])
        ref = rt.submit(tasks.touch_then_sleep, str(tmp_path / "marker"), after)
        assert rt.cancel(ref) is True
        assert rt.profile(ref) is None
        assert rt.get(running) == [0, 1]
        assert rt.get(after) == 0
        assert not (tmp_path / "marker").exists()

    def test_stopping_an_actor_cancels_its_calls(self, rt):
        actor = rt.actor(tasks.Counter, 1)
        rt.get(actor.call("add", 1))
        calls = [actor.call("sleep", 60), actor.call("add", 1)]
        actor.stop()
        for call in calls:
            with pytest.raises(runtime.Cancelled):
                rt.get(call, 20)

    def test_shutdown_cancels_what_has_not_ended(self, rt):
        refs = [rt.submit(tasks.sleep_then, 60, i) for i in range(5)]
        waiting = rt.submit(tasks.add, refs[0], 1)
        time.sleep(0.1)
        rt.shutdown()
        for ref in [*refs, waiting]:
            with pytest.raises(runtime.Cancelled, match="shut down"):
                rt.get(ref)

    def test_get_in_time(self, rt):
        ref = rt.submit(tasks.sleep_then, 0.4, "late")
        with pytest.raises(TimeoutError, match="1 of 1"):
            rt.get(ref, 0.02)
        assert rt.wait([ref], 1, 0.02) == ([], [ref])
        assert rt.get(ref, 30) == "late"

    # ---------------------------------------------------------------- size and number

    def test_large_values_in_and_out(self, rt):
        rows = 1_000_000
        made = rt.submit(make_wide_table, rows)
        given = rt.put(make_wide_table(rows))
        total = rt.submit(total_of_all, made, given, make_wide_table(rows))
        assert rt.get(total) == 3 * sum(range(rows))
        assert rt.profile(total).input_bytes > 3 * 40 * rows
        assert rt.profile(made).output_bytes > 40 * rows
        assert rt.get(made).equals(rt.get(given))

    def test_more_objects_than_shared_memory_holds(self, rt):
        """What does not fit is kept elsewhere until it is asked for."""
        refs = [rt.submit(tasks.make_array, 4_000_000 + i) for i in range(10)]
        assert [len(rt.get(ref)) for ref in refs] == [4_000_000 + i for i in range(10)]

    def test_ten_thousand_tiny_tasks(self, rt):
        started = time.monotonic()
        refs = [rt.submit(tasks.add, i, 1) for i in range(10_000)]
        assert rt.get(refs) == list(range(1, 10_001))
        assert time.monotonic() - started < 90

    def test_a_wide_and_deep_graph(self, rt):
        layer = [rt.submit(tasks.add, i, 0) for i in range(16)]
        while len(layer) > 1:
            layer = [
                rt.submit(tasks.add, left, right)
                for left, right in zip(layer[::2], layer[1::2], strict=True)
            ]
        assert rt.get(layer[0]) == sum(range(16))

    def test_threads_are_as_many_as_slots(self, rt):
        assert rt.get(rt.submit(tasks.cpus)) == ("1", 1)
        assert rt.get(rt.submit(tasks.cpus, cpus=2)) == ("2", 2)
        assert rt.get(rt.submit(tasks.cpus)) == ("1", 1)
