"""The scheduler over many nodes: admission, order, fairness, locality, claims, losses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.api import Resources
from runtime.errors import Infeasible
from runtime.predictor import AS_ASKED, PROCESS_BYTES, Rates
from runtime.scheduler import PATIENCE_WAVES, Request, Scheduler
from runtime.scheduling.request import POOL_SIGMAS, base_limit, need, pooled_bytes

MIB = 1 << 20
KEY = ("orders", "rewrite")


def scheduler_of(*totals, rates=AS_ASKED):
    scheduler = Scheduler(lambda key: rates if key else Rates())
    for number, total in enumerate(totals):
        scheduler.add_node(f"n{number}", total)
    return scheduler


def started(scheduler):
    return [(placement.id, placement.node) for placement in scheduler.place()]


class TestAdmission:
    def test_margins_are_pooled(self):
        rates = Rates(mean=1.0, spread=0.1, grant=1.5)
        scheduler = scheduler_of(Resources(100, 1000 * MIB), rates=rates)
        for number in range(100):
            scheduler.submit(Request(number, 10 * MIB, KEY))
        # 100 means of 10 and 3.5 deviations of sqrt(100) x 1: single margins would take 1350.
        assert len(scheduler.place()) == 96
        assert scheduler.granted.memory_bytes <= 1000 * MIB

    def test_what_is_predicted_beyond_the_largest_node_gets_all_of_it(self):
        scheduler = scheduler_of(Resources(2, 100), rates=Rates(50.0, 10.0, 90.0))
        scheduler.submit(Request(1, 10, KEY))
        (placement,) = scheduler.place()
        assert (placement.predicted_bytes, placement.granted_bytes) == (100, 100)

    def test_needs_are_those_of_the_moment_of_placement(self):
        known = {"rates": Rates(4.0, 0.0, 4.0)}
        scheduler = Scheduler(lambda key: known["rates"])
        scheduler.add_node("n", Resources(8, 100 * MIB))
        for number in range(6):
            scheduler.submit(Request(number, 20 * MIB, KEY))
        assert len(scheduler.place()) == 1
        known["rates"] = Rates(0.5, 0.0, 0.5)
        scheduler.release(0)
        assert len(scheduler.place()) == 5

    def test_a_holder_takes_memory_and_no_slot(self):
        scheduler = scheduler_of(Resources(1, 100))
        scheduler.submit(Request(1, 10))
        scheduler.submit(Request(2, 60, cpus=0))
        assert len(scheduler.place()) == 2
        scheduler.submit(Request(3, 60, cpus=0))
        assert not scheduler.place()

    @given(
        st.floats(0.01, 10),
        st.floats(0, 3),
        st.integers(0, 1 << 40),
        st.integers(0, 1 << 60),
    )
    def test_the_limit_of_a_node_is_exact(self, mean, spread, room_bytes, variance):
        limit = base_limit(Rates(mean, spread, 1.0), room_bytes, variance)

        def charged(base):
            return base * mean + POOL_SIGMAS * (variance + (base * spread) ** 2) ** 0.5

        if limit >= 0:
            assert charged(limit) <= room_bytes * (1 + 1e-6) + 1e-3
            assert charged(limit * 1.01 + 1) > room_bytes * (1 - 1e-6)
        else:
            assert charged(0) > room_bytes

    @given(st.integers(1, 1 << 45), st.floats(0.01, 9), st.floats(0, 5), st.integers(1, 1 << 44))
    def test_a_need_always_fits_an_empty_node(self, base_bytes, mean, spread, cap_bytes):
        wanted = need(1, base_bytes, rates=Rates(mean, spread, mean), cap_bytes=cap_bytes)
        assert pooled_bytes(wanted.mean_bytes, wanted.spread_bytes**2) <= cap_bytes
        assert 0 <= wanted.granted_bytes <= cap_bytes


class TestOrder:
    def test_the_largest_that_fits_goes_first(self):
        scheduler = scheduler_of(Resources(2, 100))
        for number, size in enumerate([10, 70, 30, 60]):
            scheduler.submit(Request(number, size))
        assert [number for number, _ in started(scheduler)] == [1, 2]

    def test_the_oldest_is_not_forgotten_among_larger_ones(self):
        scheduler = scheduler_of(Resources(1, 100))
        scheduler.submit(Request(0, 1))
        ids = iter(range(1, 1000))
        order = []
        for _ in range(100):
            scheduler.submit(Request(next(ids), 50))
            scheduler.submit(Request(next(ids), 50))
            (placement,) = scheduler.place()
            order.append(placement.id)
            scheduler.release(placement.id)
        assert 0 in order

    def test_a_large_task_gets_its_node_in_a_stream_of_small_ones(self):
        scheduler = scheduler_of(Resources(4, 100))
        ids = iter(range(1, 10_000))
        running = []
        for _ in range(8):
            scheduler.submit(Request(next(ids), 20, job="small"))
        running += started(scheduler)
        scheduler.submit(Request(0, 100, job="large"))
        for placed in range(1000):  # noqa: B007 - asserted on after the loop
            scheduler.submit(Request(next(ids), 20, job="small"))
            if running:
                scheduler.release(running.pop(0)[0])
            running += started(scheduler)
            assert scheduler.violations() == []
            if (0, "n0") in running:
                break
        assert placed <= (PATIENCE_WAVES + 4) * 4

    def test_jobs_share_by_weight(self):
        scheduler = scheduler_of(Resources(12, 1200))
        scheduler.weigh("b", 2.0)
        for number in range(40):
            scheduler.submit(Request(number, 10, job="ab"[number % 2]))
        odd = [number % 2 for number, _ in started(scheduler)]
        assert (odd.count(0), odd.count(1)) == (4, 8)

    def test_a_new_job_is_served_beside_a_long_one(self):
        scheduler = scheduler_of(Resources(4, 400))
        for number in range(100):
            scheduler.submit(Request(number, 10, job="long"))
        scheduler.place()
        scheduler.submit(Request(1000, 1, job="short"))
        scheduler.release(0)
        assert started(scheduler) == [(1000, "n0")]


class TestNodes:
    def test_a_task_goes_where_its_largest_inputs_are(self):
        scheduler = scheduler_of(Resources(2, 100), Resources(2, 500), Resources(2, 300))
        located = {"n0": 20 * MIB, "n2": 90 * MIB, "gone": 500 * MIB}
        scheduler.submit(Request(1, 10, located={"n0": 20 * MIB, "n2": 90 * MIB}))
        scheduler.submit(Request(2, 10, located=located))
        assert dict(started(scheduler))[1] == "n2"

    def test_it_waits_for_them_while_others_want_the_room_but_leaves_none_idle(self):
        scheduler = scheduler_of(Resources(1, 100), Resources(1, 100))
        for number in range(2):
            scheduler.submit(Request(number, 50))
        where = dict(started(scheduler))
        on_first = next(number for number in where if where[number] == "n0")
        scheduler.submit(Request(10, 60, located={"n0": 99 * MIB}))
        scheduler.submit(Request(11, 50))
        scheduler.release(1 - on_first)
        assert started(scheduler) == [(11, "n1")]
        scheduler.release(on_first)
        assert started(scheduler) == [(10, "n0")]
        scheduler.submit(Request(12, 60, located={"n0": 99 * MIB}))
        scheduler.release(11)
        assert started(scheduler) == [(12, "n1")]

    def test_memory_per_slot_is_matched(self):
        scheduler = scheduler_of(Resources(8, 80), Resources(8, 800))
        scheduler.submit(Request(1, 5))
        scheduler.submit(Request(2, 90))
        assert dict(started(scheduler)) == {1: "n0", 2: "n1"}

    def test_a_task_of_a_whole_node_finds_the_one_that_is_large_enough(self):
        scheduler = scheduler_of(*[Resources(1, 99)] * 30, Resources(1, 100))
        scheduler.submit(Request(1, 100))
        assert started(scheduler) == [(1, "n30")]

    def test_labels_that_nobody_asks_for_cost_nothing(self):
        totals = [Resources(1, 100, {"host": f"h{number}"}) for number in range(50)]
        scheduler = scheduler_of(*totals)
        for number in range(50):
            scheduler.submit(Request(number, 10))
        assert len(scheduler.place()) == 50
        assert all(len(node.pools) == 1 for node in scheduler._cluster.nodes.values())

    def test_labels_are_found_on_nodes_that_come_later_and_go(self):
        scheduler = scheduler_of(Resources(1, 100, {"zone": "a", "disk": "x"}))
        for number, labels in enumerate([{"zone": "a"}, {"disk": "x"}, {}]):
            scheduler.submit(Request(number, 10, labels=labels))
        assert len(scheduler.place()) == 1
        scheduler.add_node("later", Resources(2, 100, {"zone": "a", "disk": "x"}))
        assert {node for _, node in started(scheduler)} == {"later"}
        assert len(scheduler.remove_node("n0")) == 1
        for name in ("zone", "disk", "host"):
            with pytest.raises(Infeasible):
                scheduler.submit(Request(9, 10, labels={name: "nowhere"}))
        assert scheduler.violations() == []

    def test_labels_are_required(self):
        scheduler = scheduler_of(Resources(1, 100), Resources(1, 100, {"zone": "b"}))
        for number in range(2):
            scheduler.submit(Request(number, 10, labels={"zone": "b"}))
        assert started(scheduler) == [(0, "n1")]
        with pytest.raises(Infeasible, match="label zone=c"):
            scheduler.submit(Request(3, 10, labels={"zone": "c"}))

    def test_the_impossible_is_refused_with_the_numbers(self):
        mib = 1 << 20
        scheduler = scheduler_of(Resources(2, 100 * mib), Resources(8, 50 * mib))
        with pytest.raises(Infeasible, match=r"101\.0 MiB of memory, at most 100\.0 MiB") as caught:
            scheduler.submit(Request(1, 101 * mib))
        assert (caught.value.requested_bytes, caught.value.budget_bytes) == (101 * mib, 100 * mib)
        with pytest.raises(Infeasible, match=r"8 CPU|60\.0 MiB"):
            scheduler.submit(Request(1, 60 * mib, cpus=8))
        with pytest.raises(Infeasible, match="no node"):
            Scheduler().submit(Request(1, 1))
        assert scheduler.queued == 0

    def test_a_lost_node_gives_its_tasks_back_and_strands_what_only_it_could_run(self):
        scheduler = scheduler_of(Resources(1, 100), Resources(1, 50))
        for number, size in enumerate([80, 90, 10]):
            scheduler.submit(Request(number, size))
        where = dict(started(scheduler))
        assert scheduler.remove_node("n0") == [n for n, node in where.items() if node == "n0"]
        assert scheduler.stranded() == [n for n in (0, 1) if n not in where]
        assert scheduler.violations() == []

    def test_ids_and_names_are_unique(self):
        scheduler = scheduler_of(Resources(1, 100))
        scheduler.submit(Request(1, 1))
        with pytest.raises(ValueError, match="already"):
            scheduler.submit(Request(1, 1))
        with pytest.raises(ValueError, match="already"):
            scheduler.add_node("n0", Resources(1, 1))
        with pytest.raises(ValueError, match="positive"):
            scheduler.weigh("job", 0)

    def test_a_withdrawn_task_never_starts(self):
        scheduler = scheduler_of(Resources(1, 100))
        scheduler.submit(Request(1, 1))
        assert scheduler.withdraw(1)
        assert not scheduler.withdraw(1)
        assert scheduler.place() == []
        assert scheduler.violations() == []


class Machine(RuleBasedStateMachine):
    """Any order of events: the books balance, no node is overfilled, everything ends."""

    def __init__(self):
        super().__init__()
        self.factor = 1.0
        self.scheduler = Scheduler(
            lambda key: Rates(self.factor, 0.2 * self.factor, 2 * self.factor) if key else Rates()
        )
        self.numbers = 0
        self.running = []
        self.waiting = set()
        self.nodes = {}
        self.add_node(4, 100)

    @rule(cpus=st.integers(1, 9), memory=st.integers(20, 300))
    def add_node(self, cpus, memory):
        self.numbers += 1
        name = f"n{self.numbers}"
        self.nodes[name] = Resources(cpus, memory, {"even": str(cpus % 2)})
        self.scheduler.add_node(name, self.nodes[name])

    @precondition(lambda self: len(self.nodes) > 1)
    @rule(data=st.data())
    def lose_node(self, data):
        name = data.draw(st.sampled_from(sorted(self.nodes)))
        del self.nodes[name]
        lost = set(self.scheduler.remove_node(name))
        self.running = [number for number in self.running if number not in lost]
        self.waiting -= set(self.scheduler.stranded())

    @rule(data=st.data(), job=st.sampled_from("abc"), size=st.integers(0, 300))
    def submit(self, data, job, size):
        self.numbers += 1
        homes = dict.fromkeys(data.draw(st.sets(st.sampled_from(sorted(self.nodes)))), 20 * MIB)
        request = Request(
            self.numbers,
            size,
            data.draw(st.sampled_from([None, ("t", "x"), ("t", "y")])),
            job,
            cpus=data.draw(st.integers(0, 4)),
            labels=data.draw(st.sampled_from([{}, {"even": "1"}])),
            located=homes,
        )
        try:
            self.scheduler.submit(request)
        except Infeasible:
            return
        self.waiting.add(self.numbers)

    @rule()
    def place(self):
        for placement in self.scheduler.place():
            self.waiting.remove(placement.id)
            self.running.append(placement.id)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def release(self, data):
        place = data.draw(st.integers(0, len(self.running) - 1))
        self.scheduler.release(self.running.pop(place))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data):
        number = data.draw(st.sampled_from(sorted(self.waiting)))
        assert self.scheduler.withdraw(number)
        self.waiting.remove(number)

    @rule(factor=st.floats(0.1, 3))
    def learn(self, factor):
        self.factor = factor

    @invariant()
    def books_balance(self):
        assert self.scheduler.violations() == []
        assert self.scheduler.queued == len(self.waiting)
        assert self.scheduler.running == len(self.running)

    def teardown(self):
        while self.waiting or self.running:
            before = len(self.waiting)
            self.place()
            assert self.running or len(self.waiting) < before, "tasks wait beside empty nodes"
            if self.running:
                self.scheduler.release(self.running.pop())
        assert self.scheduler.violations() == []


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


@given(
    st.floats(0.1, 20),
    st.floats(0, 2),
    st.integers(1 << 20, 1 << 36),
    st.integers(0, 1 << 60),
)
def test_a_base_within_the_limit_fits_though_a_part_of_it_is_the_process(
    mean, spread, room_bytes, variance
):
    rates = Rates(mean, spread, mean, PROCESS_BYTES)
    limit = base_limit(rates, room_bytes, variance)

    def charge(base):
        slack = POOL_SIGMAS * (variance + rates.spread_bytes(base) ** 2) ** 0.5
        return rates.mean_bytes(base) + slack

    if limit > 0:
        assert charge(limit) <= room_bytes * (1 + 1e-6) + 1
        assert charge(limit * 1.01 + 2) >= room_bytes * (1 - 1e-6)
