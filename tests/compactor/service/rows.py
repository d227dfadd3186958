"""Short ways to the queue for its tests: hints in, claims and rows out."""

from __future__ import annotations

import itertools
from typing import Any

from sqlalchemy import Row, select, update

from compactor.jobs.store import JobStore
from compactor.service.config import ServiceConfig
from compactor.service.duties import show_up
from compactor.service.hints import Acceptance, Delivery, Hint
from compactor.service.intake import accept_all
from compactor.service.queue import Claim, Outcome, claim, finish, reap
from compactor.service.schema import TABLES, TRIGGERS

_NUMBERS = itertools.count()
INSTANCE = "here"


def hint(target: str | None = None, **values: str | None) -> Hint:
    known: dict[str, Any] = dict.fromkeys(("location", "snapshot_id", "operation", "job_id"))
    return Hint(target=target, reason="a test", **{**known, **values})


def deliver(store: JobStore, config: ServiceConfig, *hints: Hint, key: str = "") -> Acceptance:
    delivery = Delivery("standard", key or f"d{next(_NUMBERS)}", hints)
    return accept_all(store, [delivery], config.service)[0]


def trigger(store: JobStore, config: ServiceConfig, target: str) -> int:
    """Accept a hint for a table and return the row that it is part of."""
    return deliver(store, config, hint(target)).trigger_ids[0]


def claimed(store: JobStore, config: ServiceConfig, instance: str = INSTANCE) -> Claim | None:
    with store.transaction() as connection:
        show_up(connection, instance, config.service, is_draining=False)
        return claim(connection, instance, config.service, config.budget)


def ended(store: JobStore, config: ServiceConfig, held: Claim, outcome: Outcome) -> bool:
    with store.transaction() as connection:
        return finish(connection, held, outcome, config.service)


def reaped(store: JobStore, config: ServiceConfig) -> int:
    with store.transaction() as connection:
        return reap(connection, config.service)


def row_of(store: JobStore, trigger_id: int) -> Row[Any]:
    with store.reading() as connection:
        query = select(TRIGGERS).where(TRIGGERS.c.trigger_id == trigger_id)
        return connection.execute(query).one()


def change_row(store: JobStore, trigger_id: int, **values: object) -> None:
    with store.transaction() as connection:
        is_row = TRIGGERS.c.trigger_id == trigger_id
        connection.execute(update(TRIGGERS).where(is_row).values(**values))


def change_table(store: JobStore, target: str, **values: object) -> None:
    with store.transaction() as connection:
        is_it = TABLES.c.target == target
        connection.execute(update(TABLES).where(is_it).values(**values))
