"""The queue: one pending and one running row per table, fences, retries, quotas, order."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from compactor.jobs.owner import Owner
from compactor.jobs.store import JobStore
from compactor.service import queue
from compactor.service.config import Budget, ServiceConfig
from compactor.service.queue import (
    Claim,
    ErrorClass,
    Outcome,
    RowState,
    cancel,
    claim,
    forget,
    renew,
    take_up,
)
from compactor.service.registry import Registry
from compactor.service.views import Views
from tests.compactor.service.conftest import Configure
from tests.compactor.service.rows import (
    INSTANCE,
    change_row,
    change_table,
    claimed,
    deliver,
    ended,
    hint,
    reaped,
    row_of,
    trigger,
)

DONE = Outcome("succeeded", job_id="j1", snapshot_id="9", bytes_moved=10)
BROKEN = Outcome("failed", ErrorClass.RETRYABLE, "storage-error: gone")


def held(store: JobStore, config: ServiceConfig, target: str) -> Claim:
    trigger(store, config, target)
    found = claimed(store, config)
    assert found is not None
    return found


def test_a_claim_is_ended_by_its_fence_alone(store: JobStore, registered: ServiceConfig) -> None:
    first = held(store, registered, "lake.a.one")
    assert (first.target, first.attempt) == ("lake.a.one", 1)
    change_row(store, first.trigger_id, claim_ends_ms=0)
    assert reaped(store, registered) == 1
    second = claimed(store, registered)
    assert second is not None
    assert (second.trigger_id, second.attempt) == (first.trigger_id, 2)
    assert second.fence > first.fence
    assert not ended(store, registered, first, DONE)
    with store.transaction() as connection:
        assert not renew(connection, first)
        assert not take_up(connection, first, Owner.current())
        assert renew(connection, second)
    assert ended(store, registered, second, DONE)
    assert not ended(store, registered, second, DONE)
    row = row_of(store, first.trigger_id)
    assert (row.state, row.job_id, row.bytes_moved) == ("done", "j1", 10)


def test_a_table_that_is_worked_on_waits_with_what_comes_in(
    store: JobStore, registered: ServiceConfig
) -> None:
    running = held(store, registered, "lake.a.one")
    waiting = trigger(store, registered, "lake.a.one")
    assert waiting != running.trigger_id
    assert claimed(store, registered) is None
    assert ended(store, registered, running, DONE)
    following = claimed(store, registered)
    assert following is not None
    assert following.trigger_id == waiting


def test_the_process_of_a_claim_that_died_is_noticed(
    store: JobStore, registered: ServiceConfig
) -> None:
    lost = held(store, registered, "lake.a.one")
    assert reaped(store, registered) == 0
    with store.transaction() as connection:
        dead = Owner(Owner.current().host, 1 << 22, 1.0)
        assert take_up(connection, lost, dead)
    assert reaped(store, registered) == 1
    row = row_of(store, lost.trigger_id)
    assert (row.state, row.error_class) == ("pending", "retryable")


def test_what_fails_again_and_again_is_given_up(store: JobStore, configure: Configure) -> None:
    config = configure(
        '[service]\nattempts_max = 3\nretry_delay = "0s"\ndebounce = "0s"\n'
        '[[tables]]\ntarget = "lake.a.one"\n'
    )
    Registry(store, config).apply_configuration()
    trigger_id = trigger(store, config, "lake.a.one")
    for attempt in (1, 2, 3):
        found = claimed(store, config)
        assert found is not None
        assert found.attempt == attempt
        assert ended(store, config, found, BROKEN)
    assert row_of(store, trigger_id).state == RowState.DEAD
    assert claimed(store, config) is None


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (DONE, "done"),
        (Outcome("skipped"), "done"),
        (BROKEN, "pending"),
        (Outcome("partial", ErrorClass.CONFLICT, "lost"), "pending"),
        (Outcome("failed", ErrorClass.FATAL, "table-not-found"), "failed"),
        (Outcome("failed", ErrorClass.POISON, "corrupt-table"), "dead"),
        (Outcome("cancelled"), "cancelled"),
        (Outcome("cancelled", is_interrupted=True), "pending"),
    ],
)
def test_how_a_try_ends_decides_what_comes_next(
    store: JobStore, registered: ServiceConfig, outcome: Outcome, state: str
) -> None:
    one = held(store, registered, "lake.a.one")
    assert ended(store, registered, one, outcome)
    row = row_of(store, one.trigger_id)
    assert (row.state, row.status) == (state, outcome.status)
    assert row.attempts == (0 if outcome.is_interrupted else 1)


def test_a_row_that_waits_goes_on_in_place_of_one_that_failed(
    store: JobStore, registered: ServiceConfig
) -> None:
    running = held(store, registered, "lake.a.one")
    waiting = trigger(store, registered, "lake.a.one")
    assert ended(store, registered, running, BROKEN)
    assert row_of(store, running.trigger_id).state == "failed"
    row = row_of(store, waiting)
    # The tries count on, and so does the time that it has waited.
    assert (row.state, row.attempts, row.hints) == ("pending", 1, 2)
    assert row.first_at_ms == row_of(store, running.trigger_id).first_at_ms


def test_a_delay_after_an_error_is_not_cut_short(store: JobStore, configure: Configure) -> None:
    config = configure('[service]\ndebounce = "0s"\n[[tables]]\ntarget = "lake.a.one"\n')
    Registry(store, config).apply_configuration()
    one = held(store, config, "lake.a.one")
    assert ended(store, config, one, BROKEN)
    change_row(store, one.trigger_id, not_before_ms=1 << 50)
    assert trigger(store, config, "lake.a.one") == one.trigger_id
    assert row_of(store, one.trigger_id).not_before_ms == 1 << 50


def test_priority_comes_first_and_waiting_makes_up_for_it(
    store: JobStore, registered: ServiceConfig
) -> None:
    change_table(store, "lake.a.one", priority=9)
    change_table(store, "lake.b.one", priority=1)
    late, soon = (trigger(store, registered, name) for name in ("lake.a.one", "lake.b.one"))
    aging_ms = int(registered.service.aging_seconds * 1000)
    # As if it had come in nine steps of aging ago.
    change_row(store, late, rank_ms=row_of(store, late).rank_ms - 9 * aging_ms)
    order = [claimed(store, registered), claimed(store, registered)]
    assert [one.trigger_id for one in order if one] == [late, soon]


def test_an_instance_takes_as_many_jobs_as_it_may(
    store: JobStore, registered: ServiceConfig
) -> None:
    for target in ("lake.a.one", "lake.a.two", "lake.b.one"):
        trigger(store, registered, target)
    taken = [claimed(store, registered) for _ in range(3)]
    assert [one is not None for one in taken] == [True, True, False]
    assert claimed(store, registered, instance="elsewhere") is not None


def test_quotas_of_a_namespace_hold_over_all_instances(
    store: JobStore, configure: Configure
) -> None:
    tables = "".join(f'[[tables]]\ntarget = "lake.{n}"\n' for n in ("a.x", "a.y", "b.x"))
    config = configure(f'[service]\njobs_per_namespace_max = 1\ndebounce = "0s"\n{tables}')
    Registry(store, config).apply_configuration()
    for target in ("lake.a.x", "lake.a.y", "lake.b.x"):
        trigger(store, config, target)
    taken = [claimed(store, config, instance=name) for name in ("one", "two", "three")]
    assert [one.target if one else None for one in taken] == ["lake.a.x", "lake.b.x", None]


def test_a_budget_that_is_used_up_keeps_rows_waiting(
    store: JobStore, registered: ServiceConfig
) -> None:
    assert ended(store, registered, held(store, registered, "lake.a.one"), DONE)
    waiting = trigger(store, registered, "lake.a.one")
    for spent in (Budget(bytes_per_day=10), Budget(jobs_per_day=1)):
        with store.transaction() as connection:
            assert claim(connection, INSTANCE, registered.service, spent) is None
        view = Views(store, registered.service, spent).trigger(waiting)
        assert view is not None
        assert "a day is used up, until" in view.why
    assert claimed(store, registered) is not None


def test_what_is_closed_hides_nothing_that_may_start(
    store: JobStore, registered: ServiceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_CANDIDATES_MAX", 1)
    today = datetime.now(UTC).weekday()
    never_now = f"{('mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun')[(today + 3) % 7]} 10:00-11:00"
    change_table(store, "lake.a.one", window=never_now, priority=0)
    change_table(store, "lake.a.two", is_paused=True, priority=0)
    for target in ("lake.a.one", "lake.a.two", "lake.b.one"):
        trigger(store, registered, target)
    assert claimed(store, registered) is None
    found = claimed(store, registered)
    assert found is not None
    assert found.target == "lake.b.one"
    views = Views(store, registered.service, registered.budget)
    reasons = {one.target: one.why for one in views.triggers(states=("pending",))}
    assert "outside of its window" in reasons["lake.a.one"]
    assert reasons["lake.a.two"] == "the table is paused"


def test_cancelling_ends_what_waits_and_asks_what_runs(
    store: JobStore, registered: ServiceConfig
) -> None:
    running = held(store, registered, "lake.a.one")
    waiting = trigger(store, registered, "lake.a.two")
    with store.transaction() as connection:
        assert cancel(connection, waiting, "asked by ada") is RowState.CANCELLED
        assert cancel(connection, running.trigger_id, "asked by ada") is RowState.RUNNING
        assert cancel(connection, 12345, "asked by ada") is None
    assert row_of(store, running.trigger_id).cancel_asked_ms is not None
    # Asked for by somebody, it does not come back when its process is interrupted.
    interrupted = Outcome("cancelled", is_interrupted=True)
    assert ended(store, registered, running, interrupted)
    assert row_of(store, running.trigger_id).state == "cancelled"


def test_a_process_that_dies_over_a_cancellation_does_not_come_back(
    store: JobStore, registered: ServiceConfig
) -> None:
    running = held(store, registered, "lake.a.one")
    with store.transaction() as connection:
        cancel(connection, running.trigger_id, "asked by ada")
    change_row(store, running.trigger_id, claim_ends_ms=0)
    assert reaped(store, registered) == 1
    assert row_of(store, running.trigger_id).state == "cancelled"


def test_old_rows_and_deliveries_are_forgotten(store: JobStore, registered: ServiceConfig) -> None:
    one = held(store, registered, "lake.a.one")
    assert ended(store, registered, one, DONE)
    deliver(store, registered, hint("lake.a.two"))
    change_row(store, one.trigger_id, finished_at_ms=1)
    with store.transaction() as connection:
        assert forget(connection, registered.service, 3600) == 1
        assert forget(connection, registered.service, 3600) == 0
