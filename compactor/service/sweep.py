"""The reconcile sweep: every table's head is looked at, and what has changed is looked into.

Every source of events loses some. When nothing has changed, a sweep costs a question per catalog
and nothing per table but its place in a list.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import select

from compactor.errors import JobFailedError, SettingsError
from compactor.jobs.store import JobStore
from compactor.service.children import Ask, ask_child
from compactor.service.config import ServiceConfig
from compactor.service.orders import Changed, FindOrder, Found, HeadsOrder, HealthOrder, Looked
from compactor.service.queue import Wanted, enqueue
from compactor.service.registry import Registry, Rules
from compactor.service.schema import TABLES
from compactor.service.tables import note_head, note_look
from compactor.units import format_count, format_duration

SOURCE = "sweep"
# Tables of one process: what it takes to start is a second, what they take little memory.
_HEADS_MAX = 20_000
_LOOKS_MAX = 100
_HEADS_SECONDS_MAX = 900.0
_LOOKS_SECONDS_MAX = 600.0
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class SweepTally:
    """What a sweep has found."""

    tables: int = 0
    changed: int = 0
    troubled: int = 0
    triggered: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return it as people read it."""
        return (
            f"{format_count(self.tables, 'table')} in {format_duration(self.seconds)}:"
            f" {self.changed} changed, {self.triggered} triggered, {self.troubled} in trouble"
        )


@dataclass(frozen=True, slots=True)
class _Swept:
    """What is known of a table before the sweep."""

    table_id: int
    head: str
    trouble: str
    snapshot_id: str
    own_snapshot_id: str
    schedule: str
    health_below: int | None


def cause_of(looked: Looked, known: _Swept) -> str:
    """Return why a changed table is worth a job; empty when it is not.

    A table with a threshold of health waits for that, one with a schedule for that, and any other
    is worth a job when somebody else has changed it.
    """
    if looked.health is None or looked.snapshot_id in ("", known.snapshot_id):
        return ""
    if looked.snapshot_id == known.own_snapshot_id:
        return ""
    if known.health_below is not None:
        score = looked.health.score
        return f"health {score} is below {known.health_below}" * (score < known.health_below)
    return "" if known.schedule else "changed since it was looked at last"


def _swept(row: Any) -> _Swept:
    return _Swept(
        table_id=row.table_id,
        head=row.head,
        trouble=row.trouble,
        snapshot_id=row.snapshot_id,
        own_snapshot_id=row.own_snapshot_id,
        schedule=row.schedule,
        health_below=row.health_below,
    )


class Sweeper:
    """Sweeps the tables of a store, and finds those that fit the patterns of the configuration."""

    def __init__(
        self, store: JobStore, registry: Registry, config: ServiceConfig, *, ask: Ask = ask_child
    ) -> None:
        self._ask = ask
        self._store = store
        self._registry = registry
        self._options = config.service
        self._kept = config.settings.kept

    def sweep(self) -> SweepTally:
        """Look at all tables.

        Raises:
            JobFailedError: the store cannot be read.
        """
        tally, begun_at = SweepTally(), time.monotonic()
        rules = self._registry.rules()
        for batch in self._batches():
            tally.tables += len(batch)
            # What was in trouble is told again in any case.
            heads = tuple((target, "" if k.trouble else k.head) for target, k in batch.items())
            told = self._ask("heads", HeadsOrder(heads), Changed, seconds_max=_HEADS_SECONDS_MAX)
            try:
                self._take_in(batch, told, rules, tally)
            except JobFailedError as error:
                # What was told is kept; the other batches may fare better.
                _LOG.warning("the sweep of %d tables was cut short: %s", len(batch), error)
        tally.seconds = time.monotonic() - begun_at
        return tally

    def discover(self) -> int:
        """Register the tables that fit the patterns of the configuration; return the new ones.

        Raises:
            JobFailedError: the store cannot be read or written, or a child process died.
        """
        if not self._registry.patterns:
            return 0
        order, added = FindOrder(self._registry.patterns), 0
        for found in self._ask("find", order, Found, seconds_max=_HEADS_SECONDS_MAX):
            if found.trouble:
                _LOG.warning("the tables of `%s` cannot be told: %s", found.pattern, found.trouble)
            added += self._registry.register(found.targets)
        return added

    def _batches(self) -> Iterator[Mapping[str, _Swept]]:
        names = ("table_id", "head", "trouble", "snapshot_id", "own_snapshot_id")
        columns = (*(TABLES.c[name] for name in names), TABLES.c.schedule, TABLES.c.health_below)
        last_id = 0
        while True:
            query = select(*columns, TABLES.c.target).where(
                TABLES.c.table_id > last_id, TABLES.c.is_enabled.is_(True)
            )
            query = query.order_by(TABLES.c.table_id).limit(_HEADS_MAX)
            with self._store.reading() as connection:
                rows: Sequence[Any] = connection.execute(query).all()
            if not rows:
                return
            yield {row.target: _swept(row) for row in rows}
            last_id = rows[-1].table_id

    def _take_in(
        self,
        batch: Mapping[str, _Swept],
        told: Iterator[Changed],
        rules: Rules,
        tally: SweepTally,
    ) -> None:
        while some := list(islice(told, _LOOKS_MAX)):
            troubled = [one for one in some if one.trouble]
            changed = {one.target: one for one in some if not one.trouble}
            tally.troubled += len(troubled)
            tally.changed += len(changed)
            new_troubles = [one for one in troubled if batch[one.target].trouble != one.trouble]
            looked = list(self._look(list(changed), rules))
            with self._store.transaction() as connection:
                for one in (*new_troubles, *changed.values()):
                    note_head(connection, one)
                wanted = []
                for look in looked:
                    known = batch[look.target]
                    if cause := cause_of(look, known):
                        wanted.append(Wanted(known.table_id, SOURCE, cause))
                    note_look(connection, look)
                tally.triggered += len(enqueue(connection, wanted, self._options))

    def _look(self, targets: Sequence[str], rules: Rules) -> Iterator[Looked]:
        """Look into tables; one that takes its process down is told of, and the others go on."""
        orders = []
        for target in targets:
            try:
                orders.append((target, rules.policy(target)))
            except SettingsError as error:
                yield Looked(target, trouble=f"{error.code}: {error}")
        while orders:
            answered: set[str] = set()
            try:
                order = HealthOrder(tuple(orders), self._kept)
                for look in self._ask("health", order, Looked, seconds_max=_LOOKS_SECONDS_MAX):
                    answered.add(look.target)
                    yield look
            except JobFailedError as error:
                broken = next((one for one, _ in orders if one not in answered), "")
                if broken:
                    answered.add(broken)
                    yield Looked(broken, trouble=f"it cannot be looked into: {error}")
            orders = [one for one in orders if one[0] not in answered]
