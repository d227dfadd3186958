"""The loops of an instance: due schedules, claims, what died; and apart from them, the sweeps."""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable

from sqlalchemy import Connection, select, update

from compactor.errors import CompactorError
from compactor.jobs.store import JobStore, now_ms
from compactor.service.config import ServiceConfig, ServiceOptions
from compactor.service.due import Schedule
from compactor.service.duties import end_duty, leave, show_up, take_duty
from compactor.service.executor import Executor
from compactor.service.queue import CLAIM_SECONDS, Wanted, enqueue, forget, reap
from compactor.service.registry import Registry
from compactor.service.schema import TABLES
from compactor.service.sweep import Sweeper

SOURCE = "schedule"
TICK_SECONDS = 0.5
# How often others are told that this instance lives, and what died is looked for.
_ROUND_SECONDS = 5.0
# Without a tick for so long, the instance is not ready.
STALE_SECONDS = 30.0
_DUE_MAX = 500
_FORGET_SECONDS = 600.0
_SWEEP_ENDS_SECONDS = 10.0
_LOG = logging.getLogger(__name__)


class Scheduler:
    """Keeps one instance at work, in two threads: one that ticks, one that sweeps."""

    def __init__(
        self, store: JobStore, config: ServiceConfig, registry: Registry, executor: Executor,
        *, instance: str,
    ) -> None:  # fmt: skip
        self._store = store
        self._config = config
        self._executor = executor
        self._instance = instance
        self._sweeper = Sweeper(store, registry, config)
        self._ending = threading.Event()
        self._ticked_at = time.monotonic()
        self._round_at = -_ROUND_SECONDS
        self._reaps_from = 0.0
        self._trouble = ""
        self._threads = [
            threading.Thread(target=self._tick_until_ended, name="scheduler", daemon=True),
            threading.Thread(target=self._sweep_until_ended, name="sweep", daemon=True),
        ]

    @property
    def trouble(self) -> str:
        """What keeps it from working; empty when nothing does."""
        silent_seconds = time.monotonic() - self._ticked_at
        if silent_seconds > STALE_SECONDS:
            return self._trouble or f"the scheduler has not ticked for {silent_seconds:.0f}s"
        return self._trouble

    def start(self) -> None:
        """Adopt what runs already, then begin.

        Raises:
            JobFailedError: the store cannot be read or written.
        """
        adopted = self._executor.adopt()
        if adopted:
            _LOG.info("adopted %d running jobs of instances that are gone", adopted)
        self._make_round()
        for thread in self._threads:
            thread.start()

    def drain(self) -> None:
        """Take no further job, wait for those that run, and take the instance off the list."""
        self._ending.set()
        self._threads[0].join()
        self._attempt(lambda: self._show_up(is_draining=True))
        self._executor.drain(wait_seconds=self._config.service.drain_seconds)
        # It uses the store, which is closed next; one that waits for a storage is not waited for.
        self._threads[1].join(_SWEEP_ENDS_SECONDS)
        self._attempt(self._leave)

    def _tick_until_ended(self) -> None:
        while not self._ending.wait(TICK_SECONDS):
            self._attempt(self._tick)

    def _tick(self) -> None:
        self._executor.watch()
        if time.monotonic() - self._round_at > _ROUND_SECONDS:
            self._make_round()
        with self._store.transaction() as connection:
            begin_due(connection, self._config.service)
        self._executor.fill()
        self._ticked_at = time.monotonic()

    def _make_round(self) -> None:
        self._show_up(is_draining=False)
        if time.monotonic() >= self._reaps_from:
            with self._store.transaction() as connection:
                reap(connection, self._config.service)
        self._round_at = time.monotonic()

    def _show_up(self, *, is_draining: bool) -> None:
        with self._store.transaction() as connection:
            show_up(connection, self._instance, self._config.service, is_draining=is_draining)

    def _leave(self) -> None:
        with self._store.transaction() as connection:
            leave(connection, self._instance)

    def _sweep_until_ended(self) -> None:
        options = self._config.service
        while not self._ending.wait(TICK_SECONDS):
            self._attempt(lambda: self._do("discover", options.discover_seconds, self._discover))
            self._attempt(lambda: self._do("sweep", options.sweep_seconds, self._sweep))
            self._attempt(lambda: self._do("forget", _FORGET_SECONDS, self._forget))

    def _do(self, duty: str, every_seconds: float, work: Callable[[], str]) -> None:
        if self._ending.is_set():
            return
        with self._store.transaction() as connection:
            if not take_duty(connection, duty, self._instance, every_seconds=every_seconds):
                return
        result = "failed"
        try:
            result = work()
        finally:
            with self._store.transaction() as connection:
                end_duty(connection, duty, self._instance, result)

    def _discover(self) -> str:
        return f"{self._sweeper.discover()} new"

    def _sweep(self) -> str:
        tally = self._sweeper.sweep()
        if tally.changed or tally.troubled:
            _LOG.info("swept %s", tally)
        return str(tally)

    def _forget(self) -> str:
        history_seconds = self._config.settings.store.history_seconds
        self._executor.forget_logs(history_seconds)
        with self._store.transaction() as connection:
            return f"{forget(connection, self._config.service, history_seconds)} rows"

    def _attempt(self, work: Callable[[], object]) -> None:
        """Do a piece of work; what goes wrong is told once, and tried again with the next tick."""
        try:
            work()
        except CompactorError as error:
            if str(error) != self._trouble:
                _LOG.warning("%s", error)
            self._trouble = str(error)
            # After a time without the database, jobs that live get the time to say so.
            self._reaps_from = time.monotonic() + CLAIM_SECONDS / 2
        except Exception:  # noqa: BLE001 - the loop must not end for a defect in one piece of it
            _LOG.exception("a defect in the scheduler")
            self._trouble = "a defect in the scheduler, see the log"
        else:
            if threading.current_thread() is self._threads[0]:
                self._trouble = ""


def begin_due(connection: Connection, options: ServiceOptions) -> int:
    """Put the tables whose schedules are due into the queue; return how many.

    A schedule that was due several times while no service ran is due once.
    """
    now = now_ms(connection)
    due = connection.execute(
        select(TABLES)
        .where(TABLES.c.due_at_ms <= now)
        .order_by(TABLES.c.due_at_ms)
        .limit(_DUE_MAX)
        .with_for_update(skip_locked=True)
    ).all()
    wanted = []
    for row in due:
        schedule = Schedule.parse(row.schedule) if row.schedule else None
        table = update(TABLES).where(TABLES.c.table_id == row.table_id)
        following = schedule.after(now) if schedule else None
        connection.execute(table.values(due_at_ms=following))
        if schedule and row.is_enabled and not row.is_missing:
            cause = f"its schedule `{schedule.text}` is due"
            wanted.append(Wanted(row.table_id, SOURCE, cause, is_due=True))
    return len(enqueue(connection, wanted, options))


def new_instance() -> str:
    """Return a name for this instance that no other has."""
    return f"{socket.gethostname()}-{secrets.token_hex(4)}"
