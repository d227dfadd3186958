"""What every backend does alike: subclass `RuntimeConformance` with a `rt` fixture."""

import copy
import os
import pickle
import threading

import numpy as np
import pyarrow as pa
import pytest

import runtime
from runtime.shuffle import Shuffle, shuffle
from tests.runtime import tasks

HOSTILE = ("leaves", "cannot_be_pickled", "exits")


class RuntimeConformance:
    """Run against a fixture `rt` of two CPU slots and 4 GiB that keeps its profiles."""

    # ---------------------------------------------------------------- values

    def test_runs_a_function(self, rt):
        assert rt.get(rt.submit(tasks.add, 1, 2)) == 3

    def test_runs_lambdas_closures_and_callables(self, rt):
        offset = 10
        refs = [rt.submit(lambda x: x + offset, 1), rt.submit(tasks.Counter(5).add, 2)]
        assert rt.get(refs) == [11, 7]

    def test_resolves_refs_that_are_arguments(self, rt):
        first = rt.submit(tasks.add, 1, 2)
        assert rt.get(rt.submit(tasks.add, first, rt.put(4))) == 7

    def test_refuses_refs_inside_containers(self, rt):
        with pytest.raises(runtime.TaskError, match="a Ref can only be an argument"):
            rt.submit(tasks.add, [rt.put(1)], [2])

    @pytest.mark.parametrize(
        "wanted",
        [
            {"cpus": 1.5},
            {"memory": 1.5},
            {"memory": float("nan")},
            {"memory": "1"},
            {"returns": 1.5},
            {"cpus": runtime.Resources(1, 0.5)},
            {"key": "orders"},
            {"key": ["orders", "rewrite"]},
            {"key": ("orders", 1)},
        ],
    )
    def test_refuses_what_is_no_amount_or_key(self, rt, wanted):
        with pytest.raises(TypeError):
            rt.submit(abs, -1, **wanted)
        with pytest.raises(TypeError):
            rt.actor(tasks.Counter, 1, memory=1.5)
        assert rt.get(rt.submit(abs, -1, memory=np.int64(1 << 28), cpus=np.int64(1))) == 1

    @pytest.mark.parametrize("place", ["raised", "returned"])
    @pytest.mark.parametrize(
        "name", ["leaves", "cannot_be_looked_at", "cannot_be_pickled", "exits"]
    )
    def test_hostile_exceptions_and_results(self, rt, name, place):
        ref = rt.submit(tasks.hostile, name, place, os.getpid(), retry=runtime.Retry(1))
        if (name, place) == ("leaves", "returned"):
            assert isinstance(rt.get(ref), tasks.Leaves)
        else:
            with pytest.raises(runtime.TaskError):
                rt.get(ref)
        assert rt.get(rt.submit(abs, -1)) == 1

    def test_deep_chain(self, rt):
        ref = rt.put(0)
        for _ in range(300):
            ref = rt.submit(tasks.add, ref, 1)
        assert rt.get(ref) == 300

    def test_get_keeps_the_order_of_the_list(self, rt):
        refs = [rt.submit(tasks.add, i, 0) for i in range(20)]
        assert rt.get(refs) == list(range(20))
        assert rt.get([]) == []

    def test_results_are_copies(self, rt):
        given = [1, 2]
        ref = rt.put(given)
        given.append(3)
        rt.get(ref).append(4)
        assert rt.get(ref) == [1, 2]

    @pytest.mark.parametrize("rows", [0, 1, 100_000])
    def test_tables_inside_values(self, rt, rows):
        group = tasks.Group("g", tasks.make_table(rows))
        small = rt.get(rt.submit(tasks.shrink, group))
        assert small == tasks.Group("g-small", group.table.slice(2, 3))

    def test_every_kind_of_arrow_value(self, rt):
        table = pa.table({"n": [1, None, 3], "s": ["a", "b", None]}).replace_schema_metadata(
            {"k": "v"}
        )
        batch = table.to_batches()[0]
        values = [table, batch, table["s"], batch["n"], table.slice(1, 1), table.select([])]
        for got, value in zip(rt.get(rt.put(values)), values, strict=True):
            assert type(got) is type(value)
            assert got.equals(value)
        assert rt.get(rt.put(table)).schema.equals(table.schema, check_metadata=True)

    def test_slices_ship_their_own_rows_only(self, rt):
        big = tasks.make_table(1_000_000)
        ref = rt.submit(tasks.total, big.slice(10, 5))
        assert rt.get(ref) == 60
        assert rt.profile(ref).input_bytes < 10_000
        ref = rt.submit(tasks.shrink, tasks.Group("g", big))
        rt.get(ref)
        assert rt.profile(ref).output_bytes < 10_000

    def test_arrays_are_read_only(self, rt):
        array = rt.get(rt.submit(tasks.make_array, 100_000))
        assert not array.flags.writeable
        assert np.array_equal(array, np.arange(100_000))
        assert not rt.get(rt.submit(tasks.is_writable, array))
        assert not rt.get(rt.submit(tasks.is_writable, np.arange(3)))

    # ---------------------------------------------------------------- several values

    def test_several_returns_have_a_ref_each(self, rt):
        left, right = rt.submit(tasks.halves, [1, 2, 3, 4], returns=2)
        assert rt.get([left, right]) == [[1, 2], [3, 4]]
        assert rt.get(rt.submit(tasks.add, right, left)) == [3, 4, 1, 2]
        assert rt.profile(left) == rt.profile(right)

    def test_other_than_the_promised_number_of_returns(self, rt):
        refs = rt.submit(tasks.halves, [1, 2], returns=3)
        assert len(refs) == 3
        for ref in refs:
            with pytest.raises(runtime.TaskError, match="returned 2 values"):
                rt.get(ref)
        with pytest.raises(ValueError, match="returns must be at least 1"):
            rt.submit(tasks.halves, [1, 2], returns=0)

    @pytest.mark.parametrize("rows", [1, 50_000])
    def test_segments_are_read_one_by_one(self, rt, rows):
        refs = [rt.submit(tasks.segments, 3, rows) for _ in range(4)]
        sums = rt.submit(tasks.totals, runtime.Gather(refs, 2))
        assert rt.get(sums) == [2 * rows] * 4
        assert [table.num_rows for table in rt.get(refs[0])] == [rows] * 3

    def test_gathers_whole_values(self, rt):
        refs = [rt.submit(tasks.make_table, rows) for rows in (1, 2, 3)]
        assert rt.get(rt.submit(tasks.totals, runtime.Gather(refs))) == [0, 1, 3]
        assert rt.get(rt.submit(tasks.totals, runtime.Gather([]))) == []

    def test_labels_that_no_node_has(self, rt):
        wanted = runtime.Resources(1, 0, {"zone": "nowhere"})
        with pytest.raises(runtime.Infeasible, match="zone=nowhere"):
            rt.submit(tasks.nothing, cpus=wanted)

    # ---------------------------------------------------------------- errors

    def test_an_exception_keeps_its_type_and_traceback(self, rt):
        with pytest.raises(runtime.TaskError, match="ValueError: wrong") as caught:
            rt.get(rt.submit(tasks.fail, "wrong"))
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.cause.args == ("wrong",)
        assert "in fail" in caught.value.remote_traceback
        assert not caught.value.retryable

    def test_an_exception_of_a_local_class(self, rt):
        class OwnError(Exception):
            pass

        def raises():
            raise OwnError("mine")

        with pytest.raises(runtime.TaskError, match="OwnError: mine") as caught:
            rt.get(rt.submit(raises))
        assert isinstance(caught.value.cause, OwnError)

    @pytest.mark.parametrize("fn", [tasks.fail_picky, tasks.fail_locked])
    def test_an_exception_that_cannot_travel(self, rt, fn):
        with pytest.raises(runtime.TaskError) as caught:
            rt.get(rt.submit(fn))
        assert isinstance(caught.value.cause, RuntimeError)
        assert "Error: " in str(caught.value)
        assert rt.get(rt.submit(tasks.add, 1, 1)) == 2

    def test_system_exit_is_an_error_of_the_task(self, rt):
        with pytest.raises(runtime.TaskError, match="SystemExit: 3"):
            rt.get(rt.submit(tasks.system_exit))

    def test_an_unpicklable_result(self, rt):
        with pytest.raises(runtime.TaskError, match="cannot pickle"):
            rt.get(rt.submit(tasks.unpicklable_result))

    def test_a_result_that_cannot_be_rebuilt(self, rt):
        ref = rt.submit(tasks.Unloadable, "cannot load")
        with pytest.raises(runtime.TaskError, match="cannot be rebuilt here: ValueError"):
            rt.get(ref)
        with pytest.raises(runtime.TaskError, match="cannot load"):
            rt.get(rt.submit(tasks.nothing_of, ref))

    def test_an_unpicklable_function_or_argument(self, rt):
        lock = threading.Lock()
        with pytest.raises(runtime.TaskError, match=r"cannot ship the function .*lambda"):
            rt.submit(lambda: (lock, 1))
        with pytest.raises(runtime.TaskError, match="cannot ship an argument of type lock"):
            rt.submit(tasks.add, lock, 1)
        with pytest.raises(runtime.TaskError, match="cannot ship the value"):
            rt.put(lock)

    def test_memory_errors_are_out_of_memory_wherever_they_hide(self, rt):
        ref = rt.submit(tasks.fail_from_memory, memory=100 << 20, retry=runtime.Retry(1))
        with pytest.raises(runtime.OutOfMemory, match=r"granted 100\.0 MiB") as caught:
            rt.get(ref)
        assert caught.value.granted_bytes == 100 << 20
        assert caught.value.used_bytes > 0
        assert rt.profile(ref).outcome == "out-of-memory"

    def test_a_failed_input_fails_what_needs_it(self, rt):
        failed = rt.submit(tasks.fail, "first")
        after = rt.submit(tasks.add, rt.submit(tasks.add, 1, failed), 1)
        with pytest.raises(runtime.TaskError, match="first"):
            rt.get(after)

    def test_errors_survive_pickling_and_repeated_raising(self, rt):
        ref = rt.submit(tasks.fail, "again")
        for _ in range(2):
            with pytest.raises(runtime.TaskError) as caught:
                rt.get(ref)
        for twin in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
            assert str(twin) == str(caught.value)
            assert isinstance(twin.__cause__, ValueError)
            assert twin.remote_traceback == caught.value.remote_traceback

    def test_infeasible_requests_are_refused_at_submit(self, rt):
        with pytest.raises(runtime.Infeasible, match=r"at most 4,096\.0 MiB") as caught:
            rt.submit(tasks.nothing, memory=5 << 30)
        assert (caught.value.requested_bytes, caught.value.budget_bytes) == (5 << 30, 4 << 30)
        with pytest.raises(runtime.Infeasible, match="3 CPU slots, there are 2"):
            rt.submit(tasks.nothing, cpus=3)
        with pytest.raises(runtime.Infeasible):
            rt.actor(tasks.Counter, 1, memory=5 << 30)

    def test_requests_that_make_no_sense(self, rt):
        with pytest.raises(ValueError, match="cpus"):
            rt.submit(tasks.nothing, cpus=0)
        with pytest.raises(ValueError, match="memory"):
            rt.submit(tasks.nothing, memory=-1)
        with pytest.raises(ValueError, match="attempts"):
            runtime.Retry(0)

    def test_refs_of_others_are_refused(self, rt):
        with pytest.raises(TypeError, match="not made by this runtime"):
            rt.get(runtime.Ref(1))

    # ---------------------------------------------------------------- waiting and ending

    def test_wait_one_by_one(self, rt):
        pending = [rt.submit(tasks.sleep_then, 0.01 * i, i) for i in range(6)]
        seen = []
        while pending:
            done, pending = rt.wait(pending, timeout_seconds=30)
            assert done
            seen += rt.get(done)
        assert sorted(seen) == list(range(6))

    def test_wait_counts_failures_as_ended(self, rt):
        refs = [rt.submit(tasks.fail, "x"), rt.submit(tasks.nothing)]
        assert rt.wait(refs, 2, 30) == (refs, [])
        assert rt.wait(refs, 9) == (refs, [])
        assert rt.wait([]) == ([], [])

    def test_cancelling_what_has_ended_does_nothing(self, rt):
        ref = rt.submit(tasks.nothing)
        rt.get(ref)
        assert rt.cancel(ref) is False
        assert rt.get(ref) is None

    def test_after_shutdown(self, rt):
        ref = rt.submit(tasks.make_table, 100_000)
        table = rt.get(ref)
        rt.shutdown()
        rt.shutdown()
        assert tasks.total(table) == 4999950000
        with pytest.raises(runtime.Cancelled, match="shut down"):
            rt.submit(tasks.nothing)
        assert rt.stats().workers == 0

    # ---------------------------------------------------------------- actors

    def test_actor_keeps_state_and_order(self, rt):
        actor = rt.actor(tasks.Counter, rt.put(5))
        assert rt.get([actor.call("add", i) for i in range(20)])[-1] == 195
        with pytest.raises(runtime.TaskError, match="ValueError: no"):
            rt.get(actor.call("fail"))
        assert rt.get(actor.call("add", rt.put(0))) == 195
        actor.stop()
        actor.stop()
        with pytest.raises(runtime.Cancelled, match="stopped"):
            rt.get(actor.call("add", 1))

    def test_actor_that_fails_to_start(self, rt):
        actor = rt.actor(tasks.Unborn)
        with pytest.raises(runtime.TaskError, match="not today"):
            rt.get(actor.call("anything"))

    # ---------------------------------------------------------------- shuffles

    def test_a_shuffle_meets_each_key_once_and_keeps_the_order(self, rt):
        tables = [tasks.make_keys(seed, 20_000) for seed in range(3)]
        plan = Shuffle(("k",), 5, reduce=tasks.values_by_key, key=("t", "merge"))
        refs = shuffle(rt, tables, plan)
        buckets = rt.get(refs)
        whole = tasks.values_by_key(pa.concat_tables(tables))
        assert sum(map(len, buckets)) == len(whole)
        assert {key: found for bucket in buckets for key, found in bucket.items()} == whole
        assert {rt.profile(ref).key for ref in refs} == {("t", "merge-reduce")}

    def test_a_shuffle_of_one_key_and_of_no_rows(self, rt):
        skewed = pa.table({"k": pa.array(["hot"] * 50_000), "v": np.arange(50_000)})
        for inputs, sizes in (
            ([skewed, skewed.slice(0, 0)], [0] * 7 + [50_000]),
            ([skewed.slice(0, 0)], [0] * 8),
        ):
            tables = rt.get(shuffle(rt, inputs, Shuffle(("k",), 8)))
            assert sorted(table.num_rows for table in tables) == sizes
            assert all(table.schema.equals(skewed.schema) for table in tables)

    def test_a_shuffle_whose_inputs_are_results_of_tasks(self, rt):
        inputs = [rt.submit(tasks.make_keys, seed, 5_000) for seed in range(3)]
        buckets = rt.get(shuffle(rt, inputs, Shuffle(("k",), 3, reduce=tasks.values_by_key)))
        assert sum(len(values) for bucket in buckets for values in bucket.values()) == 15_000

    def test_a_shuffle_fails_with_its_reader(self, rt):
        for ref in shuffle(rt, [1], Shuffle(("k",), 2, read=tasks.fail)):
            with pytest.raises(runtime.TaskError, match="ValueError: 1"):
                rt.get(ref)

    # ---------------------------------------------------------------- measuring

    def test_profile_of_a_task(self, rt, profiles):
        ref = rt.submit(tasks.allocate, 64 << 20, memory=200 << 20, key=("orders", "allocate"))
        rt.get(ref)
        profile = rt.profile(ref)
        assert profile in profiles
        assert profile.key == ("orders", "allocate")
        assert (profile.attempt, profile.outcome) == (1, "done")
        assert profile.base_bytes == 200 << 20
        assert profile.predicted_bytes <= profile.granted_bytes <= 4 << 30
        assert 64 << 20 <= profile.anonymous_peak_bytes <= profile.hwm_bytes
        assert profile.cpu_seconds > 0
        assert profile.duration_seconds > 0
        assert rt.profile(rt.put(1)) is None

    def test_without_a_key_the_memory_is_the_grant(self, rt):
        ref = rt.submit(tasks.nothing, memory=300 << 20)
        rt.get(ref)
        assert rt.profile(ref).granted_bytes == 300 << 20

    def test_grants_are_learned(self, rt):
        seen = []
        for _ in range(4):
            ref = rt.submit(tasks.allocate, 100 << 20, memory=100 << 20, key=("t", "learn"))
            rt.get(ref)
            seen.append(rt.profile(ref))
        assert seen[0].granted_bytes > 400 << 20
        assert seen[0].anonymous_peak_bytes < seen[-1].granted_bytes
        assert seen[-1].granted_bytes < 2 * seen[0].anonymous_peak_bytes

    def test_stats(self, rt):
        rt.get(rt.submit(tasks.nothing))
        rt.wait([rt.submit(tasks.fail, "x")])
        stats = rt.stats()
        assert stats.total == runtime.Resources(2, 4 << 30)
        assert stats.granted == runtime.Resources(0, 0)
        assert (stats.queued, stats.running) == (0, 0)
        assert (stats.finished, stats.failed) == (1, 1)
        assert stats.peak_memory_bytes > 1 << 20

    def test_thousands_of_tiny_tasks(self, rt):
        refs = [rt.submit(tasks.add, i, 1) for i in range(5_000)]
        assert rt.get(refs) == list(range(1, 5_001))
