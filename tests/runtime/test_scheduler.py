import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.api import Resources
from runtime.errors import Infeasible
from runtime.scheduler import (
    AVAILABLE_BYTES_MIN,
    Running,
    escalated,
    infeasible,
    overrun,
    require_feasible,
)

PLENTY = AVAILABLE_BYTES_MIN


class TestFeasible:
    def test_says_why_with_the_numbers(self):
        node = Resources(2, 100, {"zone": "a"})
        assert infeasible(Resources(2, 100, {"zone": "a"}), node) is None
        node_of_mib = Resources(2, 100 << 20)
        refusal = infeasible(Resources(1, 101 << 20), node_of_mib)
        assert "101.0 MiB of memory, at most 100.0" in refusal
        assert "3 CPU slots, there are 2" in infeasible(Resources(3, 1), node)
        assert "label zone=b" in infeasible(Resources(1, 1, {"zone": "b"}), node)

    def test_refuses(self):
        with pytest.raises(Infeasible) as caught:
            require_feasible(Resources(1, 101), Resources(2, 100))
        assert (caught.value.requested_bytes, caught.value.budget_bytes) == (101, 100)


class TestOverrun:
    def test_nobody_goes_while_there_is_memory(self):
        tasks = [Running(1, 10, 60), Running(2, 10, 5)]
        assert overrun(tasks, budget_bytes=65, available_bytes=PLENTY) is None

    def test_the_largest_excess_goes(self):
        tasks = [Running(1, 100, 130), Running(2, 10, 50), Running(3, 500, 400)]
        assert overrun(tasks, budget_bytes=500, available_bytes=PLENTY) == 2
        assert overrun(tasks, budget_bytes=900, available_bytes=PLENTY - 1) == 2

    @given(st.lists(st.builds(Running, st.integers(), st.integers(0, 9), st.integers(0, 9))))
    def test_never_one_within_its_grant(self, tasks):
        worst = overrun(tasks, budget_bytes=0, available_bytes=0)
        if worst is None:
            assert all(task.excess_bytes <= 0 for task in tasks)
        else:
            assert any(task.id == worst and task.excess_bytes > 0 for task in tasks)


class TestEscalated:
    def test_doubles_or_covers_what_was_seen(self):
        assert escalated(granted_bytes=100, used_bytes=50, cap_bytes=1000) == 200
        assert escalated(granted_bytes=100, used_bytes=400, cap_bytes=1000) == 500

    def test_ends_at_the_cap(self):
        assert escalated(granted_bytes=600, used_bytes=50, cap_bytes=1000) == 1000
        assert escalated(granted_bytes=1000, used_bytes=50, cap_bytes=1000) is None
