"""The child process of one job: takes up its claim, compacts the table, records how that ended.

Usage: python -m compactor.service.job_process, with the order on stdin

It needs no service while it works: the claim is renewed here, the end is recorded here, and whoever
is gone by then finds it in the store.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from sqlalchemy import select, update

from catalog.errors import CatalogError, ExplainedError
from catalog.open import open_table
from catalog.table import Table
from compactor.connecting import connected
from compactor.errors import JobFailedError
from compactor.garbage import spare_collections
from compactor.jobs.compaction import compact_table
from compactor.jobs.events import Event, JobPlanned, JobStarted
from compactor.jobs.owner import Owner
from compactor.jobs.report import JobReport
from compactor.jobs.retention import forget_old_jobs
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.state import JobState
from compactor.jobs.store import JobDetail, JobStore, now_ms
from compactor.service import traces
from compactor.service.logs import Logs
from compactor.service.looking import look_at
from compactor.service.orders import JobOrder, Looked, decode
from compactor.service.queue import (
    CLAIM_SECONDS,
    RENEWALS_PER_CLAIM,
    ErrorClass,
    Outcome,
    Work,
    finish,
    renew,
    take_up,
)
from compactor.service.schema import TRIGGERS
from compactor.service.secrecy import Blotter, secrets_of_environment, secrets_of_store
from compactor.service.store import open_service_store
from compactor.service.tables import note_look
from runtime.errors import RuntimeFailure

# How soon a request to cancel is seen.
_WATCH_SECONDS = 1.0
# The end of a job is worth waiting for a database that is away.
_FINISH_SECONDS = 600.0
_PAUSE_SECONDS = 2.0
_FATAL = frozenset(
    (
        "table-not-found",
        "access-denied",
        "settings-refused",
        "unsupported-table",
        "location-refused",
        "storage-full",
    )
)
_POISON = frozenset(("corrupt-table", "verification-failed"))
# By its name: the module runs as `__main__`.
_LOG = logging.getLogger("compactor.service.job_process")


class _Watch:
    """Keeps the claim, and stops the job when it is lost, cancelled, or runs for too long."""

    def __init__(self, store: JobStore, order: JobOrder) -> None:
        self.is_cancelled = False
        self.is_out_of_time = False
        self.is_lost = False
        self._store = store
        self._order = order
        self._ends_at = time.monotonic() + order.seconds_max
        self._renewed_at = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_WATCH_SECONDS):
            try:
                self._look()
            except JobFailedError as error:
                # The claim ends by itself if this goes on.
                _LOG.warning("the claim could not be renewed: %s", error)
            if self.is_lost or self.is_cancelled or self.is_out_of_time:
                os.kill(os.getpid(), signal.SIGINT)
                return

    def _look(self) -> None:
        now = time.monotonic()
        self.is_out_of_time = now > self._ends_at
        if now - self._renewed_at > CLAIM_SECONDS / RENEWALS_PER_CLAIM:
            with self._store.transaction() as connection:
                self.is_lost = not renew(connection, self._order.claim)
            self._renewed_at = now
        is_row = TRIGGERS.c.trigger_id == self._order.claim.trigger_id
        with self._store.reading() as connection:
            asked = connection.execute(select(TRIGGERS.c.cancel_asked_ms).where(is_row)).scalar()
        self.is_cancelled = asked is not None


def run_order(order: JobOrder, store: JobStore, *, on_job: Callable[[str], None]) -> Outcome | None:
    """Run an order under its claim and record how it ended; None when the claim was lost.

    Args:
        order: the order.
        store: where it is recorded.
        on_job: told the id of the job that it becomes.
    """
    with store.transaction() as connection:
        if not take_up(connection, order.claim, Owner.current()):
            return None
    looked: list[Looked] = []
    outcome, watch = Outcome("cancelled", reason="interrupted"), _Watch(store, order)
    # The watch may ask it to stop just when it has ended.
    with suppress(KeyboardInterrupt), watch:
        outcome = _outcome(order, store, looked.append, on_job)
    if watch.is_out_of_time and outcome.status == JobState.CANCELLED:
        reason = f"stopped after {order.seconds_max:.0f}s, the most that a job may take"
        outcome = replace(outcome, reason=reason, error_class=ErrorClass.RETRYABLE, status="failed")
    elif outcome.status == JobState.CANCELLED and not watch.is_cancelled:
        outcome = replace(outcome, is_interrupted=True)
    _record(order, store, outcome, looked)
    return outcome


def _outcome(
    order: JobOrder,
    store: JobStore,
    on_look: Callable[[Looked], None],
    on_job: Callable[[str], None],
) -> Outcome:
    try:
        table = open_table(order.claim.target, kept=order.kept)
        with connected(order.runtime) as runtime:
            environment = JobEnvironment(runtime, store, _noting(order, store, on_job))
            report = compact_table(table, order.policy, environment=environment, options=order.run)
        _look_again(table, order, on_look)
        return with_memory(outcome_of(report), store)
    except KeyboardInterrupt:
        return Outcome("cancelled", reason="interrupted")
    except (ExplainedError, RuntimeFailure) as error:
        _LOG.warning("the job failed", exc_info=error)
        return Outcome("failed", class_of(error), f"{error.code}: {error}")
    except Exception as error:  # noqa: BLE001 - whatever it is, the queue must know of it
        _LOG.exception("the job failed by a defect")
        return Outcome("failed", ErrorClass.RETRYABLE, f"{type(error).__name__}: {error}")


def _look_again(table: Table, order: JobOrder, on_look: Callable[[Looked], None]) -> None:
    """Look at the health that the job has left; without it the next sweep does."""
    try:
        on_look(look_at(table, order.policy, target=order.claim.target))
    except CatalogError as error:
        _LOG.warning("the table was not looked at after its job: %s", error)


def _noting(
    order: JobOrder, store: JobStore, on_job: Callable[[str], None]
) -> Callable[[Event], None]:
    """Return a callback that tells the queue which job the row has become."""

    def note(event: Event) -> None:
        if isinstance(event, JobStarted):
            on_job(event.job)
        if not isinstance(event, JobPlanned):  # it holds every file
            _LOG.info("%s", event)
        if not isinstance(event, JobStarted):
            return
        is_row = TRIGGERS.c.trigger_id == order.claim.trigger_id
        with store.transaction() as connection:
            row = update(TRIGGERS).where(is_row, TRIGGERS.c.fence == order.claim.fence)
            connection.execute(row.values(job_id=event.job))

    return note


def outcome_of(report: JobReport) -> Outcome:
    """Return what a report means for the queue."""
    has_committed = report.groups.committed > 0
    outcome = Outcome(
        status=str(report.status),
        reason=report.reason,
        job_id=report.job,
        snapshot_id=report.snapshot_after if has_committed else "",
        bytes_moved=report.bytes_read + report.bytes_written,
        cpu_seconds=report.cpu_seconds,
        work=Work(
            bytes_read=report.bytes_read,
            bytes_written=report.bytes_written,
            bytes_copied=report.bytes_spliced,
            files_removed=max(0, report.files_before - report.files_after) * has_committed,
            groups_committed=report.groups.committed,
            groups_dropped=report.groups.dropped,
            groups_failed=report.groups.failed,
        ),
    )
    if report.status is JobState.SUCCEEDED and not has_committed:
        return replace(outcome, status="skipped", reason=report.reason or "nothing to rewrite")
    if report.status in (JobState.PARTIAL, JobState.FAILED):
        is_conflict = bool(report.problems) and all(one.is_conflict for one in report.problems)
        kind = ErrorClass.CONFLICT if is_conflict else ErrorClass.RETRYABLE
        reason = report.reason or "; ".join(one.reason for one in report.problems[:3])
        return replace(outcome, error_class=kind, reason=reason)
    return outcome


def with_memory(outcome: Outcome, store: JobStore) -> Outcome:
    """Add what attempts were granted and took; without a database that is left out."""
    detail = None
    with suppress(JobFailedError):
        detail = store.job(outcome.job_id) if outcome.job_id else None
    known = [one for one in detail.attempts if one.peak_memory_bytes] if detail else []
    work = replace(
        outcome.work,
        granted_bytes=sum(one.granted_bytes for one in known if one.granted_bytes),
        taken_bytes=sum(one.peak_memory_bytes for one in known if one.granted_bytes),
    )
    return replace(outcome, work=work)


def class_of(error: ExplainedError | RuntimeFailure) -> ErrorClass:
    """Return what an error means for the next try."""
    told = error.__cause__ if isinstance(error, RuntimeFailure) and error.__cause__ else error
    code = getattr(told, "code", error.code)
    if code in _FATAL:
        return ErrorClass.FATAL
    if code in _POISON:
        return ErrorClass.POISON
    return ErrorClass.CONFLICT if code == "commit-conflict" else ErrorClass.RETRYABLE


def _record(order: JobOrder, store: JobStore, outcome: Outcome, looked: list[Looked]) -> None:
    """Record the end; a database that is away is waited for."""
    gives_up_at = time.monotonic() + _FINISH_SECONDS
    while True:
        try:
            with store.transaction() as connection:
                if finish(connection, order.claim, outcome, order.options):
                    for look in looked:
                        note_look(connection, look)
            forget_old_jobs(store, order.store.history_seconds)
            return
        except JobFailedError:
            if time.monotonic() > gives_up_at:
                raise
        time.sleep(_PAUSE_SECONDS)


def main() -> None:
    """Run the order on stdin."""
    spare_collections()
    # Before and after the rewriting, too, termination is an interrupt and no sudden death.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    order = decode(sys.stdin.buffer.read(), JobOrder)
    secrets = (*secrets_of_environment(os.environ), *secrets_of_store(order.store.url))
    blotter = Blotter(secrets)
    logs = Logs(sys.stderr, blotter)
    logs.about |= {"table": order.claim.target, "trigger": order.claim.trigger_id}
    logs.about["attempt"] = order.claim.attempt
    logs.begin(level=logging.INFO, others_level=logging.WARNING)

    def on_job(job: str) -> None:
        logs.about["job"] = job

    with open_service_store(order.store.url) as store:
        began_ms = _moment(store)
        outcome = run_order(order, store, on_job=on_job)
        _LOG.info("%s", outcome or "another process has taken the row: nothing was done")
        if outcome is not None and traces.is_wanted(os.environ):
            tried = traces.Try(order.claim, began_ms, _moment(store), outcome)
            traces.export(tried, _detail(store, order), shown=blotter.text)


def _moment(store: JobStore) -> int:
    with store.reading() as connection:
        return now_ms(connection)


def _detail(store: JobStore, order: JobOrder) -> JobDetail | None:
    """Return the job that a row has become."""
    is_row = TRIGGERS.c.trigger_id == order.claim.trigger_id
    with store.reading() as connection:
        job: str = connection.execute(select(TRIGGERS.c.job_id).where(is_row)).scalar_one()
    return store.job(job) if job else None


if __name__ == "__main__":
    main()
