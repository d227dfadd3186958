"""Deliveries: kept once, coalesced, ignored with a reason, and answered when they are durable."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, insert, select, text

from compactor.errors import JobFailedError
from compactor.jobs.schema import JOBS
from compactor.jobs.store import JobStore
from compactor.service.config import ServiceConfig
from compactor.service.hints import Acceptance, AcceptanceKind, Delivery, Hint
from compactor.service.intake import Intake, accept_all
from compactor.service.schema import DELIVERIES, TRIGGERS
from tests.compactor.service.conftest import Configure
from tests.compactor.service.rows import change_table, deliver, hint, row_of


def test_triggers_of_a_table_become_one_row(store: JobStore, registered: ServiceConfig) -> None:
    answers = [deliver(store, registered, hint("lake.a.one")) for _ in range(3)]
    assert {answer.kind for answer in answers} == {AcceptanceKind.ACCEPTED}
    [trigger_id] = {answer.trigger_ids for answer in answers}
    assert row_of(store, trigger_id[0]).hints == 3


def test_a_delivery_that_comes_twice_has_the_first_answer(
    store: JobStore, registered: ServiceConfig
) -> None:
    first = deliver(store, registered, hint("lake.a.one"), key="same")
    again = deliver(store, registered, hint("lake.a.one"), key="same")
    assert again == Acceptance(AcceptanceKind.DUPLICATE, first.trigger_ids, first.reason)
    assert row_of(store, first.trigger_ids[0]).hints == 1


def test_twice_in_one_batch_is_twice_as_well(store: JobStore, registered: ServiceConfig) -> None:
    twice = [Delivery("standard", "same", (hint("lake.a.one"),))] * 2
    first, again = accept_all(store, twice, registered.service)
    assert (first.kind, again.kind) == (AcceptanceKind.ACCEPTED, AcceptanceKind.DUPLICATE)
    assert row_of(store, first.trigger_ids[0]).hints == 1


def test_one_delivery_may_tell_of_several_tables(
    store: JobStore, registered: ServiceConfig
) -> None:
    answer = deliver(store, registered, hint("lake.a.one"), hint("lake.b.one"), hint("lake.no.no"))
    assert len(answer.trigger_ids) == 2
    assert answer.reason == "no registered table: lake.no.no"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (hint("lake.a.nothing"), "no registered table"),
        (hint(location="s3://bucket/elsewhere/x"), "no registered table"),
        (hint(location="not a place"), "no registered table"),
        (hint("lake.a.one", operation="replace"), "upkeep"),
        (hint("lake.a.one", operation="Clustering"), "upkeep"),
        (hint("lake.a.one", job_id="ours"), "made by job ours"),
        (hint("lake.a.one", snapshot_id="77"), "snapshot 77 is of a job of this store"),
        (hint("lake.a.two"), "did not exist"),
        (hint("lake.b.one"), "disabled"),
    ],
)
def test_what_is_of_no_concern_is_ignored_with_a_reason(
    store: JobStore, registered: ServiceConfig, told: Hint, words: str
) -> None:
    change_table(store, "lake.a.one", own_snapshot_id="77")
    change_table(store, "lake.a.two", is_missing=True)
    change_table(store, "lake.b.one", is_enabled=False)
    counts = ("fence", "files_before", "rows_before", "group_count", "input_bytes")
    times = ("created_at_ms", "updated_at_ms")
    texts = {"table_name": "t", "format": "", "state": "succeeded", "proof": ""}
    job = {"job_id": "ours", "snapshot_before": "", **texts, **dict.fromkeys(counts + times, 0)}
    with store.transaction() as connection:
        connection.execute(insert(JOBS).values(job))
    answer = deliver(store, registered, told)
    assert answer.kind is AcceptanceKind.IGNORED
    assert words in answer.reason
    assert answer.trigger_ids == ()


def test_an_object_belongs_to_the_table_with_the_longest_prefix(
    store: JobStore, configure: Configure
) -> None:
    from compactor.service.registry import Registry

    config = configure(
        '[[tables]]\ntarget = "lake.a.outer"\nlocation = "s3://bucket/wh"\n'
        '[[tables]]\ntarget = "lake.a.inner"\nlocation = "s3a://bucket/wh/inner/"\n'
        '[[tables]]\ntarget = "s3://bucket/delta/orders"\n'
    )
    Registry(store, config).apply_configuration()
    answers = [
        deliver(store, config, hint(location=location)).trigger_ids
        for location in (
            "s3://bucket/wh/inner/metadata/1.metadata.json",
            "s3://bucket/wh/inner-2/metadata/1.metadata.json",
            "s3n://bucket/delta/orders/_delta_log/00000000000000000001.json",
        )
    ]
    views = [row_of(store, ids[0]).table_id for ids in answers]
    assert len(set(views)) == 3
    assert deliver(store, config, hint(location="s3://other/wh/inner")).trigger_ids == ()


def test_a_hot_table_is_not_put_off_for_ever(store: JobStore, configure: Configure) -> None:
    from compactor.service.registry import Registry

    config = configure(
        '[service]\ndebounce = "30s"\ndebounce_max = "60s"\n[[tables]]\ntarget = "lake.a.one"\n'
    )
    Registry(store, config).apply_configuration()
    first = deliver(store, config, hint("lake.a.one")).trigger_ids[0]
    before = row_of(store, first)
    assert before.not_before_ms == before.first_at_ms + 30_000
    with store.transaction() as connection:
        earlier = "UPDATE triggers SET first_at_ms = first_at_ms - 59000, latest_ms = latest_ms"
        connection.execute(text(earlier + " - 59000"))
    deliver(store, config, hint("lake.a.one"))
    after = row_of(store, first)
    assert after.not_before_ms == after.first_at_ms + 60_000


def test_many_at_once_are_kept_together(store: JobStore, registered: ServiceConfig) -> None:
    targets = ("lake.a.one", "lake.a.two", "lake.b.one")

    async def send() -> list[Acceptance]:
        with Intake(store, registered.service) as intake:
            deliveries = [
                Delivery("standard", str(number % 400), (hint(targets[number % 3]),))
                for number in range(600)
            ]
            return await asyncio.gather(*map(intake.accept, deliveries))

    answers = asyncio.run(send())
    kinds = [answer.kind for answer in answers]
    assert kinds.count(AcceptanceKind.ACCEPTED) == 400
    assert kinds.count(AcceptanceKind.DUPLICATE) == 200
    with store.reading() as connection:
        assert connection.execute(select(func.count()).select_from(DELIVERIES)).scalar() == 400
        hints = connection.execute(select(func.sum(TRIGGERS.c.hints))).scalar()
    assert hints == 400


def test_a_store_that_fails_is_told_to_each_sender_and_survived(
    store: JobStore, registered: ServiceConfig
) -> None:
    async def send() -> None:
        with Intake(store, registered.service) as intake:
            with store.transaction() as connection:
                connection.execute(text("ALTER TABLE deliveries RENAME TO away"))
            with pytest.raises(JobFailedError):
                await intake.accept(Delivery("standard", "x", (hint("lake.a.one"),)))
            with store.transaction() as connection:
                connection.execute(text("ALTER TABLE away RENAME TO deliveries"))
            answer = await intake.accept(Delivery("standard", "x", (hint("lake.a.one"),)))
            assert answer.kind is AcceptanceKind.ACCEPTED

    asyncio.run(send())
