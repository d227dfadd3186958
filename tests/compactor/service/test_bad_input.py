"""What a service is given that it cannot use: each has its answer.

Deliveries are in `test_http`, `test_openapi` and `webhooks/`, storms and lost databases in
`test_storm` and the acceptance tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import update

from compactor.errors import SettingsError
from compactor.jobs.store import JobStore
from compactor.service.config import ServiceConfig
from compactor.service.duties import show_up
from compactor.service.executor import Executor
from compactor.service.queue import Outcome
from compactor.service.registry import Registry
from compactor.service.scheduler import begin_due
from compactor.service.schema import POLICIES
from compactor.service.views import Views
from tests.compactor.service.conftest import Configure
from tests.compactor.service.rows import (
    INSTANCE,
    change_table,
    claimed,
    deliver,
    ended,
    hint,
    reaped,
    row_of,
    trigger,
)

DAY_SECONDS = 86_400
Shift = Callable[[float], None]


@pytest.fixture
def shift_clock(monkeypatch: pytest.MonkeyPatch) -> Shift:
    """Let the clock of this process go wrong by so many seconds."""
    real, real_ns = time.time, time.time_ns

    def shift(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + seconds)
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(seconds * 1e9))

    return shift


@pytest.mark.parametrize("days", [-400, 400])
def test_an_instance_whose_clock_is_wrong_keeps_to_that_of_the_database(
    store: JobStore, registered: ServiceConfig, shift_clock: Shift, days: int
) -> None:
    trigger_id = trigger(store, registered, "lake.a.one")
    shift_clock(days * DAY_SECONDS)
    held = claimed(store, registered)
    assert held is not None
    assert reaped(store, registered) == 0
    shift_clock(0)
    # Neither is its claim over for others, nor lasts it longer.
    assert reaped(store, registered) == 0
    row = row_of(store, trigger_id)
    assert abs(row.claimed_at_ms - time.time() * 1000) < DAY_SECONDS * 1000
    shift_clock(days * DAY_SECONDS)
    assert ended(store, registered, held, Outcome("succeeded"))
    assert row_of(store, trigger_id).state == "done"


@pytest.mark.parametrize("days", [-400, 400])
def test_schedules_are_due_by_the_clock_of_the_database(
    store: JobStore, configure: Configure, shift_clock: Shift, days: int
) -> None:
    config = configure('[[tables]]\ntarget = "lake.a.one"\nschedule = "0 0 1 1 *"\n')
    shift_clock(days * DAY_SECONDS)
    Registry(store, config).apply_configuration()
    with store.transaction() as connection:
        assert begin_due(connection, config.service) == 0
    table = Views(store, config.service, config.budget).table("lake.a.one")
    assert table is not None
    assert table.due_at_ms is not None
    shift_clock(0)
    assert 0 < table.due_at_ms / 1000 - time.time() < 367 * DAY_SECONDS


@contextmanager
def odd_policy(store: JobStore, registry: Registry, pattern: str) -> Iterator[None]:
    """Keep a policy as a later program may have: one that this one cannot read."""
    registry.set_policy(pattern, policy={"target_file_size": "64 MiB"}, care={}, actor="ada")
    with store.transaction() as connection:
        odd = update(POLICIES).where(POLICIES.c.pattern == pattern)
        connection.execute(odd.values(policy='{"from_the_future": 1}'))
    yield
    assert registry.unset_policy(pattern, actor="ada")


def test_a_policy_that_cannot_be_read_holds_up_its_tables_alone(
    store: JobStore, registered: ServiceConfig
) -> None:
    registry = Registry(store, registered)
    with odd_policy(store, registry, "lake.a.one"):
        # A service starts with it, and says so where it matters.
        registry.apply_configuration()
        rules = registry.rules()
        with pytest.raises(SettingsError, match=r"from_the_future.*set by ada"):
            rules.policy("lake.a.one")
        assert rules.policy("lake.a.two") is not None
        trigger_id = trigger(store, registered, "lake.a.one")
        executor = Executor(store, registered, registry, instance=INSTANCE)
        with store.transaction() as connection:
            show_up(connection, INSTANCE, registered.service, is_draining=False)
        assert executor.fill() == 1
        assert executor.running == 0
        row = row_of(store, trigger_id)
        assert (row.state, row.error_class) == ("failed", "fatal")
        assert "from_the_future" in row.reason
    assert registry.rules().policy("lake.a.one") is not None


def test_a_table_that_vanished_is_left_alone_until_it_is_back(
    store: JobStore, registered: ServiceConfig
) -> None:
    views = Views(store, registered.service, registered.budget)
    waiting = trigger(store, registered, "lake.a.one")
    change_table(store, "lake.a.one", is_missing=True, trouble="table-not-found: it is gone")
    assert claimed(store, registered) is None
    table, row = views.table("lake.a.one"), views.trigger(waiting)
    assert table is not None
    assert row is not None
    assert table.why == "table-not-found: it is gone"
    assert "does not exist" in row.why
    answer = deliver(store, registered, hint("lake.a.one"))
    assert (answer.kind, answer.trigger_ids) == ("ignored", ())
    change_table(store, "lake.a.one", is_missing=False, trouble="")
    held = claimed(store, registered)
    assert held is not None
    assert held.trigger_id == waiting
